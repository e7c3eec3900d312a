"""Fingerprints change with what is worth another look, and with nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pynvml
import pytest

from driver.vendors.nvidia.fingerprints import LOOKS_APART
from tests.fakes.nvml import elf
from tests.fakes.nvml.tree import LIBRARIES
from tests.vendors.nvidia.conftest import Build
from tests.vendors.nvidia.machine import Rig

VERSION = "580.126.09"


def replace_library(rig: Rig) -> None:
    path = rig.tree.driver / LIBRARIES / f"libnvidia-ml.so.{VERSION}"
    other = path.with_name("new")
    other.write_bytes(elf.build("libnvidia-ml.so.1"))
    other.replace(path)


def bind_elsewhere(rig: Rig) -> None:
    rig.tree.plug(rig.node.gpus[0].address, rig.node.gpus[0].pcie_root or "", driver="vfio-pci")


def create_instance(rig: Rig) -> None:
    (rig.tree.proc / "driver/nvidia/capabilities/gpu2/mig/gi1/ci0").mkdir(parents=True)


def remove_instance(rig: Rig) -> None:
    shutil.rmtree(rig.tree.proc / "driver/nvidia/capabilities/gpu1/mig/gi8")


def split_instance(rig: Rig) -> None:
    (rig.tree.proc / "driver/nvidia/capabilities/gpu1/mig/gi8/ci1").mkdir()


def upgrade_module(rig: Rig) -> None:
    (rig.tree.sys / "module/nvidia/version").write_text("590.48.01\n")


CHANGES: dict[str, Callable[[Rig], object]] = {
    "a GPU leaves the bus": lambda rig: rig.tree.unplug(rig.node.gpus[3].address),
    "a GPU comes": lambda rig: rig.tree.plug("0000:f1:00.0", "pci0000:f0"),
    "a GPU gets another driver": bind_elsewhere,
    "a GPU loses its driver": lambda rig: (rig.tree.sys / "bus/pci/devices/0000:07:00.0/driver").unlink(),
    "the driver gives up a GPU": lambda rig: shutil.rmtree(rig.tree.proc / "driver/nvidia/gpus/0000:07:00.0"),
    "a MIG instance is created": create_instance,
    "a MIG instance is removed": remove_instance,
    "a MIG instance is split": split_instance,
    "the modules are unloaded": lambda rig: rig.tree.unload(),
    "the module is upgraded": upgrade_module,
    "the library is replaced": replace_library,
    "the library is removed": lambda rig: rig.tree.uninstall(VERSION),
    "a node is created": lambda rig: (rig.tree.dev / "dev" / "nvidia9").touch(),
    "a node is removed": lambda rig: (rig.tree.dev / "dev" / "nvidia-uvm").unlink(),
}


@pytest.mark.parametrize("title", list(CHANGES))
def test_what_is_worth_another_look(build: Build, title: str) -> None:
    rig = build("a100-mig")
    vendor = rig.create()
    before = vendor.fingerprint()
    assert vendor.fingerprint() == before
    CHANGES[title](rig)
    after = vendor.fingerprint()
    assert after != before
    assert rig.create().fingerprint() == after, "it depends on the machine, not on who looks"


def plug_stranger(rig: Rig) -> None:
    rig.tree.plug("0000:03:00.0", "pci0000:00", kind="0x020000", vendor="0x8086", driver="ixgbe")


@pytest.mark.parametrize(
    "change",
    [
        plug_stranger,
        lambda rig: (rig.tree.dev / "dev" / "sda").touch(),
        lambda rig: rig.tree.write("usr/bin/vi", b""),
        lambda rig: rig.node.gpus[0].lose(),
    ],
)
def test_what_is_not(build: Build, change: Callable[[Rig], object]) -> None:
    rig = build("a100-mig")
    vendor = rig.create()
    before = vendor.fingerprint()
    change(rig)
    assert vendor.fingerprint() == before


def test_a_slot_that_gets_another_device(rig: Rig) -> None:
    vendor = rig.create()
    vendor.fingerprint()
    address = rig.node.gpus[0].address
    rig.tree.unplug(address)
    without = vendor.fingerprint()
    rig.tree.plug(address, "pci0000:15", vendor="0x1002", driver="amdgpu")
    assert vendor.fingerprint() == without


def test_gpus_that_join_a_fabric_are_looked_at_again(build: Build) -> None:
    """Nothing but NVML tells when they have joined: minutes after boot, and no file changes."""
    rig = build("nvl72-tray")
    vendor = rig.create()
    fabric = rig.node.gpus[3].fabric
    assert fabric is not None
    for state in (pynvml.NVML_GPU_FABRIC_STATE_NOT_STARTED, pynvml.NVML_GPU_FABRIC_STATE_IN_PROGRESS):
        fabric.state = state
        vendor.snapshot()
        texts = [vendor.fingerprint() for _ in range(3 * LOOKS_APART)]
        assert 3 <= len(set(texts)) <= 4
    fabric.state = pynvml.NVML_GPU_FABRIC_STATE_COMPLETED
    assert vendor.snapshot().accelerators[3].fabric is not None
    assert len({vendor.fingerprint() for _ in range(3 * LOOKS_APART)}) == 1


def test_no_library_is_loaded_and_no_device_opened(rig: Rig) -> None:
    for path in (rig.tree.dev / "dev").iterdir():
        path.unlink()
        path.symlink_to("/proc/self/mem/none")  # opening or following it fails
    rig.create().fingerprint()
    assert (rig.loader.paths, rig.library.calls) == ([], [])


def test_a_machine_without_anything_has_a_fingerprint(build: Build, tmp_path: Path) -> None:
    rig = build("t4")
    vendor = rig.create()
    for name in ("driver", "dev", "sys", "proc"):
        shutil.rmtree(tmp_path / name)
    assert vendor.fingerprint() == "module None\nlibrary none"
