"""MIG devices of one GPU: what exists now, with profile, placement and engines.

Called by discovery.py. A MIG device that does not answer is reported beside the others, never instead of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from driver.model.devices import Partition
from driver.model.errors import DriverError, Unavailable
from driver.vendors.nvidia import nvml
from driver.vendors.nvidia.links import optional

_PROFILE: Final = re.compile(r"(?:^|\bMIG )((?:\d+c\.)?\d+g\.\d+gb(?:[+-][a-z.]+)*)$")
"""A profile at the end of a MIG device's name: `NVIDIA A100-SXM4-40GB MIG 1c.3g.20gb`, `… MIG 1g.5gb+me`."""
_EIGHTH: Final = 8
"""Memory of a profile counts in eighths of the GPU's (MIG User Guide, GPU instance profiles)."""
_GIB: Final = 1 << 30


def find(device: nvml.Device, memory_bytes: int | None) -> tuple[tuple[Partition, ...], tuple[str, ...]]:
    """Return the MIG devices of a GPU in MIG mode by placement, and the reasons of those that do not answer.

    Raises `DeviceFault` if the GPU itself is lost and `Unavailable` if the driver went away.
    """
    found: list[Partition] = []
    reasons: list[str] = []
    for slot, instance in _instances(device, reasons):
        try:
            found.append(describe(device, instance, memory_bytes))
        except Unavailable:
            raise
        except DriverError as error:
            _raise_if_lost(error)
            reasons.append(f"MIG device {slot}: {error}")
    found.sort(key=lambda partition: (partition.placement, partition.subplacement or 0, partition.profile))
    return tuple(found), tuple(reasons)


def _instances(device: nvml.Device, reasons: list[str]) -> Iterator[tuple[int, nvml.Device]]:
    """Yield the slots that are taken."""
    for slot in range(device.mig_slots()):
        try:
            instance = device.mig_device(slot)
        except nvml.DeviceFault as error:
            _raise_if_lost(error)
            reasons.append(f"MIG device {slot}: {error}")
            continue
        if instance is not None:
            yield slot, instance


def describe(device: nvml.Device, instance: nvml.Device, memory_bytes: int | None) -> Partition:
    """Return one MIG device. Identity and place are needed; engines are told where the driver knows them."""
    gpu_instance, compute_instance = instance.gpu_instance(), instance.compute_instance()
    attributes = optional(instance.attributes)
    profile = profile_of(instance.name()) or (attributes and computed_profile(attributes, memory_bytes))
    if not profile:
        raise nvml.DeviceFault(f"NVML names no profile: {instance.name()!r}")
    partial = "c." in profile
    return Partition(
        profile=profile,
        placement=device.placement(gpu_instance),
        subplacement=device.subplacement(gpu_instance, compute_instance) if partial else None,
        uuid=instance.uuid(),
        memory_bytes=attributes.memory_bytes if attributes else None,
        multiprocessors=attributes.multiprocessors if attributes else None,
        copy_engines=attributes.copy_engines if attributes else None,
        decoders=attributes.decoders if attributes else None,
        encoders=attributes.encoders if attributes else None,
        jpeg_engines=attributes.jpeg_engines if attributes else None,
        ofa_engines=attributes.ofa_engines if attributes else None,
        handle={"gpuInstance": gpu_instance, "computeInstance": compute_instance},
    )


def profile_of(name: str) -> str | None:
    """Return the profile that the name of a MIG device ends with.

    >>> profile_of("NVIDIA H100 80GB HBM3 MIG 1c.3g.40gb"), profile_of("NVIDIA H100 80GB HBM3")
    ('1c.3g.40gb', None)
    """
    match = _PROFILE.search(name)
    return match.group(1) if match else None


def computed_profile(attributes: nvml.InstanceAttributes, memory_bytes: int | None) -> str | None:
    """Return the profile that slices and memory amount to, for drivers whose names lack it.

    Memory is rounded as NVIDIA does: up to the next eighth of the GPU's, times its size in whole GiB.
    """
    if not memory_bytes or not attributes.gpu_slices:
        return None
    eighths = -(-attributes.memory_bytes * _EIGHTH // memory_bytes)
    gigabytes = round(eighths / _EIGHTH * -(-memory_bytes // _GIB))
    whole = f"{attributes.gpu_slices}g.{gigabytes}gb"
    partial = 0 < attributes.compute_slices < attributes.gpu_slices
    return f"{attributes.compute_slices}c.{whole}" if partial else whole


def _raise_if_lost(error: DriverError) -> None:
    if isinstance(error, nvml.DeviceFault) and error.lost:
        raise error
