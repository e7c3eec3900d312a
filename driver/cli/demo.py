"""`accel-dra demo`: the driver's main job on a cluster on this machine, with no GPU and no Kubernetes around.

Arguments in, exit code out; what happens is in `demo_flow`, which is imported only here and only when the packages of
the extra `demo` are there.
"""

from __future__ import annotations

import importlib

import click

from driver import signals
from driver.model.errors import DriverError


@click.command()
@click.argument("examples", nargs=-1, metavar="[EXAMPLE]...")
@click.option("--serve", is_flag=True, help="Keep the cluster running for kubectl until Ctrl-C.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of the API server; 0 takes a free one.")
@click.option("--vendor", default="simulated", show_default=True, help="Vendor folder whose plugin runs on the nodes.")
def command(examples: tuple[str, ...], vendor: str, port: int, serve: bool) -> int:  # noqa: FBT001 - click passes flags
    """Run example workloads on a cluster in this process and show what each of them got and why.

    API server, scheduler, kubelets and container runtimes are simulated; the controller and the node plugins are
    the real ones. EXAMPLE is a folder of deploy/examples; without any, a selection runs.

    Exit codes: 0 every workload behaved as promised; 1 one did not, or the cluster could not start; 2 the arguments are
    wrong; 130 interrupted.
    """
    try:
        flow = importlib.import_module("driver.cli.demo_flow")
    except ModuleNotFoundError as error:
        if str(error.name).startswith("driver"):
            raise
        raise DriverError(
            f"the demo needs {error.name}, which is not installed: pip install 'accel-dra[demo]'"
        ) from error
    with signals.interrupt() as allow:
        succeeded: bool = flow.run(examples, vendor, port, allow, serve=serve)
    return 0 if succeeded else 1
