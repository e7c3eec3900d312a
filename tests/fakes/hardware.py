"""Hardware facts for tests of decisions: one plain accelerator that each test changes where it matters."""

from __future__ import annotations

import dataclasses
from typing import TypedDict, Unpack

from driver.model.devices import Accelerator, Fabric, Link, Partition, Remote, Snapshot

GIBIBYTE = 1 << 30


class Changes(TypedDict, total=False):
    """The fields of an accelerator that tests set."""

    index: int
    uuid: str
    model: str
    architecture: str | None
    memory_bytes: int | None
    multiprocessors: int | None
    compute_capability: str | None
    numa_node: int | None
    pcie_root: str | None
    links: tuple[Link, ...]
    fabric: Fabric | None
    partitioned: bool
    partitions: tuple[Partition, ...]
    extra: dict[str, str | int | bool]


def accelerator(pci_address: str = "0000:1a:00.0", **changes: Unpack[Changes]) -> Accelerator:
    """Return a complete 80 GiB device without links or partitions."""
    plain = Accelerator(
        pci_address=pci_address,
        index=0,
        uuid=f"GPU-{pci_address}",
        model="NVIDIA H100 80GB HBM3",
        architecture="Hopper",
        memory_bytes=80 * GIBIBYTE,
        multiprocessors=132,
        compute_capability="9.0",
        numa_node=0,
        pcie_root="pci0000:15",
    )
    return dataclasses.replace(plain, **changes)


def partition(profile: str = "1g.10gb", placement: int = 0, uuid: str = "") -> Partition:
    """Return a partition with all its facts."""
    return Partition(
        profile=profile,
        placement=placement,
        subplacement=None,
        uuid=uuid or f"MIG-{profile}-{placement}",
        memory_bytes=10 * GIBIBYTE,
        multiprocessors=16,
        copy_engines=1,
        decoders=1,
        encoders=0,
        jpeg_engines=1,
        ofa_engines=0,
    )


def snapshot(*accelerators: Accelerator) -> Snapshot:
    """Return a snapshot of these devices."""
    return Snapshot(
        vendor="simulated",
        driver_version="580.126.09",
        runtime_version="13.0",
        management_version="13.580.126.09",
        accelerators=accelerators,
    )


def link(index: int, address: str | None, *, remote: Remote = Remote.DEVICE, active: bool = True) -> Link:
    """Return a link of 25 GB/s to a device (or another kind of end)."""
    return Link(index=index, active=active, version=4, gbytes_per_second=25, remote=remote, remote_address=address)


def mesh(*pairs: tuple[str, str], addresses: tuple[str, ...] = ()) -> tuple[Accelerator, ...]:
    """Return devices that are linked in these pairs (a pair that occurs twice has two links)."""
    names = sorted({*addresses, *(end for pair in pairs for end in pair)})
    peers = {name: [other for pair in pairs for other in pair if name in pair and other != name] for name in names}
    return tuple(
        accelerator(name, index=index, links=tuple(link(number, peer) for number, peer in enumerate(peers[name])))
        for index, name in enumerate(names)
    )
