"""The gate to NVML: sessions, and errors that say what to do."""

from __future__ import annotations

import threading
from pathlib import Path

import pynvml
import pytest

from driver.model.errors import DriverError, Forbidden, NotFound, Unavailable, Unsupported
from driver.vendors.nvidia import nvml
from driver.vendors.nvidia.libraries import DynamicLoader
from tests.fakes.nvml.hardware import FakeNode, load_node
from tests.fakes.nvml.library import FakeLibrary, FakeLoader

PATH = "/driver/libnvidia-ml.so.580.126.09"


@pytest.fixture
def library() -> FakeLibrary:
    return FakeLibrary(load_node("t4"))


@pytest.fixture
def loader(library: FakeLibrary) -> FakeLoader:
    return FakeLoader({PATH: library})


def test_a_session_is_closed_at_its_end(library: FakeLibrary, loader: FakeLoader) -> None:
    with nvml.session(PATH, loader) as session:
        assert (library.open, loader.opened) == (1, 1)
        assert session.count() == 2
    assert (library.open, loader.opened) == (0, 0)
    assert pynvml.nvmlLib is None


def test_a_session_is_closed_when_its_user_fails(library: FakeLibrary, loader: FakeLoader) -> None:
    with pytest.raises(RuntimeError, match="mine"), nvml.session(PATH, loader):
        raise RuntimeError("mine")
    assert (library.open, loader.opened) == (0, 0)


def test_a_shutdown_that_fails_hides_nothing_and_holds_nothing(library: FakeLibrary, loader: FakeLoader) -> None:
    with nvml.session(PATH, loader) as session:
        assert session.count() == 2
        library.errors["nvmlShutdown"] = pynvml.NVML_ERROR_UNKNOWN
        library.open = 0
    assert loader.opened == 0
    assert pynvml.nvmlLib is None


def test_gpus_that_all_went_elsewhere_do_not_stop_the_session(library: FakeLibrary, loader: FakeLoader) -> None:
    library.node.gpus.clear()
    with nvml.session(PATH, loader) as session:
        assert session.count() == 0
    assert library.flags == [pynvml.NVML_INIT_FLAG_NO_GPUS]


@pytest.mark.parametrize(
    "code",
    [
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_UNKNOWN,
        pynvml.NVML_ERROR_NO_DATA,
    ],
)
def test_a_driver_that_does_not_start_is_waited_for(library: FakeLibrary, loader: FakeLoader, code: int) -> None:
    library.errors["nvmlInitWithFlags"] = code
    with pytest.raises(Unavailable, match=f"cannot be initialised: .*NVML error {code}"), nvml.session(PATH, loader):
        pytest.fail("no session without a driver")
    assert (library.open, loader.opened) == (0, 0)


def test_a_library_that_is_not_there_is_waited_for(loader: FakeLoader) -> None:
    with pytest.raises(Unavailable, match=r"/elsewhere\.so cannot be loaded"), nvml.session("/elsewhere.so", loader):
        pytest.fail("no session without a library")


def test_the_real_loader_says_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    path = tmp_path / "libnvidia-ml.so.1"
    path.write_text("not a library")
    with (
        pytest.raises(Unavailable, match=r"cannot be loaded: .*libnvidia-ml"),
        nvml.session(str(path), DynamicLoader()),
    ):
        pytest.fail("no session without a library")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (pynvml.NVML_ERROR_UNINITIALIZED, Unavailable),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, Unavailable),
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, Unavailable),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, Unavailable),
        (pynvml.NVML_ERROR_NOT_SUPPORTED, Unsupported),
        (pynvml.NVML_ERROR_FUNCTION_NOT_FOUND, Unsupported),
        (pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH, Unsupported),
        (pynvml.NVML_ERROR_DEPRECATED, Unsupported),
        (pynvml.NVML_ERROR_NOT_FOUND, NotFound),
        (pynvml.NVML_ERROR_INVALID_ARGUMENT, NotFound),
        (pynvml.NVML_ERROR_NO_PERMISSION, Forbidden),
        (pynvml.NVML_ERROR_GPU_IS_LOST, nvml.DeviceFault),
        (pynvml.NVML_ERROR_RESET_REQUIRED, nvml.DeviceFault),
        (pynvml.NVML_ERROR_TIMEOUT, nvml.DeviceFault),
        (pynvml.NVML_ERROR_UNKNOWN, nvml.DeviceFault),
        (pynvml.NVML_ERROR_IN_USE, nvml.InUse),
        (pynvml.NVML_ERROR_INSUFFICIENT_RESOURCES, nvml.Exhausted),
        (4711, nvml.DeviceFault),
    ],
)
def test_an_error_says_what_to_do(library: FakeLibrary, loader: FakeLoader, code: int, kind: type[DriverError]) -> None:
    library.node.gpus[0].errors["nvmlDeviceGetUUID"] = code
    with nvml.session(PATH, loader) as session:
        device = session.device(0)
        with pytest.raises(DriverError) as caught:
            device.uuid()
    assert type(caught.value) is kind
    assert str(caught.value).startswith("nvmlDeviceGetUUID: ")
    assert f"(NVML error {code})" in str(caught.value)
    assert isinstance(caught.value.__cause__, pynvml.NVMLError)
    lost = code in (pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED)
    assert getattr(caught.value, "lost", False) is lost


def test_a_function_that_the_driver_lacks_is_unsupported(library: FakeLibrary, loader: FakeLoader) -> None:
    library.absent.add("nvmlDeviceGetArchitecture")
    with nvml.session(PATH, loader) as session, pytest.raises(Unsupported, match="nvmlDeviceGetArchitecture"):
        session.device(0).architecture()


def test_the_functions_of_one_library_are_not_called_in_another(library: FakeLibrary) -> None:
    """The bindings remember functions by name: after a driver upgrade they would be those of the old file."""
    newer = FakeLibrary(FakeNode(gpus=library.node.gpus, driver_version="590.1"))
    loader = FakeLoader({"/old": library, "/new": newer})
    versions = []
    for path in ("/old", "/new", "/old"):
        with nvml.session(path, loader) as session:
            versions.append(session.driver_version())
    assert versions == ["580.126.09", "590.1", "580.126.09"]
    assert newer.calls == ["nvmlInitWithFlags", "nvmlSystemGetDriverVersion", "nvmlShutdown"]


def test_one_session_at_a_time(library: FakeLibrary, loader: FakeLoader) -> None:
    inside, most = 0, 0
    lock = threading.Lock()

    def look() -> None:
        nonlocal inside, most
        with nvml.session(PATH, loader) as session:
            with lock:
                inside += 1
                most = max(most, inside)
            assert session.count() == 2
            with lock:
                inside -= 1

    threads = [threading.Thread(target=look) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert (library.open, loader.opened) == (0, 0)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("0000:1a:00.0", "0000:1a:00.0"),
        ("0008:01:00.0", "0008:01:00.0"),
        ("10000:e1:00.0", "10000:e1:00.0"),
        ("0000:3b:1f.7", "0000:3b:1f.7"),
    ],
)
def test_addresses_are_those_of_sysfs(library: FakeLibrary, loader: FakeLoader, address: str, expected: str) -> None:
    library.node.gpus[0].address = address
    with nvml.session(PATH, loader) as session:
        assert session.device(0).pci_address() == expected


def test_architectures_that_the_bindings_do_not_know_have_no_name(library: FakeLibrary, loader: FakeLoader) -> None:
    library.node.gpus[0].architecture = pynvml.NVML_DEVICE_ARCH_UNKNOWN
    library.node.gpus[1].architecture = 4711
    with nvml.session(PATH, loader) as session:
        assert [session.device(index).architecture() for index in (0, 1)] == [None, None]


def test_every_link_version_of_the_bindings_has_a_generation() -> None:
    known = {
        getattr(pynvml, name): int(name.split("_")[3])
        for name in dir(pynvml)
        if name.startswith("NVML_NVLINK_VERSION_") and name != "NVML_NVLINK_VERSION_INVALID"
    }
    assert known
    assert known.items() <= nvml.NVLINK_GENERATIONS.items()
