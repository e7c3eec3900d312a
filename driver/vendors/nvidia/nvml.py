"""A typed gate to the NVIDIA Management Library: sessions, and what one GPU tells. For MIG see nvml_mig.py.

Called by vendor.py with the path of the library that belongs to the driver of this node. A session loads it,
initialises it, and takes all of it back on the way out: between sessions no library is mapped and no file under /dev
is open, so that the driver can be reloaded or replaced. pynvml keeps its state in module globals, hence one session
at a time in this process. No error of pynvml leaves the two files: see `mapped`.

Facts about calls are those of nvml.h (go-nvml 2f9e261, NVML 13).
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, TypeVar

import pynvml

from driver.model import errors
from driver.model.devices import Fabric, Remote
from driver.vendors.nvidia.libraries import Loader

_T = TypeVar("_T")
_SESSION: Final = threading.Lock()

_DRIVER_AWAY: Final = frozenset(
    {
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    }
)
_NO_SUCH_FEATURE: Final = frozenset(
    {
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
        pynvml.NVML_ERROR_DEPRECATED,
    }
)
_NO_SUCH_THING: Final = frozenset({pynvml.NVML_ERROR_NOT_FOUND, pynvml.NVML_ERROR_INVALID_ARGUMENT})
_LOST: Final = frozenset({pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED})

NVLINK_GENERATIONS: Final = {1: 1, 2: 2, 3: 2, 4: 3, 5: 3, 6: 4, 7: 5, 8: 6}
"""nvmlDeviceGetNvLinkVersion answers with an enumeration (nvmlNvlinkVersion_t), not a generation: A100 says 5 (3.1)."""

_REMOTES: Final = {
    pynvml.NVML_NVLINK_DEVICE_TYPE_GPU: Remote.DEVICE,
    pynvml.NVML_NVLINK_DEVICE_TYPE_SWITCH: Remote.SWITCH,
}
_FABRIC_PENDING: Final = (pynvml.NVML_GPU_FABRIC_STATE_NOT_STARTED, pynvml.NVML_GPU_FABRIC_STATE_IN_PROGRESS)
_ARCHITECTURES: Final = {
    getattr(pynvml, constant): constant.removeprefix("NVML_DEVICE_ARCH_").title()
    for constant in dir(pynvml)
    if constant.startswith("NVML_DEVICE_ARCH_") and constant != "NVML_DEVICE_ARCH_UNKNOWN"
} | {pynvml.NVML_DEVICE_ARCH_ADA: "Ada Lovelace"}
"""From the bindings, so that a newer nvidia-ml-py brings newer names."""
_VIRTUAL_HOSTS: Final = (pynvml.NVML_GPU_VIRTUALIZATION_MODE_HOST_VGPU, pynvml.NVML_GPU_VIRTUALIZATION_MODE_HOST_VSGA)

COMPUTE_MODES: Final = {
    "Default": pynvml.NVML_COMPUTEMODE_DEFAULT,
    "ExclusiveProcess": pynvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS,
    "Prohibited": pynvml.NVML_COMPUTEMODE_PROHIBITED,
}


class DeviceFault(errors.DriverError):
    """One GPU answered with an error; the others may be well. `lost`: no other call to it can succeed."""

    def __init__(self, message: str, *, lost: bool = False) -> None:
        self.lost = lost
        super().__init__(message)


class InUse(DeviceFault):
    """The GPU, or the part of it, is in use: by a process, or by what it consists of (NVML_ERROR_IN_USE)."""


class Exhausted(DeviceFault):
    """The GPU has not enough of something left (NVML_ERROR_INSUFFICIENT_RESOURCES)."""


_KINDS: Final[Mapping[int, Callable[[str], errors.DriverError]]] = {
    **dict.fromkeys(_NO_SUCH_FEATURE, errors.Unsupported),
    **dict.fromkeys(_DRIVER_AWAY, errors.Unavailable),
    **dict.fromkeys(_NO_SUCH_THING, errors.NotFound),
    pynvml.NVML_ERROR_NO_PERMISSION: errors.Forbidden,
    pynvml.NVML_ERROR_IN_USE: InUse,
    pynvml.NVML_ERROR_INSUFFICIENT_RESOURCES: Exhausted,
}


@contextlib.contextmanager
def session(path: str, loader: Loader) -> Iterator[Session]:
    """Load the library at `path`, initialise it, and undo both at the end. Waits for a session of another thread.

    Raises `Unavailable` if the library cannot be loaded or the driver does not answer.
    """
    with _SESSION:
        try:
            library = loader.open(path)
        except OSError as error:
            raise errors.Unavailable(f"{path} cannot be loaded: {error}") from error
        try:
            _install(library)
            _initialise(path)
            try:
                yield Session()
            finally:
                with contextlib.suppress(pynvml.NVMLError):
                    pynvml.nvmlShutdown()
        finally:
            _install(None)
            loader.close(library)


def _install(library: object | None) -> None:
    """Make this the library that pynvml calls; it remembers functions of the one before."""
    pynvml.nvmlLib = library
    pynvml._nvmlGetFunctionPointer_cache.clear()  # noqa: SLF001 - functions of the old library must not be called


def _initialise(path: str) -> None:
    """Initialise NVML, also on a node whose GPUs all went elsewhere (NO_GPUS). Any failure means: not now."""
    try:
        pynvml.nvmlInitWithFlags(pynvml.NVML_INIT_FLAG_NO_GPUS)
    except pynvml.NVMLError as error:
        raise errors.Unavailable(f"NVML ({path}) cannot be initialised: {_text(error)}") from error


def _text(error: Exception) -> str:
    code = getattr(error, "value", None)
    return f"{error} (NVML error {code})" if isinstance(code, int) else str(error)


def mapped(function: str, error: Exception) -> errors.DriverError:
    """Translate an error of pynvml: what the caller shall do decides the type."""
    code = getattr(error, "value", None)
    text = f"{function}: {_text(error)}"
    if isinstance(error, UnicodeDecodeError):
        return DeviceFault(f"{function}: the answer is not text ({error.reason})")
    if isinstance(error, pynvml.NVMLLibraryMismatchError):
        return errors.Unsupported(text)
    kind = _KINDS.get(code) if isinstance(code, int) else None
    return kind(text) if kind else DeviceFault(text, lost=code in _LOST)


def call(function: Callable[..., _T], *arguments: object) -> _T:
    """Call pynvml. Raises `Unavailable`, `Unsupported`, `NotFound`, `Forbidden` or `DeviceFault`."""
    try:
        return function(*arguments)
    except (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError, UnicodeDecodeError) as error:
        raise mapped(function.__name__, error) from error


def integer(function: Callable[..., int], *arguments: object) -> int:
    """Call pynvml for a number. Raises as `call`."""
    return call(function, *arguments)


def _string(function: Callable[..., str], *arguments: object) -> str:
    """Call for a text: printable characters only, one space at most between words."""
    raw = call(function, *arguments)
    return " ".join("".join(char if char.isprintable() else " " for char in raw).split())


class Session:
    """NVML while it is initialised."""

    def driver_version(self) -> str:
        """Return the exact text, such as `580.126.09`."""
        return _string(pynvml.nvmlSystemGetDriverVersion)

    def management_version(self) -> str:
        """Return the version of NVML, such as `13.580.126.09`."""
        return _string(pynvml.nvmlSystemGetNVMLVersion)

    def runtime_version(self) -> str | None:
        """Return the CUDA level of the driver (`13.0`), or None.

        The first call asks libcuda, which the linker may not find from here; the second knows what NVML was built with.
        """
        for function in (pynvml.nvmlSystemGetCudaDriverVersion_v2, pynvml.nvmlSystemGetCudaDriverVersion):
            with contextlib.suppress(errors.DriverError):
                if version := integer(function):
                    return f"{version // 1000}.{version % 1000 // 10}"
        return None

    def count(self) -> int:
        """Return the number of GPUs that the driver lists, those that do not answer included."""
        return integer(pynvml.nvmlDeviceGetCount)

    def device(self, index: int) -> Device:
        """Return the GPU at this index. Raises `DeviceFault` if it does not answer."""
        return Device(call(pynvml.nvmlDeviceGetHandleByIndex, index))

    def device_at(self, address: str) -> Device:
        """Return the GPU at a PCI address; of all GPUs only this one is initialised. Raises `NotFound`, `DeviceFault`.

        A look-up by UUID may have to initialise them all.
        """
        return Device(call(pynvml.nvmlDeviceGetHandleByPciBusId, address))

    def find(self, uuid: str) -> Device:
        """Return the GPU with this UUID. Raises `NotFound` if there is none."""
        return Device(call(pynvml.nvmlDeviceGetHandleByUUID, uuid))


class Device:
    """One GPU or MIG device. Valid while its session is open. `handle` is for pynvml."""

    def __init__(self, handle: object) -> None:
        self.handle = handle

    def pci_address(self) -> str:
        """Return `dddd:bb:dd.f` as sysfs names it."""
        return _address(call(pynvml.nvmlDeviceGetPciInfo_v3, self.handle))

    def uuid(self) -> str:
        """Return `GPU-…` or `MIG-…`."""
        return _string(pynvml.nvmlDeviceGetUUID, self.handle)

    def name(self) -> str:
        """Return the product name; of a MIG device it ends with its profile."""
        return _string(pynvml.nvmlDeviceGetName, self.handle)

    def minor(self) -> int:
        """Return N of /dev/nvidiaN."""
        return integer(pynvml.nvmlDeviceGetMinorNumber, self.handle)

    def memory_bytes(self) -> int | None:
        """Return the size of its memory; a GPU that shares the host's memory has none of its own."""
        total: int = call(pynvml.nvmlDeviceGetMemoryInfo, self.handle).total
        return total or None

    def compute_capability(self) -> tuple[int, int]:
        """Return (major, minor)."""
        version: tuple[int, int] = call(pynvml.nvmlDeviceGetCudaComputeCapability, self.handle)
        return version

    def architecture(self) -> str | None:
        """Return the name of the architecture, or None for one that the bindings do not know."""
        return _ARCHITECTURES.get(integer(pynvml.nvmlDeviceGetArchitecture, self.handle))

    def compute_mode(self) -> str:
        """Return who may use it at a time: one of `COMPUTE_MODES`."""
        mode = integer(pynvml.nvmlDeviceGetComputeMode, self.handle)
        return next((name for name, number in COMPUTE_MODES.items() if number == mode), str(mode))

    def set_compute_mode(self, name: str) -> None:
        """Set it, for processes that begin from now on. `Forbidden` without root."""
        call(pynvml.nvmlDeviceSetComputeMode, self.handle, COMPUTE_MODES[name])

    def cores(self) -> int:
        """Return the number of CUDA cores. `Unsupported` while MIG is enabled."""
        return integer(pynvml.nvmlDeviceGetNumGpuCores, self.handle)

    def memory_nodes(self) -> tuple[int, ...]:
        """Return the host NUMA nodes nearest to it. (nvmlDeviceGetNumaNodeId is about a GPU that *is* a node.)"""
        mask: Iterable[int] = call(
            pynvml.nvmlDeviceGetMemoryAffinity, self.handle, _NODE_WORDS, pynvml.NVML_AFFINITY_SCOPE_NODE
        )
        return tuple(64 * word + bit for word, bits in enumerate(mask) for bit in range(64) if bits >> bit & 1)

    def serves_virtual_machines(self) -> bool:
        """Whether the GPU is in a hypervisor's hands (vGPU host), so that no container can use it."""
        return integer(pynvml.nvmlDeviceGetVirtualizationMode, self.handle) in _VIRTUAL_HOSTS

    def is_virtual(self) -> bool:
        """Whether the GPU is a vGPU: a part of one that a hypervisor gave to this virtual machine."""
        mode = integer(pynvml.nvmlDeviceGetVirtualizationMode, self.handle)
        return bool(mode == pynvml.NVML_GPU_VIRTUALIZATION_MODE_VGPU)

    def fabric(self) -> tuple[Fabric | None, bool]:
        """Return the multi-node fabric it has joined, and whether it is still on its way into one.

        Joined means: registration completed, with success, in a named cluster (one node's own fabric has no name).
        """
        info = pynvml.c_nvmlGpuFabricInfo_v2_t()
        call(pynvml.nvmlDeviceGetGpuFabricInfoV, self.handle, ctypes.byref(info))
        cluster = bytes(info.clusterUuid)
        joined = info.state == pynvml.NVML_GPU_FABRIC_STATE_COMPLETED and info.status == pynvml.NVML_SUCCESS
        found = Fabric(str(uuid.UUID(bytes=cluster)), int(info.cliqueId)) if joined and any(cluster) else None
        return found, info.state in _FABRIC_PENDING

    def link_active(self, link: int) -> bool | None:
        """Return whether the link is up; None if the GPU has no such link."""
        try:
            return bool(integer(pynvml.nvmlDeviceGetNvLinkState, self.handle, link))
        except (errors.NotFound, errors.Unsupported):
            return None

    def link_version(self, link: int) -> int | None:
        """Return the generation of NVLink."""
        return NVLINK_GENERATIONS.get(integer(pynvml.nvmlDeviceGetNvLinkVersion, self.handle, link))

    def link_remote(self, link: int) -> Remote:
        """Return what is at the other end."""
        kind = integer(pynvml.nvmlDeviceGetNvLinkRemoteDeviceType, self.handle, link)
        return _REMOTES.get(kind, Remote.UNKNOWN)

    def link_remote_address(self, link: int) -> str | None:
        """Return the PCI address at the other end; None where NVML fills in zeros (switches that are not on PCIe)."""
        info = call(pynvml.nvmlDeviceGetNvLinkRemotePciInfo, self.handle, link)
        address = _address(info)
        return None if address == "0000:00:00.0" else address

    def link_megabytes(self, link: int) -> int | None:
        """Return the signalling rate of one direction in MB/s (NVML_FI_DEV_NVLINK_GET_SPEED, or the link's own field).

        Fields fail one by one: the call succeeds and the value carries its own error.
        """
        fields: list[object] = [(pynvml.NVML_FI_DEV_NVLINK_GET_SPEED, link)]
        if link in _SPEED_FIELDS:
            fields.append(_SPEED_FIELDS[link])
        values = call(pynvml.nvmlDeviceGetFieldValues, self.handle, fields)
        speeds = (_field(value) for value in values if value.nvmlReturn == pynvml.NVML_SUCCESS)
        return next((speed for speed in speeds if speed > 0), None)


_NODE_WORDS: Final = 16
"""Room for 1024 NUMA nodes (CONFIG_NODES_SHIFT of the kernel is at most 10)."""
LINKS: Final[int] = pynvml.NVML_NVLINK_MAX_LINKS
"""Indexes to walk; a GPU has fewer links and an older library refuses higher indexes."""
_SPEED_FIELDS: Final = {link: getattr(pynvml, f"NVML_FI_DEV_NVLINK_SPEED_MBPS_L{link}") for link in range(12)}
"""Fields of drivers that do not know NVML_FI_DEV_NVLINK_GET_SPEED yet; they end at link 11."""
_FIELD_MEMBERS: Final = {
    pynvml.NVML_VALUE_TYPE_UNSIGNED_INT: "uiVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG: "ulVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "ullVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: "sllVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_INT: "siVal",
}


def _field(value: pynvml.c_nvmlFieldValue_t) -> int:
    """Return the member of the union that the value says it uses; 0 for a type that is no integer."""
    member = _FIELD_MEMBERS.get(value.valueType)
    return int(getattr(value.value, member)) if member else 0


def _address(info: pynvml.nvmlPciInfo_t) -> str:
    """Return `dddd:bb:dd.f`: NVML writes eight digits of domain, and capitals."""
    try:
        _rest, dot, function = str(info.busId).rpartition(".")
    except UnicodeDecodeError:
        dot, function = "", ""
    number = function if dot and function.isdigit() else "0"
    return f"{info.domain:04x}:{info.bus:02x}:{info.device:02x}.{number}"
