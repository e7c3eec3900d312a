"""What the kernel tells about PCI functions, their IOMMU groups and drivers, and how it is told something.

Called by `binding`. `Kernel` has one method for each thing that a crash can come between, so that tests can stand in
for the kernel; readers are free of effects. A file that is not there is a fact and not an error.
Facts: Documentation/ABI/testing/sysfs-bus-pci, driver-api/vfio.rst.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from driver.model.passthrough import DRIVER, Function, Group
from driver.model.prepared import DeviceNode

_ACCELERATORS: Final = (0x03, 0x12)
"""Base classes of display controllers and of processing accelerators (PCI Code and ID Assignment)."""
_ANYBODY: Final = 0o666
_UNSET: Final = ("", "(null)")
"""What driver_override reads like while there is none."""


class Kernel:
    """Talks to the kernel in files. Raises OSError as it does, and blocks for as long as a driver likes."""

    def write(self, path: Path, text: str) -> None:
        """Tell the kernel something, in one system call. A file that is not there is never made."""
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)

    def read(self, path: Path) -> str:
        """Return what a file of the kernel says."""
        return path.read_text(encoding="ascii", errors="replace").strip()


class Bus:
    """The PCI bus below one sysfs. Reads links and small files; never blocks and never raises."""

    def __init__(self, sys_root: str) -> None:
        self._root = Path(sys_root)
        self._pci = self._root / "bus" / "pci"

    def device(self, address: str) -> Path:
        """Return the folder of a function."""
        return self._pci / "devices" / address

    def driver_folder(self, name: str) -> Path:
        """Return the folder of a driver."""
        return self._pci / "drivers" / name

    @property
    def probe(self) -> Path:
        """The file that takes the address of a function for which the kernel is to find a driver."""
        return self._pci / "drivers_probe"

    def has(self, address: str) -> bool:
        """Say whether a function is on the bus."""
        return self.device(address).is_dir()

    def has_driver(self, name: str) -> bool:
        """Say whether the kernel has this driver now."""
        return self.driver_folder(name).is_dir()

    def driver(self, address: str) -> str | None:
        """Return the name of the driver that a function is bound to."""
        return _link(self.device(address) / "driver")

    def group(self, address: str) -> Group | None:
        """Return the IOMMU group of a function with all that is in it, None if the IOMMU does not manage it."""
        number = self.group_number(address)
        if number is None:
            return None
        members = _names(self.device(address) / "iommu_group" / "devices") or [address]
        return Group(number, tuple(self.function(member) for member in members))

    def group_number(self, address: str) -> str | None:
        """Return the name of a function's IOMMU group, which is a number."""
        return _link(self.device(address) / "iommu_group")

    def function(self, address: str) -> Function:
        """Return what is known of a function, but for its override, which cannot be read without waiting."""
        folder = self.device(address)
        return Function(
            address=address,
            kind=_number(folder / "class") or 0,
            vendor_id=_number(folder / "vendor"),
            device_id=_number(folder / "device"),
            driver=self.driver(address),
            virtual_functions=_number(folder / "sriov_numvfs") or 0,
        )

    def nodes(self, group: str, addresses: Iterable[str]) -> tuple[DeviceNode, ...]:
        """Return the device nodes for functions of a group that are bound to vfio-pci, as the host has them.

        Those of the group, and those of each function where the kernel offers them (iommufd, Linux 6.6).
        """
        classes = self._root / "class"
        of_group = _node(f"/dev/vfio/{group}", classes / "vfio" / group)
        of_functions = [
            node
            for address in addresses
            for name in _names(self.device(address) / "vfio-dev")
            if (node := _node(f"/dev/vfio/devices/{name}", self.device(address) / "vfio-dev" / name))
        ]
        container, iommufd = _node("/dev/vfio/vfio", classes / "misc/vfio"), _node("/dev/iommu", classes / "misc/iommu")
        legacy = (container, of_group) if container and of_group else ()
        return (*legacy, *((iommufd, *of_functions) if iommufd and of_functions else ()))

    def taken(self) -> frozenset[str]:
        """Return all accelerators that are bound to vfio-pci."""
        names = (name for name in _names(self.driver_folder(DRIVER)) if ":" in name)
        return frozenset(name for name in names if (_number(self.device(name) / "class") or 0) >> 16 in _ACCELERATORS)

    @property
    def loaded(self) -> bool:
        """Whether the kernel has the driver vfio-pci now."""
        return self.has_driver(DRIVER)


def read_override(kernel: Kernel, folder: Path) -> str | None:
    """Return a function's driver_override. Waits while the kernel is binding or unbinding it. Raises OSError."""
    try:
        text = kernel.read(folder / "driver_override")
    except FileNotFoundError:
        return None
    return None if text in _UNSET else text


def _node(path: str, folder: Path) -> DeviceNode | None:
    """Return a device node with its numbers (`dev`, such as 10:196), None if the kernel has made none.

    On the host it belongs to root; whoever is in the container that it was given to may use it, as with other devices.
    """
    try:
        major, minor = (int(part) for part in (folder / "dev").read_text(encoding="ascii").split(":"))
    except (OSError, ValueError):
        return None
    return DeviceNode(path=path, type="c", major=major, minor=minor, permissions="rw", file_mode=_ANYBODY)


def _link(path: Path) -> str | None:
    try:
        return path.readlink().name
    except OSError:
        return None


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError:
        return []


def _number(path: Path) -> int | None:
    """Return a number in the kernel's notation: 0x10de, or 7."""
    try:
        return int(path.read_text(encoding="ascii", errors="replace"), 0)
    except (OSError, ValueError):
        return None
