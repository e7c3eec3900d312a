"""What happens in `accel-dra demo`: start a cluster, run examples one by one, tell, perhaps keep it running.

Called by `demo`. Promises that no thread, process or file of the cluster is left when it returns or is interrupted.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console

from driver import vendors
from driver.cli import demo_text
from driver.model.errors import DriverError, InvalidInput
from driver.signals import Allow
from driver.simulation import manifests, sites, workloads
from driver.simulation.cluster import Cluster, ClusterOptions
from driver.simulation.nodes import NodeSpec
from driver.simulation.reports import Report

SELECTION: Final = (
    "single-gpu",
    "nvlink-pair",
    "partition",
    "mig-by-profile",
    "mig-by-memory",
    "mixed-pod",
    "time-slicing",
    "mps-limits",
    "shares",
    "first-available",
    "two-requests",
    "extended-resource",
    "topology-pair",
    "gpu-with-nic",
    "node-group",
    "unsatisfiable",
)
NAMESPACE: Final = "demo"
STARTING: Final = "Starting the nodes, each with a kubelet and the real node plugin, and the controller…"
PIPE_WIDTH: Final = 110
SECONDS_BEFORE_PROGRESS: Final = 1.0


def run(examples: Sequence[str], vendor: str, port: int, allow: Allow, *, serve: bool) -> bool:
    """Run the demo; return whether every workload behaved as promised. Raises `DriverError`.

    `allow` makes blocks that may be interrupted: all but starting and clearing away the cluster.
    """
    folders = _find(examples or SELECTION)
    if vendor not in vendors.names():
        raise InvalidInput("vendor", vendor, " or ".join(vendors.names()))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PIPE_WIDTH)
    started = time.monotonic()
    with _start(sites.list_nodes(vendor), port) as cluster, allow():
        _wait_ready(cluster)
        demo_text.show_nodes(console, {name: cluster.slices(name) for name in cluster.nodes})
        reports = [_run_example(console, cluster, folder) for folder in folders]
        demo_text.show_summary(console, reports, time.monotonic() - started)
        if serve:
            _serve(console, cluster, reports)
    return not any(report.problem for report in reports)


def _find(names: Sequence[str]) -> list[Path]:
    known = {path.name: path for path in manifests.examples()}
    for name in names:
        if name not in known:
            raise InvalidInput("EXAMPLE", name, ", ".join(known))
    return [known[name] for name in names]


@contextlib.contextmanager
def _start(specs: Sequence[NodeSpec], port: int) -> Iterator[Cluster]:
    cluster = Cluster(specs, ClusterOptions(port=port, controllers=1))
    try:
        with _progress(STARTING):
            _open(cluster, port)
        yield cluster
    finally:
        cluster.stop()


def _open(cluster: Cluster, port: int) -> None:
    try:
        cluster.start()
    except OSError as error:
        raise DriverError(f"the API server cannot listen on port {port}: {error.strerror or error}") from error


def _wait_ready(cluster: Cluster) -> None:
    with _progress(STARTING):
        cluster.wait_ready()
        cluster.create_namespace(NAMESPACE)


def _run_example(console: Console, cluster: Cluster, folder: Path) -> Report:
    with _progress(f"Running {folder.name}…"):
        report = workloads.run(cluster, folder, NAMESPACE)
    demo_text.show_report(console, report)
    return report


def _serve(console: Console, cluster: Cluster, reports: Sequence[Report]) -> None:
    demo_text.show_access(console, cluster.kubeconfig, manifests.find("examples"), NAMESPACE, reports)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


@contextlib.contextmanager
def _progress(text: str) -> Iterator[None]:
    """Say what is being done once it takes longer than a second, if a person is watching."""
    console = Console(stderr=True)
    status = console.status(text)
    timer = threading.Timer(SECONDS_BEFORE_PROGRESS, status.start)
    if console.is_terminal:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if console.is_terminal:
            timer.join()
            status.stop()
