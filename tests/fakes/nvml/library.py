"""A libnvidia-ml in Python: what pynvml calls, with NVML's arguments, structures and return codes.

Put in place of `pynvml.nvmlLib`, it exercises the real bindings: results go through the pointers they pass. It refuses
what the real one refuses: calls outside of a session, handles of an earlier session, structures of an unknown version.
"""

from __future__ import annotations

import ctypes
import functools
import inspect
from collections.abc import Callable
from typing import Any

import pynvml

from tests.fakes.nvml.calls import Kind, Part, Refused, behind, write_text
from tests.fakes.nvml.hardware import ALL, FakeGpu, FakeNode
from tests.fakes.nvml.mig import MigFunctions
from tests.vendors.machines import Killed

LINKS = 18
"""Links that this library knows of (NVML_NVLINK_MAX_LINKS of a 580 driver)."""
CHANGES = {
    "nvmlDeviceSetMigMode",
    "nvmlDeviceCreateGpuInstanceWithPlacement",
    "nvmlGpuInstanceCreateComputeInstance",
    "nvmlGpuInstanceDestroy",
    "nvmlComputeInstanceDestroy",
}
"""Functions that change the hardware."""
SPEED_FIELDS = {getattr(pynvml, f"NVML_FI_DEV_NVLINK_SPEED_MBPS_L{link}"): link for link in range(12)}


class Function:
    """A foreign function: pynvml calls it and sets attributes such as `restype` on it."""

    restype: object = None

    def __init__(self, call: Callable[..., bytes | None]) -> None:
        self._call = call

    def __call__(self, *arguments: object) -> int | bytes:
        try:
            answer = self._call(*arguments)
        except Refused as refused:
            return refused.code
        return pynvml.NVML_SUCCESS if answer is None else answer


class FakeLibrary:
    """One loaded library. Functions are found as attributes; those in `absent` do not exist (an older driver)."""

    def __init__(self, node: FakeNode) -> None:
        self.node = node
        self.absent: set[str] = set()
        self.errors: dict[str, int] = {}
        self.calls: list[str] = []
        self.flags: list[int] = []
        """What each nvmlInitWithFlags was given."""
        self.open = 0
        """Sessions: nvmlInit less nvmlShutdown."""
        self.handles: dict[int, FakeGpu | Part] = {}
        self.changed: Callable[[], None] = _ignore
        """Called when MIG devices came or went, as the kernel changes its files then."""
        self.survives: int | None = None
        """How many calls the process lives on to make; the one after them ends it."""
        self.changes: int | None = None
        """The same for calls that change the hardware."""
        self.dead = False
        self.replaced: dict[str, Callable[..., bytes | None]] = {}
        """Functions of a test's own, called in place of those with these names."""
        self.profile_count: int = pynvml.NVML_GPU_INSTANCE_PROFILE_COUNT
        """How many numbers of profiles it knows."""
        self._next = 0x1000
        self._functions = _Functions(self)

    def revive(self) -> None:
        """Let a new process begin."""
        self.dead, self.survives, self.changes, self.open = False, None, None, 0
        self.handles.clear()

    def _live(self, name: str) -> None:
        """Live on to make one more call, or end before it has an effect."""
        if self.survives == 0 or (self.changes == 0 and name in CHANGES):
            self.dead = True
        if self.dead:
            raise Killed(name)
        if self.survives is not None:
            self.survives -= 1
        if self.changes is not None and name in CHANGES:
            self.changes -= 1

    def __getattr__(self, name: str) -> Function:
        implementation = getattr(type(self._functions), name, None)
        if not name.startswith("nvml") or implementation is None or name in self.absent:
            raise AttributeError(name)
        return Function(functools.partial(self._checked, name, implementation))

    def _checked(self, name: str, implementation: Callable[..., bytes | None], *arguments: object) -> bytes | None:
        self._live(name)
        self.calls.append(name)
        if name in self.errors:
            raise Refused(self.errors[name])
        if self.open == 0 and name not in ("nvmlInitWithFlags", "nvmlErrorString"):
            raise Refused(pynvml.NVML_ERROR_UNINITIALIZED)
        if _takes_handle(implementation):
            arguments = (self._look_up(name, arguments[0]), *arguments[1:])
        if name in self.replaced:
            return self.replaced[name](*arguments)
        return implementation(self._functions, *arguments)

    def function(self, name: str) -> Callable[..., bytes | None]:
        """Return a function as it is without replacements."""
        implementation: Callable[..., bytes | None] = getattr(self._functions, name)
        return implementation

    def _look_up(self, name: str, handle: object) -> FakeGpu | Part:
        number = ctypes.cast(handle, ctypes.c_void_p).value  # type: ignore[arg-type] # bindings are not typed
        found = self.handles.get(number or 0)
        if found is None or (isinstance(found, Part) and not found.exists()):
            raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        owners = (found, found.gpu, found.instance) if isinstance(found, Part) else (found,)
        for owner in owners:
            errors = getattr(owner, "errors", {})
            code = errors.get(name, errors.get(ALL))
            if code is not None and not (_is_mig_device(found) and isinstance(owner, FakeGpu) and name in errors):
                raise Refused(code)
        return found

    def hand_out(self, target: object, thing: FakeGpu | Part) -> None:
        """Write a new handle through a pointer to a pointer."""
        ctypes.c_void_p.from_buffer(behind(target)).value = self.handle(thing)

    def handle(self, thing: FakeGpu | Part) -> int:
        """Return a new handle."""
        self._next += 8
        self.handles[self._next] = thing
        return self._next


class FakeLoader:
    """Opens fake libraries by path; `opened` counts those that are not closed again."""

    def __init__(self, libraries: dict[str, FakeLibrary]) -> None:
        self.libraries = libraries
        self.opened = 0
        self.paths: list[str] = []

    def open(self, path: str) -> FakeLibrary:
        self.paths.append(path)
        if path not in self.libraries:
            raise OSError(f"{path}: cannot open shared object file")
        self.opened += 1
        return self.libraries[path]

    def close(self, library: object) -> None:
        assert isinstance(library, FakeLibrary)
        assert library.open == 0 or library.dead, "a library is unloaded while it is initialised"
        self.opened -= 1


def _write_address(info: Any, address: str) -> None:
    domain, bus, rest = address.split(":")
    device, function = rest.split(".")
    info.domain, info.bus, info.device = int(domain, 16), int(bus, 16), int(device, 16)
    info.busId = f"{domain:0>8}:{bus}:{device}.{function}".upper().encode()


@functools.cache
def _takes_handle(implementation: Callable[..., bytes | None]) -> bool:
    return "handle" in inspect.signature(implementation).parameters


def _is_mig_device(thing: FakeGpu | Part) -> bool:
    """Whether errors set for calls about the GPU are not meant."""
    return isinstance(thing, Part) and thing.kind is Kind.DEVICE


def _ignore() -> None:
    """Nobody watches."""


class _Functions(MigFunctions):
    """The functions by their names. A first parameter `handle` is looked up before the call."""

    def __init__(self, library: FakeLibrary) -> None:
        super().__init__(library)
        self._library = library

    # -- system -----------------------------------------------------------------------------------------------------

    def nvmlInitWithFlags(self, flags: int) -> None:  # noqa: N802
        self._library.flags.append(flags)
        self._library.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self._library.open -= 1
        if self._library.open == 0:
            self._library.handles.clear()

    def nvmlErrorString(self, code: int) -> bytes:  # noqa: N802
        return f"fake error {code}".encode()

    def nvmlSystemGetDriverVersion(self, buffer: object, _size: object) -> None:  # noqa: N802
        write_text(buffer, self._library.node.driver_version)

    def nvmlSystemGetNVMLVersion(self, buffer: object, _size: object) -> None:  # noqa: N802
        write_text(buffer, self._library.node.management_version)

    def nvmlSystemGetCudaDriverVersion_v2(self, version: object) -> None:  # noqa: N802
        behind(version).value = self._library.node.cuda_version

    def nvmlSystemGetCudaDriverVersion(self, version: object) -> None:  # noqa: N802
        behind(version).value = self._library.node.cuda_version

    def nvmlDeviceGetCount_v2(self, count: object) -> None:  # noqa: N802
        behind(count).value = len(self._library.node.gpus)

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, device: object) -> None:  # noqa: N802
        gpus = self._library.node.gpus
        if index.value >= len(gpus):
            raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        code = gpus[index.value].errors.get("nvmlDeviceGetHandleByIndex_v2")
        if code is not None:
            raise Refused(code)
        self._library.hand_out(device, gpus[index.value])

    def nvmlDeviceGetHandleByUUID(self, uuid: Any, device: object) -> None:  # noqa: N802
        found = next((gpu for gpu in self._library.node.gpus if gpu.uuid.encode() == uuid.value), None)
        if found is None:
            raise Refused(pynvml.NVML_ERROR_NOT_FOUND)
        self._library.hand_out(device, found)

    def nvmlDeviceGetComputeMode(self, handle: FakeGpu, mode: object) -> None:  # noqa: N802
        behind(mode).value = handle.compute_mode

    def nvmlDeviceSetComputeMode(self, handle: FakeGpu, mode: Any) -> None:  # noqa: N802
        if mode.value not in (0, 2, 3):
            raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        handle.compute_mode = mode.value

    def nvmlDeviceGetHandleByPciBusId_v2(self, address: Any, device: object) -> None:  # noqa: N802
        found = [gpu for gpu in self._library.node.gpus if gpu.address == address.value.decode()]
        if not found:
            raise Refused(pynvml.NVML_ERROR_NOT_FOUND)
        code = found[0].errors.get("nvmlDeviceGetHandleByPciBusId_v2", found[0].errors.get(ALL))
        if code is not None:
            raise Refused(code)
        self._library.hand_out(device, found[0])

    # -- one GPU or MIG device --------------------------------------------------------------------------------------

    def nvmlDeviceGetUUID(self, handle: FakeGpu | Part, buffer: object, _size: object) -> None:  # noqa: N802
        write_text(buffer, handle.instance.uuid if isinstance(handle, Part) else handle.uuid)

    def nvmlDeviceGetName(self, handle: FakeGpu | Part, buffer: object, _size: object) -> None:  # noqa: N802
        if isinstance(handle, FakeGpu):
            write_text(buffer, handle.name)
        else:
            write_text(buffer, handle.instance.name or f"{handle.gpu.name!s} MIG {handle.instance.profile}")

    def nvmlDeviceGetPciInfo_v3(self, handle: FakeGpu, info: object) -> None:  # noqa: N802
        _write_address(behind(info), handle.address)

    def nvmlDeviceGetMinorNumber(self, handle: FakeGpu, minor: object) -> None:  # noqa: N802
        behind(minor).value = handle.minor

    def nvmlDeviceGetMemoryInfo(self, handle: FakeGpu, memory: object) -> None:  # noqa: N802
        behind(memory).total = handle.memory

    def nvmlDeviceGetCudaComputeCapability(self, handle: FakeGpu, major: object, minor: object) -> None:  # noqa: N802
        behind(major).value, behind(minor).value = handle.capability

    def nvmlDeviceGetArchitecture(self, handle: FakeGpu, architecture: object) -> None:  # noqa: N802
        behind(architecture).value = handle.architecture

    def nvmlDeviceGetNumGpuCores(self, handle: FakeGpu, cores: object) -> None:  # noqa: N802
        if handle.mig:
            raise Refused(pynvml.NVML_ERROR_NOT_SUPPORTED)
        behind(cores).value = handle.cores

    def nvmlDeviceGetMemoryAffinity(self, handle: FakeGpu, size: int, nodes: object, _scope: object) -> None:  # noqa: N802
        words = behind(nodes)
        for node in handle.memory_nodes:
            assert node < size * 64
            words[node // 64] |= 1 << node % 64

    def nvmlDeviceGetVirtualizationMode(self, handle: FakeGpu, mode: object) -> None:  # noqa: N802
        behind(mode).value = handle.virtualization

    # -- fabric and links -------------------------------------------------------------------------------------------

    def nvmlDeviceGetGpuFabricInfoV(self, handle: FakeGpu, info: object) -> None:  # noqa: N802
        if behind(info).version != pynvml.nvmlGpuFabricInfo_v2:
            raise Refused(pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH)
        self._fabric(handle, behind(info))

    def _fabric(self, gpu: FakeGpu, info: Any) -> None:
        if gpu.fabric is None:
            info.state = pynvml.NVML_GPU_FABRIC_STATE_NOT_SUPPORTED
            return
        for position, byte in enumerate(gpu.fabric.cluster):
            info.clusterUuid[position] = byte
        info.cliqueId, info.state, info.status = gpu.fabric.clique, gpu.fabric.state, gpu.fabric.status

    def nvmlDeviceGetNvLinkState(self, handle: FakeGpu, link: int, active: object) -> None:  # noqa: N802
        if link >= LINKS or (handle.links and link >= len(handle.links)):
            raise Refused(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        if not handle.links:
            raise Refused(pynvml.NVML_ERROR_NOT_SUPPORTED)
        behind(active).value = int(handle.links[link].active)

    def nvmlDeviceGetNvLinkVersion(self, handle: FakeGpu, link: int, version: object) -> None:  # noqa: N802
        behind(version).value = handle.links[link].version

    def nvmlDeviceGetNvLinkRemoteDeviceType(self, handle: FakeGpu, link: int, kind: object) -> None:  # noqa: N802
        self._require_active(handle, link)
        behind(kind).value = handle.links[link].remote_type

    def nvmlDeviceGetNvLinkRemotePciInfo_v2(self, handle: FakeGpu, link: int, info: object) -> None:  # noqa: N802
        self._require_active(handle, link)
        _write_address(behind(info), handle.links[link].remote_address or "0000:00:00.0")

    def nvmlDeviceGetFieldValues(self, handle: FakeGpu, _count: object, values: object) -> None:  # noqa: N802
        for value in behind(values):
            link = SPEED_FIELDS.get(value.fieldId)
            if value.fieldId == pynvml.NVML_FI_DEV_NVLINK_GET_SPEED:
                link = None if "NVML_FI_DEV_NVLINK_GET_SPEED" in self._library.absent else value.scopeId
            if link is None or link >= len(handle.links) or "fields" in handle.errors:
                value.nvmlReturn = pynvml.NVML_ERROR_NOT_SUPPORTED
                continue
            value.nvmlReturn = pynvml.NVML_SUCCESS
            value.valueType = pynvml.NVML_VALUE_TYPE_UNSIGNED_INT
            value.value.uiVal = handle.links[link].megabytes

    def _require_active(self, gpu: FakeGpu, link: int) -> None:
        if not gpu.links[link].active:
            raise Refused(pynvml.NVML_ERROR_NOT_SUPPORTED)
