"""A PCI bus with a kernel behind it: a tree of files like sysfs, and what the kernel does when one of them is written.

All state is in the tree, so it outlives the process. `Machine` does what the kernel does, `FakeKernel` does it inside a
write of this process (with errors, hangs and kills), `Listener` does it for writes of any process.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from driver.model.passthrough import DRIVER
from driver.passthrough.sysfs import Kernel

GPU, AUDIO, BRIDGE, NETWORK, SWITCH = 0x030200, 0x040300, 0x060400, 0x020000, 0x068000


class Machine:
    """A machine below one folder, which stands for /sys."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.pci = root / "bus" / "pci"
        self.makes_nodes = True

    def build(self, *drivers: str) -> Machine:
        """Make an empty bus with these drivers."""
        for folder in ("devices", "drivers"):
            (self.pci / folder).mkdir(parents=True)
        (self.pci / "drivers_probe").touch()
        for name in ("class/vfio", "class/misc/vfio", "kernel/iommu_groups"):
            (self.root / name).mkdir(parents=True)
        (self.root / "class/misc/vfio/dev").write_text("10:196\n")
        for driver in drivers:
            self.load(driver)
        return self

    def load(self, driver: str) -> None:
        """Load a driver; as in the kernel, it takes every device without a driver that it may have."""
        folder = self.pci / "drivers" / driver
        folder.mkdir()
        (folder / "bind").touch()
        (folder / "unbind").touch()
        for path in sorted((self.pci / "devices").iterdir()):
            self.probe(path.name)

    def unload(self, driver: str) -> None:
        """Unload a driver; the kernel takes its devices from it."""
        for path in sorted((self.pci / "devices").iterdir()):
            if self.driver(path.name) == driver:
                self.unbind(path.name)
        folder = self.pci / "drivers" / driver
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()

    def add(self, address: str, group: str | None, *, kind: int = GPU, native: str | None = "gpud") -> None:
        """Plug a function in. `native` is the driver that knows it."""
        real = self.root / "devices" / "pci0000:00" / address
        real.mkdir(parents=True)
        for name, text in (
            ("class", f"0x{kind:06x}"),
            ("vendor", "0x10de"),
            ("device", "0x2330"),
            ("numa_node", "0"),
            ("driver_override", "(null)"),
            ("native", native or ""),
        ):
            (real / name).write_text(f"{text}\n")
        (self.pci / "devices" / address).symlink_to(real)
        if group is not None:
            members = self.root / "kernel" / "iommu_groups" / group / "devices"
            members.mkdir(parents=True, exist_ok=True)
            (members / address).symlink_to(real)
            (real / "iommu_group").symlink_to(members.parent)
        self.probe(address)

    def remove(self, address: str) -> None:
        """Pull a function out, whatever it is bound to."""
        self.unbind(address)
        real = self.device(address).resolve()
        group = real / "iommu_group"
        if group.exists():
            (group / "devices" / address).unlink()
            group.unlink()
        self.device(address).unlink()
        shutil.rmtree(real)

    def device(self, address: str) -> Path:
        """Return the folder of a function."""
        return self.pci / "devices" / address

    def has(self, address: str) -> bool:
        """Say whether it is plugged in."""
        return self.device(address).exists()

    def driver(self, address: str) -> str | None:
        """Return the driver of a function."""
        link = self.device(address) / "driver"
        return link.readlink().name if link.is_symlink() else None

    def override(self, address: str) -> str | None:
        """Return the override of a function."""
        text = (self.device(address) / "driver_override").read_text().strip()
        return None if text in {"", "(null)"} else text

    def state(self) -> dict[str, tuple[str | None, str | None]]:
        """Return driver and override of every function."""
        names = sorted(path.name for path in (self.pci / "devices").iterdir())
        return {name: (self.driver(name), self.override(name)) for name in names}

    def set_override(self, address: str, text: str) -> None:
        """Take a write to driver_override."""
        swap(self.device(address) / "driver_override", f"{text or '(null)'}\n")

    def matches(self, address: str, driver: str) -> bool:
        """Say whether a driver may have a function: its override alone decides if there is one."""
        override = self.override(address)
        native = (self.device(address) / "native").read_text().strip()
        return driver == override if override else driver == native

    def probe(self, address: str) -> None:
        """Find a driver for a function without one."""
        if self.driver(address) is None:
            names = sorted(path.name for path in (self.pci / "drivers").iterdir())
            for name in names:
                if self.matches(address, name):
                    self.bind(address, name)
                    return

    def bind(self, address: str, driver: str) -> None:
        """Bind a function, and make the device nodes of vfio-pci in its class folders."""
        folder = self.device(address)
        swap_link(folder / "driver", self.pci / "drivers" / driver)
        swap_link(self.pci / "drivers" / driver / address, folder.resolve())
        if driver == DRIVER:
            group = folder / "iommu_group"
            if group.exists() and self.makes_nodes:
                number = group.resolve().name
                node = self.root / "class" / "vfio" / number
                node.mkdir(exist_ok=True)
                (node / "dev").write_text(f"244:{number}\n")

    def unbind(self, address: str) -> None:
        """Take a function from its driver."""
        folder = self.device(address)
        (self.pci / "drivers" / (self.driver(address) or "none") / address).unlink(missing_ok=True)
        (folder / "driver").unlink(missing_ok=True)
        group = folder / "iommu_group"
        if group.exists() and not any(self.driver(path.name) == DRIVER for path in (group / "devices").iterdir()):
            node = self.root / "class" / "vfio" / group.resolve().name
            shutil.rmtree(node, ignore_errors=True)

    def take(self, path: Path, text: str) -> None:
        """Do what a write of `text` to a file of the tree means. Raises OSError as the kernel does."""
        if path.name == "driver_override":
            self.set_override(path.parent.name, text)
        elif path.name == "drivers_probe":
            self._require(text)
            self.probe(text)
        elif path.name == "unbind":
            self._require(text)
            owner = path.parent.resolve().name if path.parent.name == "driver" else path.parent.name
            if self.driver(text) != owner:
                raise OSError(errno.ENODEV, "No such device")
            self.unbind(text)
        elif path.name == "bind":
            self._require(text)
            if self.driver(text) is not None or not self.matches(text, path.parent.name):
                raise OSError(errno.ENODEV, "No such device")
            self.bind(text, path.parent.name)

    def _require(self, address: str) -> None:
        if not self.has(address):
            raise OSError(errno.ENODEV, "No such device")


def kill_this_process() -> None:
    """End without a chance to clean up."""
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class FakeKernel(Kernel):
    """The kernel as one process meets it. Faults are by `(file name, address)`."""

    machine: Machine
    refuse: dict[tuple[str, str], int] = field(default_factory=dict)
    """Errors."""
    ignore: set[tuple[str, str]] = field(default_factory=set)
    """Writes that have no effect."""
    instead: dict[str, str] = field(default_factory=dict)
    """Drivers that get a device instead of the one that should, by address."""
    vanish: set[tuple[str, str]] = field(default_factory=set)
    """Writes in the middle of which the device is pulled out."""
    in_use: dict[str, threading.Event] = field(default_factory=dict)
    """Devices that are not let go of until the event is set, by address."""
    dies_after: int | None = None
    """Die once so many changes were made."""
    die: Callable[[], None] = kill_this_process
    changes: list[str] = field(default_factory=list)
    locks: dict[str, threading.Lock] = field(default_factory=dict)
    """The lock of each device, which the kernel holds while it binds, unbinds or looks at the override."""

    def write(self, path: Path, text: str) -> None:
        """Do what the kernel does, once nobody else has the device."""
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        value = text.strip()
        address = path.parent.name if path.name == "driver_override" else value
        with self.locks.setdefault(address, threading.Lock()):
            self._die()
            if path.name == "unbind" and address in self.in_use:
                self.in_use[address].wait()
            self._act(path, value, address)
            self.changes.append(f"{path.name}-{address}")
            self._die()

    def read(self, path: Path) -> str:
        """Read, once the kernel is not at work on the device."""
        with self.locks.setdefault(path.parent.name, threading.Lock()):
            return super().read(path)

    def _die(self) -> None:
        if self.dies_after == len(self.changes):
            self.die()

    def _act(self, path: Path, value: str, address: str) -> None:
        fault = (path.name, address)
        if fault in self.refuse:
            raise OSError(self.refuse[fault], os.strerror(self.refuse[fault]))
        if fault in self.vanish:
            self.machine.remove(address)
            raise OSError(errno.ENODEV, "No such device")
        if fault in self.ignore:
            return
        if path.name in {"drivers_probe", "bind"} and address in self.instead:
            self.machine.bind(address, self.instead[address])
            return
        self.machine.take(path, value)


class Listener:
    """Does what the kernel does for writes of other processes, on a thread: a file that was written is emptied."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.seen: list[str] = []

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.002):
            for path in (self._machine.pci / "drivers_probe", *self._machine.pci.glob("drivers/*/*bind")):
                text = path.read_text()
                if text.endswith("\n"):
                    self.seen.append(f"{path.name} {text.strip()}")
                    path.write_text("")
                    self._machine.take(path, text.strip())


def swap(path: Path, text: str) -> None:
    """Replace a file in one step."""
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(text)
    temporary.replace(path)


def swap_link(path: Path, target: Path) -> None:
    """Replace a link in one step."""
    temporary = path.with_name(f".{path.name}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(path)
