"""The contract, for NVIDIA.

Called by the node process through driver.contract.Vendor, from several threads. Holds no device and no library
between calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from driver.contract import Roots, Runner, Steps, Target
from driver.model.devices import Snapshot
from driver.model.errors import InvalidInput, Unavailable, Unsupported
from driver.model.health import HealthEvent
from driver.model.prepared import Preparation, Step
from driver.vendors.nvidia import discovery, health, instances, modes, nvml, partitioning, sharing
from driver.vendors.nvidia.begun import Begun
from driver.vendors.nvidia.driver_files import DriverFiles, Finder
from driver.vendors.nvidia.edits import Planner, find_hook
from driver.vendors.nvidia.fingerprints import Fingerprint, module_version
from driver.vendors.nvidia.kernel_log import KernelLog
from driver.vendors.nvidia.libraries import DynamicLoader, Loader, Root
from driver.vendors.nvidia.mounts import SharedMemory
from driver.vendors.nvidia.mps import Service
from driver.vendors.nvidia.nodes import Nodes
from driver.vendors.nvidia.pci import Bus
from driver.vendors.nvidia.programs import Programs
from driver.vendors.nvidia.sharing import Sharer

_NAME: Final = "nvidia"
_CDI_HOOK: Final = "cdi-hook"
_NO_HOOK: Final = "none"
_MPS_USERS: Final = "mps-users"
_ONE, _MANY = "one", "many"


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of this vendor."""

    cdi_hook: str | None = None
    """Path on the host of `nvidia-cdi-hook` or `nvidia-ctk`, or `none` to do without; None: looked for."""
    many_users: bool = False
    """Whether clients of an MPS daemon may be of several Linux users: they are then not kept apart as users."""


def create(roots: Roots, options: Mapping[str, str], runner: Runner) -> Nvidia:
    """Create the vendor; for its options see `parse_options`."""
    return Nvidia(roots, parse_options(options), DynamicLoader(), runner)


def parse_options(options: Mapping[str, str]) -> Options:
    """Return the options `cdi-hook` and `mps-users` (one or many). Raises `InvalidInput` for any other."""
    for option in options:
        if option not in (_CDI_HOOK, _MPS_USERS):
            raise InvalidInput("vendor option", option, f"{_CDI_HOOK}, {_MPS_USERS}")
    hook, users = options.get(_CDI_HOOK), options.get(_MPS_USERS, _ONE)
    if hook is not None and hook != _NO_HOOK and not hook.startswith("/"):
        raise InvalidInput(f"vendor option {_CDI_HOOK}", hook, f"an absolute path on the host, or {_NO_HOOK}")
    if users not in (_ONE, _MANY):
        raise InvalidInput(f"vendor option {_MPS_USERS}", users, f"{_ONE} or {_MANY}")
    return Options(hook, users == _MANY)


class Nvidia:
    """GPUs and MIG instances of one machine. `pause` is how steps wait, in seconds."""

    def __init__(
        self,
        roots: Roots,
        options: Options,
        loader: Loader,
        runner: Runner,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._roots, self._cdi_hook, self._loader = roots, options.cdi_hook, loader
        self._bus, self._nodes = Bus(roots.sys_root), Nodes(roots)
        self._finder = Finder(roots.driver_root, roots.driver_root_mount)
        self._remembered = modes.Remembered()
        self._fingerprint = Fingerprint(roots, self._bus, self._nodes, self._finder, self._remembered)
        self._planner = Planner(self._nodes)
        mps_root = Path(roots.state_root) / _NAME / "mps"
        service = Service(mps_root, Programs(self._finder), SharedMemory(), options.many_users)
        begun = Begun(roots.state_root)
        machine = partitioning.Machine(self._session, self._bus, self._nodes, self._remembered, begun, pause)
        self._partitioner = partitioning.Partitioner(machine)
        self._listener = health.Listener(
            health.Place(
                log=KernelLog(f"{roots.dev_root_mount.rstrip('/')}/dev/kmsg"),
                memory=Path(roots.state_root) / _NAME / "faults.json",
                life=lambda: health.read_life(roots.sys_root, roots.proc_root),
                find_parts=self._find_parts,
            )
        )
        self._sharer = Sharer(self._session, service, runner)

    @property
    def name(self) -> str:
        """Return `nvidia`."""
        return _NAME

    def fingerprint(self) -> str:
        """Return a text that changes with GPUs, MIG instances, nodes, kernel module or library."""
        return self._fingerprint.take()

    def snapshot(self) -> Snapshot:
        """Return all GPUs and MIG instances. Raises `Unavailable` while library or driver are away."""
        wsl = self._nodes.has_paravirtual()
        machine = discovery.Machine(self._bus, Path(self._roots.proc_root), wsl=wsl, remembered=self._remembered)
        with self._session() as session:
            snapshot, settled = discovery.take(session, machine, _NAME)
        self._fingerprint.settle(settled=settled)
        return snapshot

    def prepare(self, targets: Sequence[Target], done: Sequence[Step] = ()) -> Preparation:
        """Return nodes, driver files and links for one claim, and where its MPS daemons are.

        Raises `Unavailable` while the driver, a node or a MIG instance is not there.
        """
        files = self._finder.files()
        self._check(files)
        made = partitioning.resolve(targets, done)
        return self._sharer.extend(self._planner.plan(made, files, self._hook()), made, done)

    def plan(self, targets: Sequence[Target]) -> tuple[Step, ...]:
        """Return the steps for targets, in the order in which they have to be run."""
        return (*self._partitioner.plan(targets), *self._sharer.plan(targets))

    def run(self, step: Step, done: Sequence[Step]) -> Step:
        """Run a step; see the module that planned it."""
        return self._doer(step).run(step, done)

    def undo(self, step: Step) -> None:
        """Undo a step; see the module that planned it."""
        self._doer(step).undo(step)

    def watch_health(self, stopped: Callable[[], bool]) -> Iterator[HealthEvent]:
        """Yield faults of GPUs and MIG devices, and their end, until `stopped()`. Raises `Unavailable`."""
        return self._listener.listen(stopped)

    def _find_parts(self, address: str, gpu_instance: int, compute_instance: int | None) -> list[str]:
        with self._session() as session:
            return instances.find_parts(session.device_at(address), gpu_instance, compute_instance)

    def _doer(self, step: Step) -> Steps:
        if step.name in partitioning.NAMES:
            return self._partitioner
        if step.name in sharing.NAMES:
            return self._sharer
        raise Unsupported(f"step {step.name} is unknown to {_NAME}: a newer version of the driver has planned it")

    def _session(self) -> AbstractContextManager[nvml.Session]:
        """Return a session with the installed library. Raises `Unavailable` while it is not installed."""
        found = self._finder.installation()
        return nvml.session(found.root.here(found.nvml), self._loader)

    def _check(self, files: DriverFiles) -> None:
        """Libraries of another version than the loaded module do not work in any container."""
        module = module_version(Path(self._roots.sys_root) / "module" / "nvidia")
        if module is not None and files.version is not None and module != files.version:
            raise Unavailable(
                f"the loaded kernel module is {module}, the driver's libraries are {files.version}: "
                "reload the driver or restart the node to finish its upgrade"
            )

    def _hook(self) -> str | None:
        """Return the CDI hook: as told, or as found where the host's own root can be seen."""
        if self._cdi_hook is not None:
            return None if self._cdi_hook == _NO_HOOK else self._cdi_hook
        host, mount = self._roots.driver_root.rstrip("/"), self._roots.driver_root_mount.rstrip("/")
        return find_hook(Root("", mount)) if not host else None
