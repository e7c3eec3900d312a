"""A text that changes when another look at the hardware is worthwhile.

Called every second or two by way of vendor.py: a few folders and small files, no library, no device. GPUs that come,
go or change their kernel driver; a kernel module of another version; MIG instances; device nodes; another library.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from driver.contract import Roots
from driver.model.errors import Unavailable
from driver.vendors.nvidia.driver_files import Finder
from driver.vendors.nvidia.modes import Remembered
from driver.vendors.nvidia.nodes import Nodes
from driver.vendors.nvidia.pci import Bus

LOOKS_APART: Final = 15
"""Fingerprints from one look to the next while GPUs join a fabric (minutes after boot): half a minute."""


class Fingerprint:
    """Takes fingerprints of one machine. Remembers which PCI functions are GPUs, as long as they stay on the bus."""

    def __init__(self, roots: Roots, bus: Bus, nodes: Nodes, finder: Finder, remembered: Remembered) -> None:
        self._module = Path(roots.sys_root) / "module" / "nvidia"
        self._driver = Path(roots.proc_root) / "driver" / "nvidia"
        self._bus, self._nodes, self._finder, self._remembered = bus, nodes, finder, remembered
        self._gpus: dict[str, bool] = {}
        self._settled, self._calls = True, 0

    def settle(self, *, settled: bool) -> None:
        """Take note of what the last look found. Nothing on disk tells when a GPU has joined its fabric."""
        self._settled = settled

    def take(self) -> str:
        """Return the text, one fact a line. While GPUs are not settled it changes now and then by itself."""
        if not self._settled:
            self._calls += 1
        lines = [
            *([f"look {self._calls // LOOKS_APART}"] if self._calls else []),
            f"module {module_version(self._module)}",
            f"library {self._library()}",
            *(f"gpu {address} {self._bus.driver(address)}" for address in self._addresses()),
            *(f"bound {name}" for name in _names(self._driver / "gpus")),
            *(f"capability {path}" for path in _tree(self._driver / "capabilities")),
            *(f"node {name}" for name in self._nodes.names()),
            *(f"refused {address}" for address in self._remembered.refusals()),
        ]
        return "\n".join(lines)

    def _addresses(self) -> list[str]:
        known = self._gpus
        self._gpus = {
            address: known[address] if address in known else self._bus.is_gpu(address)
            for address in self._bus.addresses()
        }
        return [address for address, is_gpu in self._gpus.items() if is_gpu]

    def _library(self) -> str:
        """Name the library; in passing, the driver's files are kept known for the next claim."""
        try:
            found = self._finder.files()
            status = Path(found.root.here(found.nvml)).stat()
        except (Unavailable, OSError):
            return "none"
        return f"{found.root.on_host(found.nvml)} {status.st_mtime_ns} {status.st_ino}"


def module_version(module: Path) -> str | None:
    """Return the version of the loaded kernel module; None if it is not loaded, or where there is none (WSL)."""
    try:
        return (module / "version").read_text(encoding="ascii", errors="replace").strip() or None
    except OSError:
        return None


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError:
        return []


def _tree(folder: Path, prefix: str = "", depth: int = 4) -> list[str]:
    """Return the folders below, sorted: gpu0, gpu0/mig, gpu0/mig/gi1, gpu0/mig/gi1/ci0."""
    found: list[str] = []
    for name in _names(folder):
        if depth and (folder / name).is_dir():
            found += [f"{prefix}{name}", *_tree(folder / name, f"{prefix}{name}/", depth - 1)]
    return found
