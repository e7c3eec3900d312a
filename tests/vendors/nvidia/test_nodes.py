"""Device nodes: by name where they exist, by numbers where they do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from driver.model.errors import Unavailable
from driver.model.prepared import DeviceNode
from driver.vendors.nvidia import nodes
from driver.vendors.nvidia.libraries import Root
from driver.vendors.nvidia.nodes import Nodes
from tests.fakes.nvml.hardware import load_node
from tests.fakes.nvml.tree import MAJORS, Tree, capability_minor

DRIVER = Root("/run/nvidia/driver", "/nonexistent")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    tree = Tree(tmp_path, load_node("a100-mig"))
    tree.load()
    return tree


def make(tree: Tree, dev_root: str = "/") -> Nodes:
    return Nodes(tree.roots(dev_root=dev_root))


def test_nodes_that_exist_have_no_numbers(tree: Tree) -> None:
    """The runtime reads them when the container starts: the majors of uvm change with each boot."""
    assert make(tree).gpu(2, DRIVER) == DeviceNode(path="/dev/nvidia2", permissions="rw", file_mode=0o666)
    assert [node.path for node in make(tree).control(DRIVER)] == [
        "/dev/nvidiactl",
        "/dev/nvidia-uvm",
        "/dev/nvidia-uvm-tools",
        "/dev/nvidia-modeset",
    ]
    assert {(node.major, node.type, node.host_path) for node in make(tree).control(DRIVER)} == {(None, None, None)}


def test_another_dev_root_is_told_to_the_runtime(tree: Tree) -> None:
    node = make(tree, "/host").gpu(2, DRIVER)
    assert (node.path, node.host_path) == ("/dev/nvidia2", "/host/dev/nvidia2")


def test_a_driver_container_has_nodes_of_its_own(tree: Tree, tmp_path: Path) -> None:
    (tree.dev / "dev" / "nvidia2").unlink()
    (tmp_path / "container" / "dev").mkdir(parents=True)
    (tmp_path / "container" / "dev" / "nvidia2").touch()
    node = make(tree).gpu(2, Root("/run/nvidia/driver", str(tmp_path / "container")))
    assert (node.path, node.host_path, node.major) == ("/dev/nvidia2", "/run/nvidia/driver/dev/nvidia2", None)


def test_nodes_that_do_not_exist_yet_have_numbers(tree: Tree) -> None:
    for path in (tree.dev / "dev").iterdir():
        path.unlink()
    found = {node.path: (node.type, node.major, node.minor) for node in make(tree).control(DRIVER)}
    assert found == {
        "/dev/nvidiactl": ("c", 195, 255),
        "/dev/nvidia-uvm": ("c", 511, 0),
        "/dev/nvidia-uvm-tools": ("c", 511, 1),
    }
    gpu = make(tree, "/host").gpu(3, DRIVER)
    assert (gpu.type, gpu.major, gpu.minor, gpu.host_path) == ("c", 195, 3, "/host/dev/nvidia3")


def test_the_older_name_of_the_major(tree: Tree) -> None:
    (tree.dev / "dev" / "nvidia0").unlink()
    (tree.proc / "devices").write_text(MAJORS.replace("195 nvidia\n", "195 nvidia-frontend\n"))
    assert make(tree).gpu(0, DRIVER).major == 195


def test_a_module_that_is_not_loaded_is_left_out(tree: Tree) -> None:
    for name in ("nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset"):
        (tree.dev / "dev" / name).unlink()
    (tree.proc / "devices").write_text("Character devices:\n195 nvidia\n\nBlock devices:\n")
    assert [node.path for node in make(tree).control(DRIVER)] == ["/dev/nvidiactl"]


def test_without_node_and_number_there_is_nothing_to_give(tree: Tree) -> None:
    for name in ("nvidiactl", "nvidia1"):
        (tree.dev / "dev" / name).unlink()
    (tree.proc / "devices").unlink()
    with pytest.raises(Unavailable, match=r"/host/dev/nvidia1 does not exist .* the driver is not loaded"):
        make(tree, "/host").gpu(1, DRIVER)
    with pytest.raises(Unavailable, match="/dev/nvidiactl does not exist"):
        make(tree).control(DRIVER)


def test_a_partition_has_two_capabilities(tree: Tree) -> None:
    found = make(tree).capabilities(1, 8, 0)
    gpu_instance, compute_instance = capability_minor(1, 8), capability_minor(1, 8, 0)
    assert [node.path for node in found] == [
        f"/dev/nvidia-caps/nvidia-cap{gpu_instance}",
        f"/dev/nvidia-caps/nvidia-cap{compute_instance}",
    ]
    assert [(node.type, node.major, node.minor) for node in found] == [
        ("c", 235, gpu_instance),
        ("c", 235, compute_instance),
    ]
    assert {(node.permissions, node.file_mode, node.host_path) for node in found} == {("rw", 0o666, None)}


def test_a_capability_on_another_dev_root(tree: Tree) -> None:
    minor = capability_minor(1, 8)
    assert make(tree, "/host").capabilities(1, 8, 0)[0].host_path == f"/host/dev/nvidia-caps/nvidia-cap{minor}"


@pytest.mark.parametrize(("gpu_instance", "compute_instance"), [(8, 4), (1, 0)])
def test_a_partition_that_is_gone(tree: Tree, gpu_instance: int, compute_instance: int) -> None:
    (tree.proc / "driver" / "nvidia-caps").mkdir()
    (tree.proc / "driver" / "nvidia-caps" / "mig-minors").write_text("gpu1/gi1/access 12\ngpu1/gi1/ci0/access 13\n")
    with pytest.raises(Unavailable, match=rf"no capability gpu1/mig/gi{gpu_instance}/.*access"):
        make(tree).capabilities(1, gpu_instance, compute_instance)


def test_a_capability_file_that_cannot_be_understood(tree: Tree) -> None:
    (tree.proc / "driver/nvidia/capabilities/gpu1/mig/gi8/access").write_text("DeviceFileMinor: many\n")
    with pytest.raises(Unavailable, match="no capability gpu1/mig/gi8/access"):
        make(tree).capabilities(1, 8, 0)


def test_capabilities_need_the_driver(tree: Tree) -> None:
    (tree.proc / "devices").write_text("Character devices:\n195 nvidia\n\nBlock devices:\n")
    with pytest.raises(Unavailable, match="names no nvidia-caps"):
        make(tree).capabilities(1, 8, 0)


def test_the_table_of_minors_serves_where_there_are_no_folders(tree: Tree) -> None:
    capabilities = tree.proc / "driver" / "nvidia" / "capabilities"
    capabilities.rename(capabilities.with_name("elsewhere"))
    with pytest.raises(Unavailable, match="no capability"):
        make(tree).capabilities(0, 1, 0)
    (tree.proc / "driver" / "nvidia-caps").mkdir()
    (tree.proc / "driver" / "nvidia-caps" / "mig-minors").write_text(
        "config 1\nmonitor 2\ngpu0/gi1/access 12\ngpu0/gi1/ci0/access 13\n"
    )
    assert [node.minor for node in make(tree).capabilities(0, 1, 0)] == [12, 13]


def test_wsl_has_one_node(tree: Tree) -> None:
    assert not make(tree).has_paravirtual()
    (tree.dev / "dev" / "dxg").touch()
    assert make(tree).has_paravirtual()
    assert make(tree).paravirtual() == DeviceNode(path="/dev/dxg", permissions="rw", file_mode=0o666)


def test_names_of_all_nodes(tree: Tree) -> None:
    (tree.dev / "dev" / "null").touch()
    (tree.dev / "dev" / "nvidia-caps").mkdir()
    (tree.dev / "dev" / "nvidia-caps" / "nvidia-cap2").touch()
    assert make(tree).names() == [
        "nvidia-caps", "nvidia-modeset", "nvidia-uvm", "nvidia-uvm-tools",
        "nvidia0", "nvidia1", "nvidia2", "nvidia3", "nvidiactl", "nvidia-cap2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "majors"),
    [
        (MAJORS, {"mem": 1, "nvidia": 195, "nvidia-caps": 235, "nvidia-uvm": 511}),
        ("Block devices:\n  8 sd\n", {}),
        ("Character devices:\nx nvidia\n195\n\n", {}),
        ("", {}),
    ],
)
def test_majors_are_those_of_character_devices(text: str, majors: dict[str, int]) -> None:
    assert nodes.parse_majors(text) == majors


@pytest.mark.parametrize(
    ("text", "minor"),
    [
        ("DeviceFileMinor: 39\nDeviceFileMode: 292\nDeviceFileModify: 1\n", 39),
        ("DeviceFileMode: 292\nDeviceFileMinor:\t0\n", 0),
        ("DeviceFileMinor: -1\n", None),
        ("", None),
    ],
)
def test_the_minor_of_a_capability(text: str, minor: int | None) -> None:
    assert nodes.parse_capability(text) == minor


def test_the_table_of_minors() -> None:
    assert nodes.parse_minors("config 1\ngpu0/gi0/access 3\nbroken\ngpu0/gi0/ci0/access x\n") == {
        "config": 1,
        "gpu0/gi0/access": 3,
    }
