"""The embedded API server as a process of its own: `python -m driver.simulation.apiserver`.

For benchmarks, which must not share an interpreter with what they measure, and for trying kubectl by hand. Prints its
URL, runs until SIGTERM or Ctrl-C and forgets everything.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from driver import signals
from driver.simulation.apiserver.gates import gates_of
from driver.simulation.apiserver.requests import User
from driver.simulation.apiserver.server import ApiServer

_TOKEN_USER = User("admin", groups=("system:masters",))


@click.command()
@click.option("--port", default=0, show_default="a free one", help="Port on 127.0.0.1.")
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Write a kubeconfig for the server to this file.")
@click.option("--minor", default=36, show_default=True, help="Pretend to be Kubernetes 1.MINOR (34 to 37).")
@click.option("--token", default="", help="Switch authorization on; this token is the admin's.")
def main(port: int, kubeconfig: Path | None, minor: int, token: str) -> None:
    """Serve a Kubernetes API for demos, tests and benchmarks on the loopback interface."""
    try:
        gates = gates_of(minor)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--minor") from None
    tokens = {token: _TOKEN_USER} if token else {}
    server = ApiServer(port=port, gates=gates, authorize=bool(token), tokens=tokens)
    with signals.listen() as ended, server:
        if kubeconfig is not None:
            server.kubeconfig(kubeconfig, token=token)
        click.echo(server.url)
        sys.stdout.flush()
        ended.wait()


if __name__ == "__main__":
    main()
