"""MIG devices of one GPU: what exists now, with profile, placement and engines.

Called by discovery.py. A MIG device that does not answer is reported beside the others, never instead of them.
"""

from __future__ import annotations

import re
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
    """Return the MIG devices of a GPU in MIG mode by placement, and why others do not answer, a sentence an error.

    Raises `DeviceFault` if the GPU itself is lost and `Unavailable` if the driver went away.
    """
    found: list[Partition] = []
    silent: dict[str, list[int]] = {}
    for slot in range(device.mig_slots()):
        try:
            instance = device.mig_device(slot)
            if instance is not None:
                found.append(describe(device, instance, memory_bytes))
        except Unavailable:
            raise
        except DriverError as error:
            if isinstance(error, nvml.DeviceFault) and error.lost:
                raise
            silent.setdefault(str(error), []).append(slot)
    found.sort(key=lambda partition: (partition.placement, partition.subplacement or 0, partition.profile))
    return tuple(found), tuple(_explain(slots, text) for text, slots in silent.items())


def _explain(slots: list[int], text: str) -> str:
    subject = f"MIG device {slots[0]} does" if len(slots) == 1 else f"MIG devices {', '.join(map(str, slots))} do"
    return f"{subject} not answer: {text}"


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
