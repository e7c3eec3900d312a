"""Which GPU instances are on a GPU, whose they are, and what they are called in messages.

Called by partitioning.py and partitions.py while a session is open. Changes nothing. NVML keeps no word of who made an
instance, and ids are given out again; so the UUID decides, and while it is not known yet, profile and place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from driver.model.errors import DriverError, NotFound, StepRefused
from driver.model.prepared import Step
from driver.vendors.nvidia import nvml, nvml_mig


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a step is to make. `profile` is NVML's id of it."""

    name: str
    profile: int
    place: nvml_mig.Place

    def __str__(self) -> str:
        return f"{self.name} at memory slice {self.place.start}"


@dataclass(frozen=True, slots=True)
class Own:
    """A GPU instance that a step has made, with its compute instance if it has got one."""

    parent: nvml_mig.GpuInstance
    part: nvml_mig.ComputeInstance | None


@dataclass(frozen=True, slots=True)
class Listed:
    """A GPU instance and the MIG devices in it."""

    instance: nvml_mig.GpuInstance
    devices: tuple[nvml.Device, ...]

    def __str__(self) -> str:
        place = self.instance.place
        where = f"memory slices {place.start} to {place.start + place.size - 1}"
        names = " and ".join(device.uuid() for device in self.devices) or "no MIG device"
        return f"GPU instance {self.instance.id} ({names}) is on {where}"


def read(step: Step) -> Wanted:
    """Return what a step of name `partition` is to make."""
    arguments = step.arguments
    place = nvml_mig.Place(int(arguments["placement"]), int(arguments["size"]))
    return Wanted(arguments["profile"], int(arguments["gpuInstanceProfile"]), place)


def name_present(device: nvml.Device) -> str:
    """Return the UUIDs of all MIG devices on a GPU, with a space between them."""
    return " ".join(part.uuid() for each in list_all(device) for part in each.devices)


def find_begun(device: nvml.Device, step: Step) -> Own | None:
    """Return what is at the place of a step that has begun and does not know what it made; or None.

    Nothing that is in use: so far no container has learnt of it.
    """
    wanted = read(step)
    for each in list_all(device):
        if each.instance.profile == wanted.profile and each.instance.place == wanted.place and not _is_used(each):
            parts = [each.instance.compute_instance(nvml_mig.compute_instance_id(part)) for part in each.devices]
            return Own(each.instance, parts[0] if parts else None)
    return None


def find_known(device: nvml.Device, step: Step, facts: Mapping[str, str]) -> Own | None:
    """Return the instance with the UUID in `facts`; or what is left of it if its destruction was interrupted."""
    wanted = read(step)
    try:
        parent = nvml_mig.gpu_instance(device, int(facts["gpuInstance"]))
    except NotFound:
        return None
    if parent.profile != wanted.profile or parent.place != wanted.place:
        return None
    try:
        part = parent.compute_instance(int(facts["computeInstance"]))
    except NotFound:
        return None if _inside(device, parent) else Own(parent, None)
    return Own(parent, part) if part.device.uuid() == facts["uuid"] else None


def _is_used(listed: Listed) -> bool:
    """Whether somebody has more in it than a step makes, or computes in it."""
    return len(listed.devices) > 1 or any(nvml_mig.processes(each) for each in listed.devices)


def refuse_foreign(device: nvml.Device, step: Step) -> None:
    """Raise `StepRefused` that names what is in the way of a step."""
    wanted = read(step)
    for each in list_all(device):
        if wanted.place.overlaps(each.instance.place):
            where = f"GPU {step.arguments['pciAddress']} has no room for {wanted}"
            raise StepRefused(step.name, f"{where}: {each}, not made for this claim")


def name_all(device: nvml.Device) -> str:
    """Return a sentence about all GPU instances; empty if there are none."""
    return "; ".join(map(str, list_all(device)))


def list_users(device: nvml.Device) -> str:
    """Return the processes that compute on a GPU or MIG device for a message; nothing if they are not told."""
    try:
        return ", ".join(map(str, nvml_mig.processes(device)))
    except DriverError:
        return ""


def list_all(device: nvml.Device) -> list[Listed]:
    """Return all GPU instances, by place, and what is in each."""
    parts = _walk(device)
    found = nvml_mig.gpu_instances(device)
    return [Listed(each, tuple(part for number, part in parts if number == each.id)) for each in found]


def find_parts(device: nvml.Device, gpu_instance: int, compute_instance: int | None) -> list[str]:
    """Return the UUIDs of the MIG devices in a GPU instance, or of one compute instance in it."""
    parts = [part for number, part in _walk(device) if number == gpu_instance]
    return [part.uuid() for part in parts if compute_instance in (None, nvml_mig.compute_instance_id(part))]


def _inside(device: nvml.Device, parent: nvml_mig.GpuInstance) -> bool:
    """Whether a GPU instance has MIG devices."""
    return any(number == parent.id for number, _part in _walk(device))


def _walk(device: nvml.Device) -> list[tuple[int, nvml.Device]]:
    """Return all MIG devices with the ids of their GPU instances."""
    found = (nvml_mig.mig_device(device, slot) for slot in range(nvml_mig.slots(device)))
    return [(nvml_mig.gpu_instance_id(part), part) for part in found if part is not None]
