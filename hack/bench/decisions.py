"""Benchmarks of decisions: from hardware facts to inventory to slices, without disk or network."""

from __future__ import annotations

import dataclasses

from driver import vendors
from driver.core import inventory, slicing
from driver.core.offering import Mode, Offer
from driver.model.devices import Accelerator, Inventory, Partition, Snapshot
from driver.model.objects import ObjectMeta
from driver.model.slices import ResourceSlice
from driver.settings import Settings
from hack.bench.figures import Report, time_calls

SIZES = (1, 8, 16, 64)
PARTITIONS = 7
_DYNAMIC = ("hgx-h100", "hgx-h100-16")


def measure(report: Report, count: int) -> None:
    """Measure layout and plan for 1 to 64 GPUs, for each cut into seven, and for all partitions that could be made."""
    for gpus in SIZES:
        for partitions in (0, PARTITIONS):
            what = f"{gpus} GPUs" + (f" x {partitions} partitions" if partitions else "")
            _measure_node(report, what, make_snapshot(gpus, partitions), Offer(), count)
    for node in _DYNAMIC:
        snapshot = vendors.load("simulated", Settings().roots, {"node": node}).snapshot()
        _measure_node(report, f"{node}, all that could be made", snapshot, Offer(Mode.DYNAMIC), count)


def _measure_node(report: Report, what: str, snapshot: Snapshot, offer: Offer, count: int) -> None:
    report.add(f"inventory, {what}", "ms", time_calls(lambda: inventory.build(snapshot, None, offer), count))
    found = inventory.build(snapshot, None, offer)
    identity = slicing.Identity("gpu.accel-dra.dev", "node-1", "uid-1", "node-1", {})
    report.add(f"slices, first plan, {what}", "ms", time_calls(lambda: _plan(identity, found, ()), count))
    published = tuple(store(wanted, index) for index, wanted in enumerate(_plan(identity, found, ()).create))
    report.add(f"slices, nothing changed, {what}", "ms", time_calls(lambda: _plan(identity, found, published), count))


def _plan(identity: slicing.Identity, found: Inventory, published: tuple[ResourceSlice, ...]) -> slicing.SlicePlan:
    devices = [entry.device for entry in found.entries]
    return slicing.plan(identity, slicing.layout(devices, found.counter_sets).contents, published)


def store(wanted: ResourceSlice, index: int) -> ResourceSlice:
    """Return the slice as a server would have stored it."""
    meta = wanted.metadata
    stored = ObjectMeta(
        name=f"{meta.generate_name}abcde",
        uid=f"uid-{index}",
        resource_version=str(index + 1),
        annotations=meta.annotations,
        owner_references=meta.owner_references,
    )
    return ResourceSlice(metadata=stored, spec=wanted.spec)


def make_snapshot(gpus: int, partitions: int) -> Snapshot:
    """Return a node with this many GPUs, each cut into this many partitions."""
    devices = tuple(_make_accelerator(index, partitions) for index in range(gpus))
    return Snapshot("nvidia", "580.126.09", "13.0", "13.580.126.09", devices)


def _make_accelerator(index: int, partitions: int) -> Accelerator:
    whole = Accelerator(
        pci_address=f"0000:{index + 1:02x}:00.0",
        index=index,
        uuid=f"GPU-{index:08d}-0000-0000-0000-000000000000",
        model="NVIDIA H100 80GB HBM3",
        architecture="Hopper",
        memory_bytes=81559 * 2**20,
        multiprocessors=132,
        compute_capability="9.0",
        numa_node=index // 4,
        pcie_root=f"pci0000:{index:02x}",
    )
    parts = tuple(
        Partition("1g.10gb", place, None, f"MIG-{index}-{place}", 9984 * 2**20, 16, 1, 1, 0, 1, 0)
        for place in range(partitions)
    )
    return dataclasses.replace(whole, partitioned=bool(parts), partitions=parts)
