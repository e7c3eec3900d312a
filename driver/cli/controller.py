"""`accel-dra controller`: the process of the Deployment. Turns settings into a controller and signals into its end."""

from __future__ import annotations

import click

from driver import signals
from driver.cli.options import options_of
from driver.controller import settings as settings_module
from driver.controller.app import Controller
from driver.controller.settings import ControllerSettings
from driver.telemetry import logs


@click.command("controller")
@options_of(ControllerSettings, settings_module.check)
def command(settings: ControllerSettings) -> None:
    """Run the controller: allocate claims that ask for it, and say why claims wait.

    Runs until SIGTERM or SIGINT; several may run, one leads. Exit codes: 0 ended on request; 1 could not start (the
    message says why); 2 a setting is wrong. Every option can also be given as the environment variable named beside it.
    """
    logs.configure(settings.log_format, settings.log_level)
    with signals.listen() as ended, Controller(settings):
        ended.wait()
