"""MIG devices of one GPU: what exists now and what there could be, with profile, placement and engines.

Called by discovery.py. A MIG device that does not answer is reported beside the others, never instead of them.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Final

from driver.model.devices import Partition, Profile
from driver.model.errors import DriverError, NotFound, Unavailable, Unsupported
from driver.vendors.nvidia import instances, nvml, nvml_mig
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
    for slot in range(nvml_mig.slots(device)):
        try:
            instance = nvml_mig.mig_device(device, slot)
            if instance is not None:
                found.append(describe(device, instance, memory_bytes))
        except Unavailable:
            raise
        except DriverError as error:
            if isinstance(error, nvml.DeviceFault) and error.lost:
                raise
            silent.setdefault(str(error), []).append(slot)
    found.sort(key=lambda partition: (partition.placement, partition.subplacement or 0, partition.profile))
    reasons = tuple(_explain(slots, text) for text, slots in silent.items())
    return tuple(found), (*reasons, *(optional(partial(_halves, device)) or ()))


def _halves(device: nvml.Device) -> tuple[str, ...]:
    """Return what is said of GPU instances that nobody can use, as they have no compute instance, but take room."""
    return tuple(f"{each}, and takes its room" for each in instances.list_all(device) if not each.devices)


def _explain(slots: list[int], text: str) -> str:
    subject = f"MIG device {slots[0]} does" if len(slots) == 1 else f"MIG devices {', '.join(map(str, slots))} do"
    return f"{subject} not answer: {text}"


def describe(device: nvml.Device, instance: nvml.Device, memory_bytes: int | None) -> Partition:
    """Return one MIG device. Identity and place are needed; engines are told where the driver knows them."""
    gpu_instance, compute_instance = nvml_mig.gpu_instance_id(instance), nvml_mig.compute_instance_id(instance)
    attributes = optional(partial(nvml_mig.attributes, instance))
    profile = profile_of(instance.name()) or (attributes and computed_profile(attributes, memory_bytes))
    if not profile:
        raise nvml.DeviceFault(f"NVML names no profile: {instance.name()!r}")
    parent = nvml_mig.gpu_instance(device, gpu_instance)
    return Partition(
        profile=profile,
        placement=parent.place.start,
        size=parent.place.size,
        subplacement=parent.compute_instance(compute_instance).start if "c." in profile else None,
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


def possible(device: nvml.Device, memory_bytes: int | None) -> tuple[Profile, ...]:
    """Return the shapes in which a GPU can be partitioned, by NVML's number, each name once, with their places.

    Two revisions of one shape that share a name are the same to whoever asks for it: the first is taken. Raises
    `Forbidden` without root, and `Unsupported` if NVML tells nothing while MIG mode is as it is.
    """
    found: dict[str, Profile] = {}
    for info in nvml_mig.profiles(device):
        name = profile_of(info.name) or _computed_name(info, memory_bytes)
        places = _places(device, info) if name and name not in found else ()
        if name and places:
            found[name] = _profile(info, name, places)
    if not found:
        raise Unsupported("NVML tells no profiles of GPU instances")
    return tuple(found.values())


def _places(device: nvml.Device, info: nvml_mig.ProfileInfo) -> tuple[nvml_mig.Place, ...]:
    """Return where instances of a profile can be; nowhere if it is one of those that this GPU only lists."""
    try:
        return nvml_mig.places(device, info.id)
    except (Unsupported, NotFound):
        return ()


def _profile(info: nvml_mig.ProfileInfo, name: str, places: tuple[nvml_mig.Place, ...]) -> Profile:
    return Profile(
        name=name,
        size=places[0].size,
        placements=tuple(place.start for place in places),
        memory_bytes=info.memory_bytes,
        multiprocessors=info.multiprocessors,
        copy_engines=info.copy_engines,
        decoders=info.decoders,
        encoders=info.encoders,
        jpeg_engines=info.jpeg_engines,
        ofa_engines=info.ofa_engines,
        handle={"profile": info.id, "slices": info.slices},
    )


def _computed_name(info: nvml_mig.ProfileInfo, memory_bytes: int | None) -> str | None:
    if not memory_bytes or not info.slices:
        return None
    return f"{info.slices}g.{_gigabytes(info.memory_bytes, memory_bytes)}gb{info.suffix}"


def computed_profile(attributes: nvml_mig.InstanceAttributes, memory_bytes: int | None) -> str | None:
    """Return the profile that slices and memory amount to, for drivers whose names lack it."""
    if not memory_bytes or not attributes.gpu_slices:
        return None
    whole = f"{attributes.gpu_slices}g.{_gigabytes(attributes.memory_bytes, memory_bytes)}gb"
    shared = 0 < attributes.compute_slices < attributes.gpu_slices
    return f"{attributes.compute_slices}c.{whole}" if shared else whole


def _gigabytes(part: int, memory_bytes: int) -> int:
    """Round as NVIDIA does: up to the next eighth of the GPU's memory, times its size in whole GiB, halves up."""
    eighths = -(-part * _EIGHTH // memory_bytes)
    return (2 * eighths * -(-memory_bytes // _GIB) + _EIGHTH) // (2 * _EIGHTH)
