"""The contract, for NVIDIA.

Called by the node process through driver.contract.Vendor, from several threads. Holds no device and no library
between calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from driver.contract import Roots, Runner, Target
from driver.model.devices import Snapshot
from driver.model.errors import InvalidInput, Unavailable
from driver.model.prepared import Preparation, Step
from driver.vendors.nvidia import discovery, nvml
from driver.vendors.nvidia.driver_files import DriverFiles, Finder
from driver.vendors.nvidia.edits import Planner, find_hook
from driver.vendors.nvidia.fingerprints import Fingerprint, module_version
from driver.vendors.nvidia.libraries import DynamicLoader, Loader, Root
from driver.vendors.nvidia.nodes import Nodes
from driver.vendors.nvidia.pci import Bus

_NAME: Final = "nvidia"
_CDI_HOOK: Final = "cdi-hook"
_NO_HOOK: Final = "none"


def create(roots: Roots, options: Mapping[str, str], runner: Runner) -> Nvidia:  # noqa: ARG001 - has no daemons yet
    """Create the vendor; for its options see `parse_options`."""
    return Nvidia(roots, parse_options(options), DynamicLoader())


def parse_options(options: Mapping[str, str]) -> str | None:
    """Return the value of the one option, `cdi-hook`. Raises `InvalidInput` for any other.

    It is the path on the host of `nvidia-cdi-hook` or `nvidia-ctk`, or `none` to do without; not given: looked for.
    """
    for option in options:
        if option != _CDI_HOOK:
            raise InvalidInput("vendor option", option, _CDI_HOOK)
    hook = options.get(_CDI_HOOK)
    if hook is not None and hook != _NO_HOOK and not hook.startswith("/"):
        raise InvalidInput(f"vendor option {_CDI_HOOK}", hook, f"an absolute path on the host, or {_NO_HOOK}")
    return hook


class Nvidia:
    """GPUs and MIG instances of one machine."""

    def __init__(self, roots: Roots, cdi_hook: str | None, loader: Loader) -> None:
        self._roots, self._cdi_hook, self._loader = roots, cdi_hook, loader
        self._bus, self._nodes = Bus(roots.sys_root), Nodes(roots)
        self._finder = Finder(roots.driver_root, roots.driver_root_mount)
        self._fingerprint = Fingerprint(roots, self._bus, self._nodes, self._finder)
        self._planner = Planner(self._nodes)

    @property
    def name(self) -> str:
        """Return `nvidia`."""
        return _NAME

    def fingerprint(self) -> str:
        """Return a text that changes with GPUs, MIG instances, nodes, kernel module or library."""
        return self._fingerprint.take()

    def snapshot(self) -> Snapshot:
        """Return all GPUs and MIG instances. Raises `Unavailable` while library or driver are away."""
        found = self._finder.installation()
        machine = discovery.Machine(self._bus, Path(self._roots.proc_root), wsl=self._nodes.has_paravirtual())
        with nvml.session(found.root.here(found.nvml), self._loader) as session:
            snapshot, settled = discovery.take(session, machine, _NAME)
        self._fingerprint.settle(settled=settled)
        return snapshot

    def prepare(self, targets: Sequence[Target], done: Sequence[Step] = ()) -> Preparation:  # noqa: ARG002 - there are no steps yet
        """Return nodes, driver files and links for one claim; nothing has to be changed for it.

        Raises `Unavailable` while the driver, a node or a MIG instance is not there.
        """
        files = self._finder.files()
        self._check(files)
        return self._planner.plan(targets, files, self._hook())

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
