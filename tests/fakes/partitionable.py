"""Accelerators that can be partitioned, with the profiles and places of real models, and what exists on them."""

from __future__ import annotations

import dataclasses
from functools import cache

from driver import vendors
from driver.core.offering import Mode, Offer, Own
from driver.model.devices import Accelerator, Partition, Profile, Snapshot
from driver.settings import Settings

ADDRESS = "0000:1a:00.0"
DYNAMIC = Offer(mode=Mode.DYNAMIC)


@cache
def machine(node: str) -> Snapshot:
    """Return the hardware of a simulated node."""
    return vendors.load("simulated", Settings().roots, {"node": node}).snapshot()


def h100(address: str = ADDRESS) -> Accelerator:
    """Return an H100 80 GB that is whole and can be partitioned at once, without links."""
    return dataclasses.replace(machine("hgx-h100-16").accelerators[0], pci_address=address, uuid=f"GPU-{address}")


def find_profile(device: Accelerator, name: str) -> Profile:
    """Return the profile with this name."""
    return next(profile for profile in device.profiles if profile.name == name)


def make(device: Accelerator, profile: str, placement: int, uuid: str = "") -> Partition:
    """Return a partition as it exists on a device."""
    shape = find_profile(device, profile)
    return Partition(
        profile=profile,
        placement=placement,
        subplacement=None,
        uuid=uuid or f"MIG-{profile}-{placement}",
        memory_bytes=shape.memory_bytes,
        multiprocessors=shape.multiprocessors,
        copy_engines=shape.copy_engines,
        decoders=shape.decoders,
        encoders=shape.encoders,
        jpeg_engines=shape.jpeg_engines,
        ofa_engines=shape.ofa_engines,
        size=shape.size,
        handle={"gi": placement},
    )


def carve(device: Accelerator, *partitions: tuple[str, int]) -> Accelerator:
    """Return a device in partition mode with these partitions (profile, placement)."""
    parts = tuple(make(device, profile, placement) for profile, placement in partitions)
    return dataclasses.replace(device, partitioned=True, partitions=parts)


def own(device: Accelerator, *partitions: tuple[str, int]) -> frozenset[Own]:
    """Return that these partitions of a device, as `carve` makes them, were made by us."""
    return frozenset(Own(device.pci_address, name, place, f"MIG-{name}-{place}") for name, place in partitions)
