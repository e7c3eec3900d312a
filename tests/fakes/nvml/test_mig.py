"""The fake's MIG refuses what NVML refuses, and gives ids out again."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pynvml
import pytest

from tests.fakes.nvml.hardware import FakeGpu, load_node
from tests.fakes.nvml.library import FakeLibrary
from tests.vendors.machines import Killed

ONE, TWO, THREE = 19, 14, 9
"""Ids of the profiles of one, two and three slices."""


@pytest.fixture
def library() -> Iterator[FakeLibrary]:
    """Return a fake with eight H100, the first in MIG mode, as the library of the bindings; a session is open."""
    fake = FakeLibrary(load_node("hgx-h100"))
    fake.node.gpus[0].mig = True
    pynvml.nvmlLib = fake
    pynvml._nvmlGetFunctionPointer_cache.clear()
    pynvml.nvmlInit()
    yield fake
    pynvml.nvmlLib = None
    pynvml._nvmlGetFunctionPointer_cache.clear()


@pytest.fixture
def gpu(library: FakeLibrary) -> FakeGpu:
    return library.node.gpus[0]


def open_gpu(index: int = 0) -> object:
    return pynvml.nvmlDeviceGetHandleByIndex(index)


def create(profile: int, start: int, size: int) -> object:
    place = pynvml.c_nvmlGpuInstancePlacement_t(start, size)
    return pynvml.nvmlDeviceCreateGpuInstanceWithPlacement(open_gpu(), profile, ctypes.byref(place))


def add_compute(instance: object, number: int = pynvml.NVML_COMPUTE_INSTANCE_PROFILE_1_SLICE) -> object:
    return pynvml.nvmlGpuInstanceCreateComputeInstance(instance, number)


def test_a_mig_device_from_nothing_to_nothing(gpu: FakeGpu) -> None:
    instance = create(TWO, 4, 2)
    info = pynvml.nvmlGpuInstanceGetInfo(instance)
    assert (info.id, info.profileId, info.placement.start, info.placement.size) == (1, TWO, 4, 2)
    with pytest.raises(pynvml.NVMLError_NotFound):
        pynvml.nvmlDeviceGetMigDeviceHandleByIndex(open_gpu(), 0)
    part = add_compute(instance, pynvml.NVML_COMPUTE_INSTANCE_PROFILE_2_SLICE)
    found = pynvml.nvmlComputeInstanceGetInfo_v2(part)
    device = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(open_gpu(), 0)
    assert pynvml.nvmlDeviceGetUUID(found.device) == pynvml.nvmlDeviceGetUUID(device) == gpu.instances[0].uuid
    assert pynvml.nvmlDeviceGetName(device) == "NVIDIA H100 80GB HBM3 MIG 2g.20gb"
    assert pynvml.nvmlDeviceGetAttributes_v2(device).multiprocessorCount == 32
    pynvml.nvmlComputeInstanceDestroy(part)
    with pytest.raises(pynvml.NVMLError_InvalidArgument):
        pynvml.nvmlComputeInstanceGetInfo_v2(part)
    pynvml.nvmlGpuInstanceDestroy(instance)
    with pytest.raises(pynvml.NVMLError_InvalidArgument):
        pynvml.nvmlGpuInstanceGetInfo(instance)
    assert gpu.instances == []


@pytest.mark.parametrize(("profile", "start", "size"), [(TWO, 1, 2), (TWO, 0, 1), (98, 0, 1), (THREE, 8, 4)])
def test_places_and_profiles_that_do_not_exist(gpu: FakeGpu, profile: int, start: int, size: int) -> None:
    with pytest.raises(pynvml.NVMLError_InvalidArgument):
        create(profile, start, size)
    assert gpu.instances == []


def test_what_overlaps_or_lacks_engines_is_refused(gpu: FakeGpu) -> None:
    create(THREE, 0, 4)
    for start in (0, 2):
        with pytest.raises(pynvml.NVMLError_InsufficientResources):
            create(TWO, start, 2)
    extended = next(each for each in gpu.profiles if each.name == "1g.10gb+me")
    create(extended.id, 4, 1)
    with pytest.raises(pynvml.NVMLError_InsufficientResources):
        create(extended.id, 5, 1)
    assert len(gpu.instances) == 2


def test_nothing_is_made_while_the_mode_is_off(gpu: FakeGpu) -> None:
    gpu.mig = False
    with pytest.raises(pynvml.NVMLError_NotSupported):
        create(ONE, 0, 1)
    with pytest.raises(pynvml.NVMLError_NotSupported):
        pynvml.nvmlDeviceGetGpuInstanceById(open_gpu(), 1)
    with pytest.raises(pynvml.NVMLError_NotSupported):
        pynvml.nvmlDeviceGetGpuInstanceProfileInfo(open_gpu(), 0)
    assert pynvml.nvmlDeviceGetGpuInstanceProfileInfo(open_gpu(), 0, version=1).id == ONE


def test_what_is_in_use_is_not_destroyed(gpu: FakeGpu) -> None:
    instance = create(ONE, 0, 1)
    part = add_compute(instance)
    with pytest.raises(pynvml.NVMLError_InUse):
        pynvml.nvmlGpuInstanceDestroy(instance)
    gpu.instances[0].processes.append(7)
    device = pynvml.nvmlComputeInstanceGetInfo_v2(part).device
    assert [each.pid for each in pynvml.nvmlDeviceGetComputeRunningProcesses_v3(device)] == [7]
    with pytest.raises(pynvml.NVMLError_InUse):
        pynvml.nvmlComputeInstanceDestroy(part)


def test_a_gpu_instance_can_be_divided_until_it_is_used_up(gpu: FakeGpu) -> None:
    instance = create(THREE, 0, 4)
    first, _, third = (add_compute(instance) for _ in range(3))
    with pytest.raises(pynvml.NVMLError_InsufficientResources):
        add_compute(instance)
    assert [each.profile for each in gpu.instances] == ["1c.3g.40gb"] * 3
    assert pynvml.nvmlComputeInstanceGetInfo_v2(third).placement.start == 2
    pynvml.nvmlComputeInstanceDestroy(first)
    assert [each.compute_instance for each in gpu.instances] == [1, 2]


def test_ids_are_given_out_again_and_uuids_are_not(gpu: FakeGpu) -> None:
    seen = set()
    for _ in range(3):
        instance = create(ONE, 6, 1)
        part = add_compute(instance)
        assert pynvml.nvmlGpuInstanceGetInfo(instance).id == 1
        seen.add(gpu.instances[0].uuid)
        pynvml.nvmlComputeInstanceDestroy(part)
        pynvml.nvmlGpuInstanceDestroy(instance)
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("needs_reset", "clients", "status"),
    [
        (False, [], pynvml.NVML_SUCCESS),
        (False, [7], pynvml.NVML_ERROR_IN_USE),
        (True, [], pynvml.NVML_ERROR_RESET_REQUIRED),
    ],
)
def test_a_mode_is_pending_unless_it_is_taken_up(
    gpu: FakeGpu, needs_reset: bool, clients: list[int], status: int
) -> None:
    gpu.needs_reset, gpu.clients = needs_reset, clients
    assert pynvml.nvmlDeviceSetMigMode(open_gpu(), pynvml.NVML_DEVICE_MIG_DISABLE) == status
    current = pynvml.NVML_DEVICE_MIG_DISABLE if status == pynvml.NVML_SUCCESS else pynvml.NVML_DEVICE_MIG_ENABLE
    assert pynvml.nvmlDeviceGetMigMode(open_gpu()) == [current, pynvml.NVML_DEVICE_MIG_DISABLE]
    gpu.reset()
    assert pynvml.nvmlDeviceGetMigMode(open_gpu()) == [pynvml.NVML_DEVICE_MIG_DISABLE] * 2


def test_a_gpu_with_instances_stays_in_its_mode(gpu: FakeGpu) -> None:
    create(ONE, 0, 1)
    status = pynvml.nvmlDeviceSetMigMode(open_gpu(), pynvml.NVML_DEVICE_MIG_DISABLE)
    assert (status, gpu.mig) == (pynvml.NVML_ERROR_IN_USE, True)


def test_a_gpu_without_mig_has_no_mode() -> None:
    fake = FakeLibrary(load_node("t4"))
    pynvml.nvmlLib = fake
    pynvml._nvmlGetFunctionPointer_cache.clear()
    pynvml.nvmlInit()
    with pytest.raises(pynvml.NVMLError_NotSupported):
        pynvml.nvmlDeviceSetMigMode(open_gpu(), pynvml.NVML_DEVICE_MIG_ENABLE)
    with pytest.raises(pynvml.NVMLError_NotSupported):
        pynvml.nvmlDeviceGetGpuInstanceProfileInfo(open_gpu(), 0, version=1)


def test_a_dead_process_makes_no_call(library: FakeLibrary, gpu: FakeGpu) -> None:
    library.survives = 1
    device = open_gpu()
    place = pynvml.c_nvmlGpuInstancePlacement_t(0, 1)
    for _ in range(2):
        with pytest.raises(Killed):
            pynvml.nvmlDeviceCreateGpuInstanceWithPlacement(device, ONE, ctypes.byref(place))
    assert gpu.instances == []
    library.revive()
    pynvml.nvmlInit()
    create(ONE, 0, 1)
    assert len(gpu.instances) == 1


def test_the_kernel_is_told_of_each_change(library: FakeLibrary) -> None:
    told: list[int] = []
    library.changed = lambda: told.append(len(library.node.gpus[0].instances))
    instance = create(ONE, 0, 1)
    part = add_compute(instance)
    pynvml.nvmlComputeInstanceDestroy(part)
    pynvml.nvmlGpuInstanceDestroy(instance)
    assert told == [1, 1, 1, 0]
