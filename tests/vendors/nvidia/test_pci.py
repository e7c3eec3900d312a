"""Facts about PCI devices, from sysfs as the kernel writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from driver.model.devices import Remote
from driver.vendors.nvidia.pci import Bus, Gpu
from tests.fakes.nvml.hardware import FakeNode
from tests.fakes.nvml.tree import Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path, FakeNode(gpus=[]))


@pytest.fixture
def bus(tree: Tree) -> Bus:
    return Bus(str(tree.sys))


def test_gpus_are_display_controllers_of_nvidia(tree: Tree, bus: Bus) -> None:
    tree.plug("0000:1b:00.0", "pci0000:15")
    tree.plug("0000:1c:00.0", "pci0000:15", kind="0x030000", driver="vfio-pci")
    tree.plug("0000:1d:00.0", "pci0000:15", driver=None)
    tree.plug("0000:1d:00.1", "pci0000:15", kind="0x040300")
    tree.plug("0000:07:00.0", "pci0000:00", kind="0x068000", driver="nvidia-nvswitch")
    tree.plug("0000:03:00.0", "pci0000:00", vendor="0x1002", driver="amdgpu")
    assert bus.gpus() == [
        Gpu("0000:1b:00.0", "nvidia"),
        Gpu("0000:1c:00.0", "vfio-pci"),
        Gpu("0000:1d:00.0", None),
    ]


def test_virtual_functions_are_no_gpus_of_this_node(tree: Tree, bus: Bus) -> None:
    function = tree.plug("0000:1b:00.4", "pci0000:15")
    (function / "physfn").symlink_to("../0000:1b:00.0")
    tree.plug("0000:1b:00.0", "pci0000:15")
    assert [gpu.address for gpu in bus.gpus()] == ["0000:1b:00.0"]


@pytest.mark.parametrize(("text", "node"), [("0", 0), ("1", 1), ("12", 12), ("-1", None), ("", None), ("x", None)])
def test_the_numa_node_or_none(tree: Tree, bus: Bus, text: str, node: int | None) -> None:
    device = tree.plug("0000:1b:00.0", "pci0000:15")
    (device / "numa_node").write_text(f"{text}\n")
    assert bus.numa_node("0000:1b:00.0") == node


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("pci0000:15/0000:15:01.0", "pci0000:15"),
        ("pci0008:00/0008:00:00.0", "pci0008:00"),
        ("pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:02.0", "pci0000:00"),
        ("LNXSYSTM:00/LNXSYBUS:00/ACPI0004:00/VMBUS:00/47505500-0001/pci0001:00", "pci0001:00"),
        ("platform/soc", None),
    ],
)
def test_the_root_complex_is_the_topmost(tree: Tree, bus: Bus, path: str, root: str | None) -> None:
    """Behind Intel's VMD and on Hyper-V the path has more in it than a root and bridges."""
    (tree.sys / "devices" / path / "0000:1b:00.0").mkdir(parents=True)
    (tree.sys / "bus/pci/devices/0000:1b:00.0").symlink_to(f"../../../devices/{path}/0000:1b:00.0")
    assert bus.root("0000:1b:00.0") == root


@pytest.mark.parametrize(
    ("kind", "vendor", "remote"),
    [
        ("0x030200", "0x10de", Remote.DEVICE),
        ("0x068000", "0x10de", Remote.SWITCH),
        ("0x020700", "0x10de", Remote.UNKNOWN),
        ("0x068000", "0x1014", Remote.UNKNOWN),
    ],
)
def test_what_is_at_the_other_end_of_a_link(tree: Tree, bus: Bus, kind: str, vendor: str, remote: Remote) -> None:
    tree.plug("0000:07:00.0", "pci0000:00", kind=kind, vendor=vendor)
    assert bus.remote("0000:07:00.0") is remote


def test_a_machine_without_pci_has_nothing(tmp_path: Path) -> None:
    bus = Bus(str(tmp_path / "nowhere"))
    assert (bus.addresses(), bus.gpus()) == ([], [])
    assert (bus.has("0000:1b:00.0"), bus.is_gpu("0000:1b:00.0"), bus.driver("0000:1b:00.0")) == (False, False, None)
    assert (bus.numa_node("0000:1b:00.0"), bus.root("0000:1b:00.0")) == (None, None)
    assert bus.remote("0000:1b:00.0") is Remote.UNKNOWN
