"""Benchmarks of vendors: one look at 8 GPUs with 56 MIG instances, its fingerprint, and the edits for one claim.

NVIDIA's is driven through the real bindings over the tests' fake NVML, so the figure is what the driver itself costs;
the time of the real library comes on top.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from driver.contract import Target, Vendor
from driver.core import inventory
from hack.bench.figures import Report, time_calls
from tests.vendors.nvidia.machine import Rig

NODE = "hgx-h100-mig"


def measure(report: Report, count: int) -> None:
    """Measure the NVIDIA vendor on whole GPUs and on MIG instances."""
    for node in ("hgx-h100", NODE):
        with tempfile.TemporaryDirectory(prefix="accel-dra-bench-") as folder:
            _measure_vendor(report, node, Rig(Path(folder), node).create(), count)


def _measure_vendor(report: Report, node: str, vendor: Vendor, count: int) -> None:
    entries = inventory.build(vendor.snapshot()).entries
    what = f"nvidia, {node} ({len(entries)} devices)"
    report.add(f"snapshot, {what}", "ms", time_calls(vendor.snapshot, count))
    report.add(f"fingerprint, {what}", "ms", time_calls(vendor.fingerprint, count))
    first = entries[0]
    target = Target(first.name, first.accelerator, first.partition, admin_access=False, share_id=None)
    report.add(f"edits of one device, {what}", "ms", time_calls(lambda: vendor.prepare([target]), count))
