"""The fake refuses what NVML refuses, so that tests built on it can fail."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pynvml
import pytest

from tests.fakes.nvml.hardware import load_node
from tests.fakes.nvml.library import FakeLibrary, FakeLoader


@pytest.fixture
def library() -> Iterator[FakeLibrary]:
    """Return a fake as the library of the bindings."""
    fake = FakeLibrary(load_node("a100-mig"))
    pynvml.nvmlLib = fake
    pynvml._nvmlGetFunctionPointer_cache.clear()
    yield fake
    pynvml.nvmlLib = None
    pynvml._nvmlGetFunctionPointer_cache.clear()


def test_nothing_works_outside_of_a_session(library: FakeLibrary) -> None:
    with pytest.raises(pynvml.NVMLError_Uninitialized):
        pynvml.nvmlDeviceGetCount()
    pynvml.nvmlInit()
    assert pynvml.nvmlDeviceGetCount() == 4
    pynvml.nvmlShutdown()
    with pytest.raises(pynvml.NVMLError_Uninitialized):
        pynvml.nvmlDeviceGetCount()
    assert library.open == 0


def test_handles_end_with_their_session(library: FakeLibrary) -> None:
    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    assert pynvml.nvmlDeviceGetUUID(handle) == library.node.gpus[0].uuid
    pynvml.nvmlShutdown()
    pynvml.nvmlInit()
    with pytest.raises(pynvml.NVMLError_InvalidArgument):
        pynvml.nvmlDeviceGetUUID(handle)


def test_handles_that_were_never_given_are_refused(library: FakeLibrary) -> None:
    pynvml.nvmlInit()
    with pytest.raises(pynvml.NVMLError_InvalidArgument):
        pynvml.nvmlDeviceGetHandleByIndex(4)
    with pytest.raises(pynvml.NVMLError_InvalidArgument):
        pynvml.nvmlDeviceGetName(pynvml.c_nvmlDevice_t())
    assert library.handles == {}


def test_structures_of_another_version_are_refused(library: FakeLibrary) -> None:
    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    info = pynvml.c_nvmlGpuFabricInfo_v3_t()
    with pytest.raises(pynvml.NVMLError_ArgumentVersionMismatch):
        pynvml.nvmlDeviceGetGpuFabricInfoV(handle, ctypes.byref(info))
    assert "nvmlDeviceGetGpuFabricInfoV" in library.calls


def test_a_missing_function_and_an_unknown_code(library: FakeLibrary) -> None:
    pynvml.nvmlInit()
    library.absent.add("nvmlDeviceGetName")
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    with pytest.raises(pynvml.NVMLError_FunctionNotFound):
        pynvml.nvmlDeviceGetName(handle)
    library.node.gpus[0].errors["nvmlDeviceGetUUID"] = 4711
    with pytest.raises(pynvml.NVMLError, match="fake error 4711"):
        pynvml.nvmlDeviceGetUUID(handle)


def test_mig_devices_are_no_gpus_and_gpus_no_mig_devices(library: FakeLibrary) -> None:
    pynvml.nvmlInit()
    gpu = pynvml.nvmlDeviceGetHandleByIndex(1)
    part = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, 2)
    assert pynvml.nvmlDeviceGetName(part) == "NVIDIA A100-SXM4-80GB MIG 1g.10gb"
    assert pynvml.nvmlDeviceGetAttributes_v2(part).memorySizeMB == 9728
    with pytest.raises(pynvml.NVMLError_NotSupported):
        pynvml.nvmlDeviceGetAttributes_v2(gpu)
    with pytest.raises(pynvml.NVMLError_NotSupported):
        pynvml.nvmlDeviceGetNumGpuCores(gpu)
    with pytest.raises(pynvml.NVMLError_NotFound):
        pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, 3)
    assert pynvml.nvmlDeviceGetMaxMigDeviceCount(gpu) == 7
    assert library.node.gpus[1].mig is True


def test_a_lost_gpu_and_its_mig_devices_answer_nothing(library: FakeLibrary) -> None:
    pynvml.nvmlInit()
    gpu = pynvml.nvmlDeviceGetHandleByIndex(1)
    part = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, 0)
    library.node.gpus[1].lose()
    for handle in (gpu, part):
        with pytest.raises(pynvml.NVMLError_GpuIsLost):
            pynvml.nvmlDeviceGetUUID(handle)
    assert pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(0))


def test_a_library_in_use_is_not_unloaded() -> None:
    fake = FakeLibrary(load_node("t4"))
    loader = FakeLoader({"/x": fake})
    with pytest.raises(OSError, match="cannot open shared object file"):
        loader.open("/y")
    library = loader.open("/x")
    library.open = 1
    with pytest.raises(AssertionError):
        loader.close(library)
