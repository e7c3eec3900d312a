"""A cluster of thousands of nodes in a process of its own: resident memory, time to build, time of a choice.

Called by `allocator`; prints name, unit, value and promise of each figure.
"""

from __future__ import annotations

import gc
import os
import sys
from time import perf_counter

from driver.core.allocator.cluster import Cluster, Wish
from driver.model.policies import Policy
from hack.bench import clusters
from hack.bench.figures import resident_mebibytes

SHAPES = 8


def main(nodes: int) -> None:
    """Build, choose, and say what it took."""
    original = clusters.load("whole-gpu-100")
    before = resident_mebibytes(os.getpid())
    views, slices = clusters.grow(original, nodes)
    decoded = tuple(slices)
    gc.collect()
    _print("slices alone", "MiB", resident_mebibytes(os.getpid()) - before, nodes)
    start = perf_counter()
    index = Cluster(original.classes)
    index.put_slices(decoded)
    for view in views:
        index.put_node(view)
    _print("time to build the index", "s", perf_counter() - start, nodes)
    claims = original.make_claims(1000)
    times = []
    for claim in claims:
        start = perf_counter()
        choice = index.choose(Wish((claim,), (Policy(),)))
        if choice is None:
            raise RuntimeError("a claim does not fit into an empty cluster")
        index.take(claim, choice.allocated.allocations[0])
        times.append(perf_counter() - start)
    _print("first claim of a shape", "s", times[0], nodes)
    _print("later claims", "ms", sum(times[1:]) / len(times[1:]) * 1000, nodes)
    _print("resident memory", "MiB", resident_mebibytes(os.getpid()), nodes, "<= 1024")


def _print(name: str, unit: str, value: float, nodes: int, promise: str = "") -> None:
    print(f"{nodes} nodes, {name}", unit, value, promise, sep="\t")


if __name__ == "__main__":
    main(int(sys.argv[1]))
