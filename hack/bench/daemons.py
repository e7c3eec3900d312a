"""Benchmarks of daemons: a claim for simulated MPS with its control daemon, and what many daemons cost the plugin."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Final

from driver.contract import Target
from driver.daemons.supervisor import Supervisor
from driver.model.prepared import Step
from driver.model.sharing import Sharing, Strategy
from driver.vendors.simulated.vendor import Simulated
from hack.bench.figures import Report, resident_mebibytes
from tests.vendors.machines import make_roots

MANY: Final = 56
"""MIG devices of a node with eight H100."""
_IDLE_SECONDS: Final = 4.0
_LIMITS: Final = Sharing(Strategy.MPS, active_thread_percentage=40, pinned_memory_bytes=2 << 30)


def measure(report: Report, count: int) -> None:
    """Measure one daemon at a time, then many at once."""
    with tempfile.TemporaryDirectory(prefix="accel-dra-bench-") as folder:
        roots = make_roots(Path(folder))
        supervisor = Supervisor(Path(roots.state_root, "daemons"), lambda _: None)
        try:
            vendor = Simulated(roots, {"node": "l40s"}, supervisor)
            _measure_one(report, vendor, count)
            _measure_many(report, vendor, min(MANY, count * 8))
        finally:
            supervisor.close()


def _aim(vendor: Simulated, claim: str) -> Target:
    gpu = vendor.snapshot().accelerators[0]
    return Target("gpu-0", gpu, None, admin_access=False, share_id=None, claim=claim, sharing=_LIMITS)


def _prepare(vendor: Simulated, target: Target) -> list[Step]:
    done: list[Step] = []
    for step in vendor.plan([target]):
        done.append(vendor.run(step, tuple(done)))
    return done


def _undo(vendor: Simulated, steps: list[Step]) -> None:
    for step in reversed(steps):
        vendor.undo(step)


def _measure_one(report: Report, vendor: Simulated, count: int) -> None:
    target = _aim(vendor, "c1")
    up, down = [], []
    for _ in range(count):
        begun = time.perf_counter()
        steps = _prepare(vendor, target)
        ready = time.perf_counter()
        _undo(vendor, steps)
        up.append((ready - begun) * 1000)
        down.append((time.perf_counter() - ready) * 1000)
    report.add("MPS daemon with limits, steps of one claim", "ms", up)
    report.add("the same undone", "ms", down)


def _measure_many(report: Report, vendor: Simulated, many: int) -> None:
    before = resident_mebibytes(os.getpid())
    kept = [_prepare(vendor, _aim(vendor, f"c{number}")) for number in range(many)]
    report.add(f"memory for {many} daemons, of the plugin", "MiB", [resident_mebibytes(os.getpid()) - before])
    begun = time.process_time()
    time.sleep(_IDLE_SECONDS)
    share = (time.process_time() - begun) / _IDLE_SECONDS * 100
    report.add(f"watching {many} daemons, of a core", "percent", [share])
    for steps in kept:
        _undo(vendor, steps)
