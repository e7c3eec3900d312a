"""Benchmarks of the allocator: claims a second, growth with the cluster, memory, explaining.

The figures to compare with are those of Kubernetes' own allocator (Go) on the same inputs; they were measured on two
shared cores of another machine. `machine score` says how fast this one is: see `measure_machine`.
"""

from __future__ import annotations

import gc
import subprocess
import sys
from time import perf_counter
from typing import Final

import msgspec

from driver.core.allocator import Allocated, Cluster, Snapshot, Wish, allocate, explain
from driver.core.allocator.requests import make_shape
from driver.model.claims import ClaimStatus
from driver.model.policies import Policy
from hack.bench import clusters
from hack.bench.figures import Report

RUNS: Final = 3
CLUSTER_LIMITS: Final = {"whole-gpu-100": 800, "whole-gpu-1000": 1000, "mig-1g-100": 100, "mig-mixed-100": 100}
"""Claims of a run, as recorded; a MIG cluster is filled, too."""
UPSTREAM_SCAN: Final = {"whole-gpu-100": 969, "whole-gpu-1000": 593, "mig-1g-100": 31}
UPSTREAM_ONE: Final = {"whole-gpu-100": 5836, "mig-1g-100": 540, "mig-mixed-100": 322}
MANY_NODES: Final = 10_000
MANY: Final = 100
"""Samples from which on everything is measured in full."""


def measure(report: Report, count: int) -> None:
    """Measure everything; fewer than 100 samples mean fewer claims and a smaller cluster, too."""
    runs = RUNS if count >= MANY else 1
    report.add("machine score", "1/s", [measure_machine() for _ in range(runs)], "for comparison")
    for name in clusters.FILES:
        cluster = clusters.load(name)
        limit, upstream = min(CLUSTER_LIMITS[name], count * 10), UPSTREAM_SCAN.get(name, 0)
        report.add(f"best-fit, {name}, {limit} claims", "1/s", _repeat_best(cluster, limit, runs), _promise(upstream))
        if name.startswith("mig"):
            report.add(
                f"best-fit, {name}, until full", "1/s", _repeat_best(cluster, count * 100, runs), _promise(upstream)
            )
        if name in UPSTREAM_ONE:
            promise = f">= {UPSTREAM_ONE[name]}"
            report.add(f"first-fit, one node of {name}", "1/s", [_fill_first(cluster) for _ in range(runs)], promise)
    full = clusters.load("whole-gpu-1000" if count >= MANY else "whole-gpu-100")
    report.add(f"explain a claim, {len(full.nodes)} full nodes", "s", [_explain(full) for _ in range(runs)], "<= 1")
    _measure_memory(report, min(MANY_NODES, count * 100))


def _promise(upstream: int) -> str:
    return f">= {upstream}, aim {10 * upstream}" if upstream else ""


def measure_machine() -> float:
    """Return loops a second of plain arithmetic in one thread of this interpreter, in thousands.

    Divide figures of two machines by it to compare them.
    """
    start = perf_counter()
    total = 0
    for number in range(2_000_000):
        total += number & 7
    return 2_000 / (perf_counter() - start)


def _repeat_best(cluster: clusters.Cluster, limit: int, runs: int) -> list[float]:
    return [_fill_best(cluster, limit) for _ in range(runs)]


def _fill_best(cluster: clusters.Cluster, limit: int) -> float:
    """Return claims a second; the index is built before, selectors are evaluated within."""
    index = build(cluster)
    claims = cluster.make_claims(min(limit, 8 * 7 * len(cluster.nodes)))
    policy = (Policy(),)
    gc.collect()
    start = perf_counter()
    placed = 0
    for claim in claims:
        choice = index.choose(Wish((claim,), policy))
        if choice is None:
            continue
        index.take(claim, choice.allocated.allocations[0])
        placed += 1
    return placed / (perf_counter() - start)


def build(cluster: clusters.Cluster) -> Cluster:
    """Return the index of a cluster, with compiled slices and nothing known about claims."""
    make_shape.cache_clear()
    index = Cluster(cluster.classes)
    index.put_slices(cluster.slices)
    for node in cluster.nodes:
        index.put_node(node)
    return index


def _fill_first(cluster: clusters.Cluster) -> float:
    node = cluster.nodes[0]
    snapshot = Snapshot(cluster.slices_of(node.name), cluster.classes)
    claims = cluster.make_claims(8 * 7 + 8)
    start = perf_counter()
    placed = 0
    for claim in claims:
        outcome = allocate(snapshot, node, [claim])
        if not isinstance(outcome, Allocated):
            break
        status = ClaimStatus(allocation=outcome.allocations[0])
        snapshot = snapshot.with_claims(msgspec.structs.replace(claim, status=status))
        placed += 1
    return placed / (perf_counter() - start)


def _explain(cluster: clusters.Cluster) -> float:
    """Return how long it takes to say why a claim fits on no node, because every device is held."""
    index = build(cluster)
    for claim in cluster.make_claims(8 * len(cluster.nodes)):
        choice = index.choose(Wish((claim,), (Policy(),)))
        if choice is not None:
            index.take(claim, choice.allocated.allocations[0])
    snapshot = index.take_snapshot()
    (claim,) = cluster.make_claims(1)
    start = perf_counter()
    if not explain(snapshot, cluster.nodes, [claim]).text:
        raise RuntimeError("a full cluster has a place for a claim")
    return perf_counter() - start


def _measure_memory(report: Report, nodes: int) -> None:
    """Measure a large cluster in a process of its own."""
    command = [sys.executable, "-m", "hack.bench.large", str(nodes)]
    for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines():
        name, unit, value, promise = line.split("\t")
        report.add(name, unit, [float(value)], promise)
