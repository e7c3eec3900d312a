"""The group of commands. Each is imported only when it is called, so that the plugin starts fast and stays small."""

from __future__ import annotations

import importlib
import io
import logging
import os
import sys
import threading
from typing import Final

import click

from driver import __version__
from driver.model.errors import DriverError, InvalidInput

COMMANDS: Final = {
    "plugin": "Run the node plugin: publish this node's devices and prepare them for containers.",
    "controller": "Run the controller: allocate claims that ask for it, and say why claims wait.",
    "webhook": "Run the admission webhook: refuse wrong configuration before it reaches a node.",
    "inventory": "Show the accelerators of this machine, as they are published, and their links.",
    "doctor": "Check everything the plugin needs on this node and in the cluster.",
    "explain": "Say what a claim or pod has, would get, or waits for, and why.",
    "lint": "Check claims, templates and classes of files, without a cluster.",
    "demo": "Run the driver's main job on a cluster on this machine.",
}

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130


class Commands(click.Group):
    """Finds `driver.cli.<name>` when `<name>` is called; listing the commands imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which a newcomer needs them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command and return its `command`."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"driver.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="accel-dra")
def cli() -> None:
    """One vocabulary for accelerators on Kubernetes: a DRA resource driver.

    Exit codes: 0 it worked; 1 it failed (the message says why); 2 the arguments are wrong; 130 interrupted.
    """


def main() -> None:
    """Run the command line. The only place that ends the process."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without box characters gets question marks, no traceback
    code = _run()
    logging.shutdown()
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        # A call into a driver that hangs must not keep a process that has said goodbye.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _run() -> int:
    """Run the command that was asked for and return the exit code."""
    try:
        return cli.main(standalone_mode=False) or 0
    except click.exceptions.Abort:
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except InvalidInput as error:
        click.echo(f"accel-dra: {error}", err=True)
        return EXIT_USAGE
    except (DriverError, OSError) as error:
        click.echo(f"accel-dra: {error}", err=True)
        return EXIT_FAILED
