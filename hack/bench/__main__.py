"""`hack/bench/run`: all benchmarks, as a table and, with --json FILE, as JSON."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import click

from driver.model.errors import DriverError
from hack.bench import allocator, cel, controller, daemons, decisions, nodes, partitions, reviews, vendors
from hack.bench.figures import Report
from hack.bench.site import make_options

SUITES = ("decisions", "vendors", "daemons", "nodes", "partitions", "cel", "allocator", "controller", "reviews")


@click.command()
@click.option("--suite", "suites", multiple=True, type=click.Choice(SUITES), help="Only these; none: all.")
@click.option("--count", default=300, show_default=True, help="Samples of each figure.")
@click.option("--cycles", default=10_000, show_default=True, help="Prepare/unprepare cycles for the memory figure.")
@click.option("--kubeconfig", default="", help="Run against this API server instead of the embedded one.")
@click.option("--node", default="bench-node", show_default=True, help="Name of an existing Node of that cluster.")
@click.option("--driver", default="gpu.accel-dra.dev", show_default=True, help="DRA driver name.")
@click.option("--nodes", "cluster", default=1000, show_default=True, help="Nodes of the controller's cluster.")
@click.option("--socket", default="", help="Measure the plugin that already serves here (any DRA driver).")
@click.option("--json", "json_file", default="", help="Write the figures to this file, too.")
def main(  # noqa: PLR0913, PLR0917 - one parameter an option
    suites: tuple[str, ...],
    count: int,
    cycles: int,
    kubeconfig: str,
    node: str,
    driver: str,
    cluster: int,
    socket: str,
    json_file: str,
) -> None:
    """Measure the driver. Figures are for comparison on one machine; quote medians and ratios."""
    report = Report()
    options = make_options(kubeconfig, node, driver, socket)
    try:
        measures: dict[str, Callable[[], None]] = {
            "decisions": lambda: decisions.measure(report, min(count, 50)),
            "vendors": lambda: vendors.measure(report, min(count, 50)),
            "daemons": lambda: daemons.measure(report, min(count, 30)),
            "cel": lambda: cel.measure(report, min(count, 20)),
            "nodes": lambda: nodes.measure(report, options, count, cycles),
            "partitions": lambda: partitions.measure(report, options, count, cycles),
            "allocator": lambda: allocator.measure(report, count),
            "controller": lambda: controller.measure(report, cluster, count),
            "reviews": lambda: reviews.measure(report, count),
        }
        for suite, measure in measures.items():
            if suite in (suites or SUITES):
                measure()
    except DriverError as error:
        raise click.ClickException(str(error)) from error
    finally:
        shutil.rmtree(options.folder, ignore_errors=True)
    click.echo(report.table())
    if json_file:
        Path(json_file).write_text(report.json() + "\n")


if __name__ == "__main__":
    main()
