"""`accel-dra webhook`: the admission webhook. Turns settings into a server and signals into its end."""

from __future__ import annotations

import click

from driver import signals
from driver.cli.options import options_of
from driver.telemetry import logs
from driver.webhook import settings as settings_module
from driver.webhook.app import Webhook
from driver.webhook.settings import WebhookSettings


@click.command("webhook")
@options_of(WebhookSettings, settings_module.check)
def command(settings: WebhookSettings) -> None:
    """Run the admission webhook: refuse claims, templates and classes with wrong configuration of ours.

    Runs until SIGTERM or SIGINT; several may run. Exit codes: 0 ended on request; 1 could not start (the message says
    why); 2 a setting is wrong. Every option can also be given as the environment variable named beside it.
    """
    logs.configure(settings.log_format, settings.log_level)
    with signals.listen() as ended, Webhook(settings):
        ended.wait()
