"""From a node file to hardware facts: what another vendor's folder does with its library. Called by `vendor`.

It promises the same facts for the same file and seed, whenever and wherever it runs: identities are derived, not drawn.
One broken device becomes a `Failure`; the others do not notice. It must not hold anything open.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import Final

from driver.model.devices import Accelerator, Fabric, Failure, Link, Partition, Profile, Remote, Snapshot
from driver.model.errors import InvalidInput

from . import files
from .instances import CHANGES, Chip

MEBIBYTE: Final = 1024 * 1024
IDENTITIES: Final = uuid.UUID("6f9a2e0c-51d3-5c3e-9e7b-0a4d8c1b2f37")


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the node file says, and what the snapshot has no words for."""

    snapshot: Snapshot
    managed_power: bool
    power_faults: Mapping[str, str]
    """Reason per PCI address of a device that refuses to be powered on."""
    chips: Mapping[str, Chip]
    """By PCI address, those that can be partitioned. One that fails is there, too, and refuses every call."""


def look(vendor: str, node: files.Node, seed: str) -> Hardware:
    """Return the hardware of a node. `seed` tells apart the identities of two nodes with the same file.

    Raises `InvalidInput` if devices, links or partitions contradict each other or their models.
    """
    order = sorted(node.devices, key=lambda device: device.pci_address)
    addresses = [device.pci_address for device in order]
    for address in addresses:
        if addresses.count(address) > 1:
            raise InvalidInput("devices.pciAddress", address, "each address once")
    accelerators = tuple(
        _accelerator(node, device, index, seed) for index, device in enumerate(order) if device.failure is None
    )
    failures = tuple(
        Failure(device.pci_address, index, device.failure) for index, device in enumerate(order) if device.failure
    )
    snapshot = Snapshot(
        vendor=vendor,
        driver_version=node.driver_version,
        runtime_version=node.runtime_version,
        management_version=node.management_version,
        accelerators=accelerators,
        failures=failures,
    )
    faults = {device.pci_address: device.power_fault for device in order if device.power_fault}
    chips = {device.pci_address: _chip(node, device, index, seed) for index, device in enumerate(order)}
    able = {address: chip for address, chip in chips.items() if chip.accelerator.profiles}
    return Hardware(snapshot, node.managed_power, faults, able)


def _chip(node: files.Node, device: files.Device, index: int, seed: str) -> Chip:
    return Chip(
        _accelerator(node, device, index, seed),
        live=(device.mode_switch or files.read_model(device.model).mode_switch) == "live",
        pending=None if device.pending_mode is None else device.pending_mode == "enabled",
        faults=dict.fromkeys(CHANGES, device.failure)
        if device.failure
        else {str(k): v for k, v in device.faults.items()},
        delay=node.call_seconds,
    )


def _accelerator(node: files.Node, device: files.Device, index: int, seed: str) -> Accelerator:
    model = files.read_model(device.model)
    identity = f"{seed}/{device.pci_address}"
    return Accelerator(
        pci_address=device.pci_address,
        index=index,
        uuid=f"{model.type.upper()}-{uuid.uuid5(IDENTITIES, identity)}",
        model=model.model,
        architecture=model.architecture,
        memory_bytes=model.memory_mib * MEBIBYTE if model.memory_mib else None,
        multiprocessors=model.multiprocessors,
        compute_capability=model.compute_capability,
        numa_node=device.numa_node,
        pcie_root=device.pcie_root,
        links=tuple(_links(node, device, model)),
        fabric=Fabric(node.fabric.cluster_uuid, node.fabric.clique) if node.fabric else None,
        partitioned=device.partitions is not None,
        partitions=tuple(_partitions(device, model, identity)),
        profiles=tuple(_profile(name, profile) for name, profile in model.profiles.items()),
        type=model.type,
        extra=device.extra,
    )


def _profile(name: str, profile: files.Profile) -> Profile:
    return Profile(
        name=name,
        size=profile.size,
        placements=profile.placements,
        memory_bytes=profile.memory_mib * MEBIBYTE,
        multiprocessors=profile.multiprocessors,
        copy_engines=profile.copy_engines,
        decoders=profile.decoders,
        encoders=profile.encoders,
        jpeg_engines=profile.jpeg_engines,
        ofa_engines=profile.ofa_engines,
    )


def _links(node: files.Node, device: files.Device, model: files.Model) -> Iterator[Link]:
    """Yield the links of a device in the order of their index."""
    if not device.links:
        return
    if model.link is None:
        raise InvalidInput(f"{device.pci_address}: links", device.links, f"none: a {device.model} has no links")
    for index, (remote, address) in enumerate(_remotes(node, device, model.link.count)):
        yield Link(
            index=index,
            active=index not in device.inactive_links,
            version=model.link.version,
            gbytes_per_second=model.link.gbytes_per_second,
            remote=remote,
            remote_address=address,
        )


def _remotes(node: files.Node, device: files.Device, count: int) -> list[tuple[Remote, str | None]]:
    """Return what is at the other end of each link of a device."""
    if device.links == "fabric":
        return [(Remote.SWITCH, None)] * count
    if device.links == "switches":
        if not node.switches:
            raise InvalidInput(f"{device.pci_address}: links", "switches", "a node with `switches`, or other links")
        switches = cycle(node.switches)
        return [(Remote.SWITCH, next(switches)) for _ in range(count)]
    return _peers(node, device.pci_address, device.links, count)


def _peers(node: files.Node, address: str, links: Mapping[str, int], count: int) -> list[tuple[Remote, str | None]]:
    others = [device.pci_address for device in node.devices if device.pci_address != address]
    for peer in links:
        if peer not in others:
            raise InvalidInput(f"{address}: links", peer, ", ".join(others))
    ends: list[tuple[Remote, str | None]] = [(Remote.DEVICE, peer) for peer, wide in links.items() for _ in range(wide)]
    if len(ends) > count:
        raise InvalidInput(f"{address}: links", len(ends), f"at most {count} links")
    return ends


def _partitions(device: files.Device, model: files.Model, identity: str) -> Iterator[Partition]:
    """Yield the partitions of a device in the order of their place on it."""
    taken: dict[int, str] = {}
    for placement, name in sorted((p, name) for name, places in (device.partitions or {}).items() for p in places):
        profile = model.profiles.get(name)
        if profile is None:
            allowed = ", ".join(model.profiles) or f"none: a {device.model} cannot be partitioned"
            raise InvalidInput(f"{device.pci_address}: partitions", name, allowed)
        if placement not in profile.placements:
            raise InvalidInput(f"{device.pci_address}: {name}", placement, f"one of {list(profile.placements)}")
        for part in range(placement, placement + profile.size):
            if part in taken:
                raise InvalidInput(f"{device.pci_address}: {name}", placement, f"a place free of {taken[part]}")
            taken[part] = f"{name} at {placement}"
        own = uuid.uuid5(IDENTITIES, f"{identity}/{name}/{placement}")
        yield _profile(name, profile).shape(placement, f"MIG-{own}")
