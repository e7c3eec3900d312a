"""The files of a machine with an NVIDIA driver below one folder: driver root, /dev, sysfs, procfs.

Device nodes are plain files: nothing here opens them. The tree follows a `FakeNode`: change that and call `sync`.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from driver.contract import Roots
from tests.fakes.nvml import elf
from tests.fakes.nvml.hardware import FakeGpu, FakeNode

TRIPLET = f"{os.uname().machine}-linux-gnu"
LIBRARIES = f"usr/lib/{TRIPLET}"
SONAMES = {
    "libnvidia-ml": "libnvidia-ml.so.1",
    "libcuda": "libcuda.so.1",
    "libnvidia-ptxjitcompiler": "libnvidia-ptxjitcompiler.so.1",
    "libnvidia-nvvm": "libnvidia-nvvm.so.4",
    "libnvcuvid": "libnvcuvid.so.1",
    "libnvidia-gpucomp": None,
}
"""Libraries of a driver and the names by which they are asked for; some have no other than their file's."""
TOOLS = ("nvidia-smi", "nvidia-debugdump", "nvidia-cuda-mps-control", "nvidia-cuda-mps-server")
STRANGERS = ("nvidia-modprobe", "nvidia-xconfig", "nvidia-bug-report.sh", "nvidia-container-cli", "ls")
CONTROL = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")
MAJORS = "Character devices:\n  1 mem\n195 nvidia\n235 nvidia-caps\n511 nvidia-uvm\n\nBlock devices:\n  8 sd\n"


class Tree:
    """A machine's files. `driver`, `dev`, `sys` and `proc` are its folders."""

    def __init__(self, folder: Path, node: FakeNode) -> None:
        self.folder, self.node = folder, node
        self.driver, self.dev = folder / "driver", folder / "dev"
        self.sys, self.proc = folder / "sys", folder / "proc"
        for path in (self.driver, self.dev / "dev", self.sys / "bus" / "pci" / "devices", self.proc):
            path.mkdir(parents=True, exist_ok=True)

    def roots(self, driver_root: str | None = None, dev_root: str | None = None) -> Roots:
        """Return roots with mounts in this tree; what the host calls them may differ."""
        return Roots(
            driver_root=driver_root or str(self.driver),
            driver_root_mount=str(self.driver),
            dev_root=dev_root or str(self.dev),
            dev_root_mount=str(self.dev),
            sys_root=str(self.sys),
            proc_root=str(self.proc),
            state_root=str(self.folder / "state"),
        )

    # -- the driver's files -----------------------------------------------------------------------------------------

    def install(self, folder: str = LIBRARIES) -> Path:
        """Install the driver of this node's version, as its installer does. Returns the path of NVML."""
        version = self.node.driver_version
        for name, soname in SONAMES.items():
            self.write(f"{folder}/{name}.so.{version}", elf.build(soname or f"{name}.so.{version}"))
            if soname is not None:
                self.link(f"{folder}/{soname}", f"{name}.so.{version}")
        self.link(f"{folder}/libcuda.so", "libcuda.so.1")
        for tool in (*TOOLS, *STRANGERS):
            self.write(f"usr/bin/{tool}", b"#!", mode=0o755)
        for file in ("gsp_ga10x.bin", "gsp_tu10x.bin"):
            self.write(f"lib/firmware/nvidia/{version}/{file}", b"")
        return self.driver / folder / f"libnvidia-ml.so.{version}"

    def uninstall(self, version: str) -> None:
        """Remove a version's files and the links to them."""
        for path in sorted(self.driver.rglob("lib*.so*")):
            if path.name.endswith(version) or path.is_symlink():
                path.unlink()

    def write(self, path: str, content: bytes, mode: int = 0o644) -> Path:
        """Write a file below the driver root."""
        target = self.driver / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(mode)
        return target

    def link(self, path: str, target: str) -> Path:
        """Make a symbolic link below the driver root, in place of one that exists."""
        source = self.driver / path
        source.parent.mkdir(parents=True, exist_ok=True)
        source.unlink(missing_ok=True)
        source.symlink_to(target)
        return source

    # -- the kernel's files -----------------------------------------------------------------------------------------

    def load(self) -> None:
        """Load the kernel modules: numbers, nodes, GPUs bound."""
        (self.proc / "devices").write_text(MAJORS)
        self._module_version()
        for name in (*CONTROL, "kmsg"):
            (self.dev / "dev" / name).touch()
        self.sync()

    def unload(self) -> None:
        """Remove the modules; device nodes stay, as they do."""
        shutil.rmtree(self.sys / "module")
        shutil.rmtree(self.proc / "driver")
        (self.proc / "devices").write_text("Character devices:\n  1 mem\n\nBlock devices:\n")
        for gpu in self.node.gpus:
            (self.sys / "bus/pci/devices" / gpu.address / "driver").unlink()

    def sync(self) -> None:
        """Make sysfs, procfs and /dev say what the node has now."""
        self._module_version()
        for path in (self.proc / "driver" / "nvidia",):
            shutil.rmtree(path, ignore_errors=True)
            (path / "gpus").mkdir(parents=True)
        for gpu in self.node.gpus:
            self.plug(gpu.address, gpu.pcie_root or "pci0000:00", numa_node=gpu.numa_node)
            (self.dev / "dev" / f"nvidia{gpu.minor}").touch()
            self._information(gpu)
        self.sync_capabilities()
        for switch in self.node.switches:
            self.plug(switch, "pci0000:00", kind="0x068000", driver="nvidia-nvswitch")

    def _module_version(self) -> None:
        module = self.sys / "module" / "nvidia"
        module.mkdir(parents=True, exist_ok=True)
        (module / "version").write_text(f"{self.node.driver_version}\n")

    def plug(
        self,
        address: str,
        root: str,
        *,
        kind: str = "0x030200",
        driver: str | None = "nvidia",
        numa_node: int | None = None,
        vendor: str = "0x10de",
    ) -> Path:
        """Put a device on the PCI bus, behind a bridge."""
        device = self.sys / "devices" / root / "0000:ff:01.0" / address
        device.mkdir(parents=True, exist_ok=True)
        (device / "vendor").write_text(f"{vendor}\n")
        (device / "class").write_text(f"{kind}\n")
        (device / "numa_node").write_text(f"{-1 if numa_node is None else numa_node}\n")
        (device / "driver").unlink(missing_ok=True)
        if driver is not None:
            (device / "driver").symlink_to(f"../../../../bus/pci/drivers/{driver}")
        entry = self.sys / "bus/pci/devices" / address
        entry.unlink(missing_ok=True)
        entry.symlink_to(f"../../../devices/{root}/0000:ff:01.0/{address}")
        return device

    def unplug(self, address: str) -> None:
        """Take a device off the bus."""
        (self.sys / "bus/pci/devices" / address).unlink()

    def _information(self, gpu: FakeGpu) -> None:
        folder = self.proc / "driver/nvidia/gpus" / gpu.address
        folder.mkdir(parents=True)
        (folder / "information").write_text(f"Model: \t\t {gpu.name!s}\nIRQ:   \t\t 16\nDevice Minor: \t {gpu.minor}\n")

    def sync_capabilities(self) -> None:
        """Make procfs have the capabilities of all MIG devices that there are, and no others."""
        for gpu in self.node.gpus:
            top = self.proc / "driver/nvidia/capabilities" / f"gpu{gpu.minor}" / "mig"
            there = {path.parent.name for path in top.glob("gi*/access")}
            wanted = {f"gi{each.gpu_instance}" for each in gpu.instances}
            for name in there - wanted:
                shutil.rmtree(top / name)
            self._capabilities(gpu, top)

    def _capabilities(self, gpu: FakeGpu, top: Path) -> None:
        top.mkdir(parents=True, exist_ok=True)
        for instance in gpu.instances:
            folder = top / f"gi{instance.gpu_instance}"
            folder.mkdir(exist_ok=True)
            _write_access(folder, capability_minor(gpu.minor, instance.gpu_instance))
            siblings = (each for each in gpu.instances if each.gpu_instance == instance.gpu_instance)
            wanted = {f"ci{each.compute_instance}" for each in siblings}
            for path in folder.glob("ci*"):
                if path.name not in wanted:
                    shutil.rmtree(path)
            if instance.compute_instance is None:
                continue
            part = folder / f"ci{instance.compute_instance}"
            part.mkdir(exist_ok=True)
            _write_access(part, capability_minor(gpu.minor, instance.gpu_instance, instance.compute_instance))


def capability_minor(gpu: int, gpu_instance: int, compute_instance: int | None = None) -> int:
    """Return the minor that the tree gives to a capability: 135 a GPU, 9 a GPU instance, as the driver has it."""
    base = 3 + 135 * gpu + 9 * gpu_instance
    return base if compute_instance is None else base + 1 + compute_instance


def _write_access(folder: Path, minor: int) -> None:
    if not (folder / "access").exists():
        (folder / "access").write_text(f"DeviceFileMinor: {minor}\nDeviceFileMode: 444\nDeviceFileModify: 1\n")
