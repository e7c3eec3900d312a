"""The part of the gate to NVML that is about MIG: modes, profiles, GPU instances and their compute instances.

Called by discovery.py, partitions.py and partitioning.py while a session is open. The only other importer of pynvml is
nvml.py, whose errors are raised here, too. Creating, destroying and switching need root; nothing here does more than
one such thing, so that callers decide what is undone after a failure.

A GPU instance owns memory slices and engines; a compute instance in it owns compute slices, and is what NVML lists as
a MIG device with a UUID. Ids of both are given out again after they were destroyed. Facts: nvml.h (go-nvml 2f9e261).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pynvml

from driver.model import errors
from driver.vendors.nvidia import nvml

_MOST_PROFILES: Final = 64
"""Far more than any NVML has; where the enumeration below stops in any case."""
_PROFILE_PREFIX: Final = "NVML_GPU_INSTANCE_PROFILE_"
_SUFFIXES: Final = {"ALL_ME": "+me.all", "NO_ME": "-me", "GFX": "+gfx", "REV1": "+me"}
"""What NVIDIA's tools append to the name of such a profile; nvml.h explains each at its constant."""
_KINDS: Final = {
    getattr(pynvml, constant): suffix
    for constant in dir(pynvml)
    if constant.startswith(_PROFILE_PREFIX)
    for ending, suffix in _SUFFIXES.items()
    if constant.endswith(f"_{ending}")
}


class NeedsReset(nvml.DeviceFault):
    """The mode was not switched: it takes effect with a reset of the GPU, or a restart of the virtual machine."""


@dataclass(frozen=True, slots=True)
class InstanceAttributes:
    """nvmlDeviceAttributes_t of a MIG device; engines are those of its GPU instance, shared by compute instances."""

    memory_bytes: int
    multiprocessors: int
    copy_engines: int
    decoders: int
    encoders: int
    jpeg_engines: int
    ofa_engines: int
    gpu_slices: int
    compute_slices: int


@dataclass(frozen=True, slots=True)
class ProfileInfo:
    """nvmlGpuInstanceProfileInfo_t: a shape of GPU instances, as this GPU has it. `number` is NVML's constant."""

    number: int
    id: int
    name: str
    """As NVML has it (`MIG 1g.10gb+me`); empty where it names none, then `suffix` tells what it would end with."""
    suffix: str
    slices: int
    instances: int
    """How many there can be."""
    memory_bytes: int
    multiprocessors: int
    copy_engines: int
    decoders: int
    encoders: int
    jpeg_engines: int
    ofa_engines: int


@dataclass(frozen=True, slots=True)
class Place:
    """nvmlGpuInstancePlacement_t: the memory slices of a GPU instance."""

    start: int
    size: int

    def overlaps(self, other: Place) -> bool:
        """Whether they have a memory slice in common."""
        return self.start < other.start + other.size and other.start < self.start + self.size


def modes(device: nvml.Device) -> tuple[bool, bool]:
    """Return whether MIG mode is on, and whether it will be after the next reset. Raises `Unsupported` without MIG."""
    current, pending = nvml.call(pynvml.nvmlDeviceGetMigMode, device.handle)
    return current == pynvml.NVML_DEVICE_MIG_ENABLE, pending == pynvml.NVML_DEVICE_MIG_ENABLE


def enabled(device: nvml.Device) -> bool:
    """Whether MIG mode is on now (not: after the next reset)."""
    try:
        return modes(device)[0]
    except errors.Unsupported:
        return False


def switch(device: nvml.Device, *, on: bool) -> None:
    """Switch MIG mode now. Raises `InUse` or `NeedsReset`; the pending mode is then as asked for all the same.

    nvmlDeviceSetMigMode succeeds when it has noted the mode; the activation status tells whether it has taken effect.
    It may unbind or reset the GPU: facts such as the minor number have to be read again.
    """
    mode = pynvml.NVML_DEVICE_MIG_ENABLE if on else pynvml.NVML_DEVICE_MIG_DISABLE
    status = nvml.integer(pynvml.nvmlDeviceSetMigMode, device.handle, mode)
    if status == pynvml.NVML_ERROR_RESET_REQUIRED:
        raise NeedsReset("nvmlDeviceSetMigMode: the GPU requires a reset")
    if status != pynvml.NVML_SUCCESS:
        raise nvml.mapped("nvmlDeviceSetMigMode", pynvml.NVMLError(status))


def slots(device: nvml.Device) -> int:
    """Return how many MIG devices there can be."""
    return nvml.integer(pynvml.nvmlDeviceGetMaxMigDeviceCount, device.handle)


def mig_device(device: nvml.Device, slot: int) -> nvml.Device | None:
    """Return the MIG device in this slot, or None: slots are not filled in order."""
    try:
        return nvml.Device(nvml.call(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, device.handle, slot))
    except errors.NotFound:
        return None


def processes(device: nvml.Device) -> tuple[int, ...]:
    """Return the ids of processes that compute on a GPU or MIG device, in order. `Forbidden` without root."""
    found = nvml.call(pynvml.nvmlDeviceGetComputeRunningProcesses_v3, device.handle)
    return tuple(sorted(int(process.pid) for process in found))


def gpu_instance_id(device: nvml.Device) -> int:
    """Return the id of a MIG device's GPU instance."""
    return nvml.integer(pynvml.nvmlDeviceGetGpuInstanceId, device.handle)


def compute_instance_id(device: nvml.Device) -> int:
    """Return the id of a MIG device's compute instance, unique in its GPU instance."""
    return nvml.integer(pynvml.nvmlDeviceGetComputeInstanceId, device.handle)


def attributes(device: nvml.Device) -> InstanceAttributes:
    """Return what a MIG device consists of."""
    raw = nvml.call(pynvml.nvmlDeviceGetAttributes_v2, device.handle)
    return InstanceAttributes(
        memory_bytes=raw.memorySizeMB << 20,
        multiprocessors=raw.multiprocessorCount,
        copy_engines=raw.sharedCopyEngineCount,
        decoders=raw.sharedDecoderCount,
        encoders=raw.sharedEncoderCount,
        jpeg_engines=raw.sharedJpegCount,
        ofa_engines=raw.sharedOfaCount,
        gpu_slices=raw.gpuInstanceSliceCount,
        compute_slices=raw.computeInstanceSliceCount,
    )


def profiles(device: nvml.Device) -> tuple[ProfileInfo, ...]:
    """Return all shapes that this GPU knows, by number; none if it tells none.

    nvmlDeviceGetGpuInstanceProfileInfoV brings names, but according to nvml.h only while MIG mode is on; without V it
    asks for no mode. Numbers are tried until NVML calls one invalid, as nvml.h says, beyond those of the bindings.
    """
    return tuple(_profiles(device, version=2)) or tuple(_profiles(device, version=1))


def _profiles(device: nvml.Device, version: int) -> Iterator[ProfileInfo]:
    for number in range(_MOST_PROFILES):
        try:
            raw = nvml.call(pynvml.nvmlDeviceGetGpuInstanceProfileInfo, device.handle, number, version)
        except errors.Unsupported:
            continue
        except errors.NotFound:
            if number >= pynvml.NVML_GPU_INSTANCE_PROFILE_COUNT:
                return
            continue
        yield ProfileInfo(
            number=number,
            id=raw.id,
            name=_name(raw) if version > 1 else "",
            suffix=_KINDS.get(number, ""),
            slices=raw.sliceCount,
            instances=raw.instanceCount,
            memory_bytes=raw.memorySizeMB << 20,
            multiprocessors=raw.multiprocessorCount,
            copy_engines=raw.copyEngineCount,
            decoders=raw.decoderCount,
            encoders=raw.encoderCount,
            jpeg_engines=raw.jpegCount,
            ofa_engines=raw.ofaCount,
        )


def _name(info: pynvml.c_nvmlGpuInstanceProfileInfo_v2_t) -> str:
    try:
        return str(info.name)
    except UnicodeDecodeError:
        return ""


def places(device: nvml.Device, profile: int) -> tuple[Place, ...]:
    """Return where GPU instances of a profile (by id) can be, ascending. `Forbidden` without root.

    nvmlDeviceGetGpuInstancePossiblePlacements_v2 answers whether or not MIG mode is on and whatever is there now.
    """
    count = ctypes.c_uint(0)
    nvml.call(pynvml.nvmlDeviceGetGpuInstancePossiblePlacements, device.handle, profile, None, ctypes.byref(count))
    found = (pynvml.c_nvmlGpuInstancePlacement_t * count.value)()
    nvml.call(
        pynvml.nvmlDeviceGetGpuInstancePossiblePlacements,
        device.handle,
        profile,
        ctypes.byref(found),
        ctypes.byref(count),
    )
    return tuple(sorted((Place(each.start, each.size) for each in found[: count.value]), key=lambda place: place.start))


class GpuInstance:
    """One GPU instance. Valid while its session is open and it is not destroyed."""

    def __init__(self, handle: object) -> None:
        """Raise as nvmlGpuInstanceGetInfo does."""
        self._handle = handle
        info = nvml.call(pynvml.nvmlGpuInstanceGetInfo, handle)
        self.id, self.profile = int(info.id), int(info.profileId)
        self.place = Place(int(info.placement.start), int(info.placement.size))

    def compute_instance(self, number: int) -> ComputeInstance:
        """Return a compute instance in it by its id. Raises `NotFound`; `Forbidden` without root."""
        return ComputeInstance(nvml.call(pynvml.nvmlGpuInstanceGetComputeInstanceById, self._handle, number))

    def create_compute(self, slices: int) -> ComputeInstance:
        """Create a compute instance that owns all compute slices of this GPU instance, whose profile has `slices`.

        Which profiles there are can only be asked of an instance that exists. Raises `Exhausted` if there is one.
        """
        fitting = (profile for profile in _compute_profiles(self._handle) if profile.sliceCount == slices)
        profile = next(fitting, None)
        if profile is None:
            raise nvml.DeviceFault(
                f"NVML has no compute instance profile of {slices} slices for GPU instance {self.id}"
            )
        made = nvml.call(pynvml.nvmlGpuInstanceCreateComputeInstance, self._handle, profile.id)
        return ComputeInstance(made)

    def destroy(self) -> None:
        """Destroy it. Raises `InUse` while it has compute instances or processes."""
        nvml.call(pynvml.nvmlGpuInstanceDestroy, self._handle)


class ComputeInstance:
    """One compute instance. Valid while its session is open and it is not destroyed."""

    def __init__(self, handle: object) -> None:
        """Raise as nvmlComputeInstanceGetInfo_v2 does."""
        self._handle = handle
        info = nvml.call(pynvml.nvmlComputeInstanceGetInfo_v2, handle)
        self.id, self.start = int(info.id), int(info.placement.start)
        self.device = nvml.Device(info.device)
        """The MIG device that it is: nvmlComputeInstanceInfo_t.device spares a walk through all slots."""

    def destroy(self) -> None:
        """Destroy it. Raises `InUse` while processes are on it."""
        nvml.call(pynvml.nvmlComputeInstanceDestroy, self._handle)


def gpu_instance(device: nvml.Device, number: int) -> GpuInstance:
    """Return a GPU instance by its id. Raises `NotFound`; `Forbidden` without root."""
    return GpuInstance(nvml.call(pynvml.nvmlDeviceGetGpuInstanceById, device.handle, number))


def gpu_instances(device: nvml.Device) -> list[GpuInstance]:
    """Return all GPU instances of a GPU in MIG mode, by place: also those without compute instances."""
    handles = [handle for profile in profiles(device) for handle in _listed(device, profile)]
    found = {each.id: each for each in map(GpuInstance, handles)}
    return sorted(found.values(), key=lambda each: each.place.start)


def _listed(device: nvml.Device, profile: ProfileInfo) -> list[object]:
    """Return handles of the GPU instances of a profile. The array must have room for all that there can be."""
    count, found = ctypes.c_uint(0), (pynvml.c_nvmlGpuInstance_t * max(profile.instances, 1))()
    try:
        nvml.call(pynvml.nvmlDeviceGetGpuInstances, device.handle, profile.id, found, ctypes.byref(count))
    except errors.Unsupported:
        return []
    return [found[position] for position in range(count.value)]


def create(device: nvml.Device, profile: int, place: Place) -> GpuInstance:
    """Create a GPU instance of a profile (by id) at exactly this place.

    Raises `Exhausted` if something is in the way, also engines that another one has: NVML does not say what. A plain
    `DeviceFault` does not tell whether it was created.
    """
    raw = pynvml.c_nvmlGpuInstancePlacement_t(place.start, place.size)
    handle = nvml.call(pynvml.nvmlDeviceCreateGpuInstanceWithPlacement, device.handle, profile, ctypes.byref(raw))
    try:
        return GpuInstance(handle)
    except errors.DriverError as error:
        raise nvml.DeviceFault(f"it was created and does not answer: {error}") from error


def _compute_profiles(gpu_instance_handle: object) -> Iterator[pynvml.c_nvmlComputeInstanceProfileInfo_t]:
    """Yield nvmlComputeInstanceProfileInfo_t of all compute instance profiles of a GPU instance, by number."""
    for number in range(_MOST_PROFILES):
        try:
            yield nvml.call(
                pynvml.nvmlGpuInstanceGetComputeInstanceProfileInfo,
                gpu_instance_handle,
                number,
                pynvml.NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED,
                1,
            )
        except errors.Unsupported:
            continue
        except errors.NotFound:
            if number >= pynvml.NVML_COMPUTE_INSTANCE_PROFILE_COUNT:
                return
