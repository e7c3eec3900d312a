"""`accel-dra plugin`: the process of the DaemonSet. Turns settings into a running plugin and signals into its end."""

from __future__ import annotations

import click

from driver import signals
from driver.cli.options import settings_options
from driver.model.errors import InvalidInput
from driver.node.app import Plugin
from driver.settings import Settings
from driver.telemetry import logs


@click.command("plugin")
@settings_options()
def command(settings: Settings) -> None:
    """Run the node plugin: publish this node's devices and prepare them for containers.

    Runs until SIGTERM or SIGINT. Exit codes: 0 ended on request; 1 could not start (the message says why);
    2 a setting is wrong. Every option can also be given as the environment variable named beside it.
    """
    if not settings.node_name:
        raise InvalidInput("node-name", settings.node_name, "the name of this machine's Node object")
    logs.configure(settings.log_format, settings.log_level)
    with signals.listen() as ended, Plugin(settings, ended):
        ended.wait()
