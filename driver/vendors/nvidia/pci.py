"""What sysfs tells about PCI devices: kind, driver, NUMA node, root complex.

Called by discovery.py, links.py and fingerprints.py. Reads small files, opens no device, never fails: a fact that
cannot be read is None.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from driver.model.devices import Remote

_VENDOR: Final = "0x10de"
_DISPLAY: Final = "0x03"
"""PCI base class 03 is a display controller: 0300 with, 0302 without a monitor (PCI Code and ID Assignment)."""
_BRIDGE: Final = "0x0680"
"""NVSwitches present themselves as `other bridge`."""
_ROOT: Final = re.compile(r"pci[0-9a-f]{4,}:[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class Gpu:
    """A physical GPU of NVIDIA on the PCI bus, whatever drives it."""

    address: str
    driver: str | None
    """The kernel driver it is bound to: `nvidia`, `vfio-pci`, `nouveau`, …"""


class Bus:
    """The PCI bus below one sysfs."""

    def __init__(self, sys_root: str) -> None:
        self._devices = Path(sys_root) / "bus" / "pci" / "devices"

    def addresses(self) -> list[str]:
        """Return all functions on the bus, sorted."""
        try:
            return sorted(path.name for path in self._devices.iterdir())
        except OSError:
            return []

    def is_gpu(self, address: str) -> bool:
        """Whether this function is a GPU of NVIDIA (not its audio, not a switch)."""
        return self._read(address, "vendor") == _VENDOR and (self._read(address, "class") or "").startswith(_DISPLAY)

    def driver(self, address: str) -> str | None:
        """Return the name of the kernel driver that it is bound to."""
        try:
            return (self._devices / address / "driver").readlink().name
        except OSError:
            return None

    def gpus(self) -> list[Gpu]:
        """Return all physical GPUs; virtual functions belong to a hypervisor."""
        return [
            Gpu(address, self.driver(address))
            for address in self.addresses()
            if self.is_gpu(address) and not (self._devices / address / "physfn").exists()
        ]

    def has(self, address: str) -> bool:
        """Whether sysfs knows the device."""
        return (self._devices / address).is_dir()

    def numa_node(self, address: str) -> int | None:
        """Return the NUMA node; the kernel writes -1 where the firmware does not tell."""
        text = self._read(address, "numa_node")
        return int(text) if text is not None and text.isdigit() else None

    def root(self, address: str) -> str | None:
        """Return the root complex, `pci0000:00`: the topmost one on the device's path (KEP-4381 pcieRoot)."""
        path = (self._devices / address).resolve()
        return next((part for part in path.parts if _ROOT.fullmatch(part)), None)

    def remote(self, address: str) -> Remote:
        """Return what kind of link partner this device is, by its PCI class. IBM's NPUs are bridges, too."""
        if self._read(address, "vendor") != _VENDOR:
            return Remote.UNKNOWN
        kind = self._read(address, "class") or ""
        if kind.startswith(_DISPLAY):
            return Remote.DEVICE
        return Remote.SWITCH if kind.startswith(_BRIDGE) else Remote.UNKNOWN

    def _read(self, address: str, name: str) -> str | None:
        try:
            return (self._devices / address / name).read_text(encoding="ascii", errors="replace").strip()
        except OSError:
            return None
