"""MIG in a fake NVML: modes, profiles, places, instances that come and go.

It refuses what the real one refuses: instances while MIG mode is off, places that overlap, more engines than there
are, destroying what is in use, switching a GPU that is in use. Ids are given out again, UUIDs are not.
"""

from __future__ import annotations

import dataclasses
import itertools
import uuid
from collections.abc import Callable
from typing import Any, Protocol

import pynvml

from tests.fakes.nvml.calls import Kind, Part, Refused, behind
from tests.fakes.nvml.hardware import NUMBERS, FakeGpu, FakeInstance, FakeProfile

SLOTS = 7
NO_SLOT = -1


class Library(Protocol):
    """What these functions need of the library that they are part of."""

    changed: Callable[[], None]
    profile_count: int

    def hand_out(self, target: object, thing: FakeGpu | Part) -> None:
        """Write a new handle through a pointer."""

    def handle(self, thing: FakeGpu | Part) -> int:
        """Return a new handle."""


class MigFunctions:
    """The functions of NVML that are about MIG."""

    def __init__(self, library: Library) -> None:
        self._mig = library
        self._serial = itertools.count()

    # -- modes ------------------------------------------------------------------------------------------------------

    def nvmlDeviceGetMigMode(self, handle: FakeGpu, current: object, pending: object) -> None:  # noqa: N802
        if handle.mig is None:
            raise Refused(pynvml.NVML_ERROR_NOT_SUPPORTED)
        behind(current).value = int(handle.mig)
        behind(pending).value = int(handle.mig if handle.pending is None else handle.pending)

    def nvmlDeviceSetMigMode(self, handle: FakeGpu, mode: int, status: object) -> None:  # noqa: N802
        if handle.mig is None:
            raise Refused(pynvml.NVML_ERROR_NOT_SUPPORTED)
        wanted = bool(mode)
        handle.pending = None if wanted == handle.mig else wanted
        behind(status).value = pynvml.NVML_SUCCESS
        if handle.pending is None:
            return
        if handle.needs_reset:
            behind(status).value = pynvml.NVML_ERROR_RESET_REQUIRED
        elif handle.clients or handle.instances:
            behind(status).value = pynvml.NVML_ERROR_IN_USE
        else:
            handle.mig, handle.pending = wanted, None
            self._mig.changed()

    # -- profiles and places ----------------------------------------------------------------------------------------

    def nvmlDeviceGetGpuInstanceProfileInfo(self, handle: FakeGpu, number: int, info: object) -> None:  # noqa: N802
        self._tell(self._find_profile(handle, number), behind(info))

    def nvmlDeviceGetGpuInstanceProfileInfoV(self, handle: FakeGpu, number: int, info: object) -> None:  # noqa: N802
        if behind(info).version != pynvml.nvmlGpuInstanceProfileInfo_v2:
            raise Refused(pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH)
        profile = self._find_profile(handle, number)
        if not handle.mig and not handle.names_always:
            raise Refused(pynvml.NVML_ERROR_NOT_SUPPORTED)
        self._tell(profile, behind(info))
        behind(info).name = f"MIG {profile.name}".encode()

    def _find_profile(self, gpu: FakeGpu, number: int) -> FakeProfile:
        if number >= self._mig.profile_count:
            raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        found = next((profile for profile in gpu.profiles if profile.number == number), None)
        if found is None:
            raise Refused(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return found

    def _tell(self, profile: FakeProfile, info: Any) -> None:
        info.id, info.sliceCount, info.instanceCount = profile.id, profile.slices, len(profile.places)
        info.multiprocessorCount, info.copyEngineCount = profile.multiprocessors, profile.copy_engines
        info.decoderCount, info.encoderCount = profile.decoders, profile.encoders
        info.jpegCount, info.ofaCount, info.memorySizeMB = profile.jpeg_engines, profile.ofa_engines, profile.memory

    def nvmlDeviceGetGpuInstancePossiblePlacements_v2(  # noqa: N802
        self, handle: FakeGpu, number: int, places: Any, count: object
    ) -> None:
        profile = _by_id(handle, number)
        behind(count).value = len(profile.places)
        for position, start in enumerate(profile.places if places is not None else ()):
            behind(places)[position].start, behind(places)[position].size = start, profile.size

    # -- GPU instances ----------------------------------------------------------------------------------------------

    def nvmlDeviceCreateGpuInstanceWithPlacement(  # noqa: N802
        self, handle: FakeGpu, number: int, place: object, instance: object
    ) -> None:
        _require_mig(handle)
        profile, start, size = _by_id(handle, number), behind(place).start, behind(place).size
        if start not in profile.places or size != profile.size:
            raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        if _is_taken(handle, start, size) or not _has_left(handle, profile):
            raise Refused(pynvml.NVML_ERROR_INSUFFICIENT_RESOURCES)
        made = FakeInstance(
            slot=NO_SLOT,
            profile=profile.name,
            gpu_instance=_lowest({each.gpu_instance for each in handle.instances}, 1),
            compute_instance=None,
            start=start,
            size=size,
            uuid="",
            attributes={},
        )
        handle.instances.append(made)
        self._mig.changed()
        self._mig.hand_out(instance, Part(handle, made, Kind.GPU_INSTANCE))

    def nvmlDeviceGetGpuInstances(self, handle: FakeGpu, number: int, found: Any, count: object) -> None:  # noqa: N802
        _require_mig(handle)
        profile = _by_id(handle, number)
        own = {each.gpu_instance: each for each in handle.instances if _profile_of(handle, each) == profile}
        behind(count).value = len(own)
        for position, each in enumerate(own.values()):
            found[position] = pynvml.cast(
                self._mig.handle(Part(handle, each, Kind.GPU_INSTANCE)), pynvml.c_nvmlGpuInstance_t
            )

    def nvmlDeviceGetGpuInstanceById(self, handle: FakeGpu, number: int, instance: object) -> None:  # noqa: N802
        _require_mig(handle)
        found = next((item for item in handle.instances if item.gpu_instance == number), None)
        if found is None:
            raise Refused(pynvml.NVML_ERROR_NOT_FOUND)
        self._mig.hand_out(instance, Part(handle, found, Kind.GPU_INSTANCE))

    def nvmlGpuInstanceGetInfo(self, handle: Part, info: object) -> None:  # noqa: N802
        behind(info).id = handle.instance.gpu_instance
        behind(info).profileId = _profile_of(handle.gpu, handle.instance).id
        behind(info).placement.start, behind(info).placement.size = handle.instance.start, handle.instance.size

    def nvmlGpuInstanceDestroy(self, handle: Part) -> None:  # noqa: N802
        inside = _siblings(handle)
        if any(each.compute_instance is not None for each in inside):
            raise Refused(pynvml.NVML_ERROR_IN_USE)
        for each in inside:
            handle.gpu.instances.remove(each)
        self._mig.changed()

    # -- compute instances ------------------------------------------------------------------------------------------

    def nvmlGpuInstanceGetComputeInstanceProfileInfo(  # noqa: N802
        self, handle: Part, number: int, engines: int, info: object
    ) -> None:
        if number > pynvml.NVML_COMPUTE_INSTANCE_PROFILE_COUNT or engines != 0:
            raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        slices = next((slices for slices, known in NUMBERS.items() if known == number), 0)
        if not 0 < slices <= _profile_of(handle.gpu, handle.instance).slices:
            raise Refused(pynvml.NVML_ERROR_NOT_SUPPORTED)
        behind(info).id, behind(info).sliceCount, behind(info).instanceCount = number, slices, 1

    def nvmlGpuInstanceCreateComputeInstance(self, handle: Part, number: int, part: object) -> None:  # noqa: N802
        profile = _profile_of(handle.gpu, handle.instance)
        slices = next(slices for slices, known in NUMBERS.items() if known == number)
        inside = [each for each in _siblings(handle) if each.compute_instance is not None]
        used = sum(each.attributes["computeInstanceSliceCount"] for each in inside)
        if used + slices > profile.slices:
            raise Refused(pynvml.NVML_ERROR_INSUFFICIENT_RESOURCES)
        made = dataclasses.replace(
            handle.instance,
            slot=_lowest({each.slot for each in handle.gpu.instances}, 0),
            profile=profile.name if slices == profile.slices else f"{slices}c.{profile.name}",
            compute_instance=_lowest({each.compute_instance for each in inside}, 0),
            uuid=f"MIG-{uuid.uuid5(uuid.NAMESPACE_OID, f'{handle.gpu.uuid}/{next(self._serial)}')}",
            attributes=profile.attributes(slices),
            compute_start=used,
            processes=[],
            errors={},
        )
        if not inside:
            handle.gpu.instances.remove(handle.instance)
            handle.instance = made
        handle.gpu.instances.append(made)
        self._mig.changed()
        self._mig.hand_out(part, Part(handle.gpu, made, Kind.COMPUTE_INSTANCE))

    def nvmlGpuInstanceGetComputeInstanceById(self, handle: Part, number: int, part: object) -> None:  # noqa: N802
        found = next((item for item in _siblings(handle) if item.compute_instance == number), None)
        if found is None:
            raise Refused(pynvml.NVML_ERROR_NOT_FOUND)
        self._mig.hand_out(part, Part(handle.gpu, found, Kind.COMPUTE_INSTANCE))

    def nvmlComputeInstanceGetInfo_v2(self, handle: Part, info: object) -> None:  # noqa: N802
        behind(info).id = handle.instance.compute_instance
        behind(info).placement.start = handle.instance.compute_start
        device = self._mig.handle(Part(handle.gpu, handle.instance))
        behind(info).device = pynvml.cast(device, pynvml.c_nvmlDevice_t)

    def nvmlComputeInstanceDestroy(self, handle: Part) -> None:  # noqa: N802
        if handle.instance.processes:
            raise Refused(pynvml.NVML_ERROR_IN_USE)
        if len(_siblings(handle)) > 1:
            handle.gpu.instances.remove(handle.instance)
        else:
            handle.instance.slot, handle.instance.compute_instance, handle.instance.uuid = NO_SLOT, None, ""
        self._mig.changed()

    # -- MIG devices ------------------------------------------------------------------------------------------------

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: FakeGpu, count: object) -> None:  # noqa: N802
        behind(count).value = SLOTS if handle.mig else 0

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: FakeGpu, index: Any, device: object) -> None:  # noqa: N802
        instance = next((item for item in handle.instances if item.slot == index.value), None)
        if instance is None:
            raise Refused(pynvml.NVML_ERROR_NOT_FOUND)
        code = instance.errors.get("nvmlDeviceGetMigDeviceHandleByIndex")
        if code is not None:
            raise Refused(code)
        self._mig.hand_out(device, Part(handle, instance))

    def nvmlDeviceGetGpuInstanceId(self, handle: Part, number: object) -> None:  # noqa: N802
        behind(number).value = handle.instance.gpu_instance

    def nvmlDeviceGetComputeInstanceId(self, handle: Part, number: object) -> None:  # noqa: N802
        behind(number).value = handle.instance.compute_instance

    def nvmlDeviceGetAttributes_v2(self, handle: FakeGpu | Part, attributes: object) -> None:  # noqa: N802
        if isinstance(handle, FakeGpu):
            raise Refused(pynvml.NVML_ERROR_NOT_SUPPORTED)
        for name, value in handle.instance.attributes.items():
            setattr(behind(attributes), name, value)

    def nvmlDeviceGetComputeRunningProcesses_v3(  # noqa: N802
        self, handle: FakeGpu | Part, count: object, found: Any
    ) -> None:
        pids = handle.clients if isinstance(handle, FakeGpu) else handle.instance.processes
        room, behind(count).value = behind(count).value, len(pids)
        if room < len(pids):
            raise Refused(pynvml.NVML_ERROR_INSUFFICIENT_SIZE)
        for position, pid in enumerate(pids):
            found[position].pid = pid


def _require_mig(gpu: FakeGpu) -> None:
    if not gpu.mig:
        raise Refused(pynvml.NVML_ERROR_NOT_SUPPORTED)


def _by_id(gpu: FakeGpu, number: int) -> FakeProfile:
    found = next((profile for profile in gpu.profiles if profile.id == number), None)
    if found is None:
        raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    return found


def _profile_of(gpu: FakeGpu, instance: FakeInstance) -> FakeProfile:
    name = instance.profile.rpartition("c.")[2]
    return next(profile for profile in gpu.profiles if profile.name == name)


def _siblings(part: Part) -> list[FakeInstance]:
    """Return what shares the GPU instance of a handle, itself included."""
    return [each for each in part.gpu.instances if each.gpu_instance == part.instance.gpu_instance]


def _is_taken(gpu: FakeGpu, start: int, size: int) -> bool:
    return any(start < each.start + each.size and each.start < start + size for each in gpu.instances)


def _has_left(gpu: FakeGpu, profile: FakeProfile) -> bool:
    """Whether the GPU has engines and multiprocessors for one more: it has as many as its largest profile."""
    there = {each.gpu_instance: _profile_of(gpu, each).amounts() for each in gpu.instances}
    most = [max(column) for column in zip(*(each.amounts() for each in gpu.profiles), strict=True)]
    used = [sum(column) for column in zip(profile.amounts(), *there.values(), strict=True)]
    return all(amount <= limit for amount, limit in zip(used, most, strict=True))


def _lowest(taken: set[int] | set[int | None], first: int) -> int:
    return next(number for number in itertools.count(first) if number not in taken)
