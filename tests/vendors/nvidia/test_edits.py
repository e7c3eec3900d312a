"""Edits: exactly what a container of a claim gets, and nothing of anybody else's."""

from __future__ import annotations

import dataclasses
import os

import msgspec
import pytest

from driver.contract import Roots, Target
from driver.core import inventory
from driver.model.errors import InvalidInput, Unavailable
from driver.model.prepared import ContainerEdits, DeviceNode, Hook, Mount
from driver.vendors.nvidia.vendor import Nvidia
from tests.fakes.nvml import elf
from tests.fakes.nvml.tree import LIBRARIES, Tree, capability_minor
from tests.vendors.nvidia.conftest import Build
from tests.vendors.nvidia.machine import Rig

VERSION = "580.126.09"
FOLDER = f"/{LIBRARIES}"
READ_ONLY = ("ro", "nosuid", "nodev", "rbind", "rprivate")
OTHER = "/usr/lib64"


def host(rig: Rig, dev_root: str = "/") -> Roots:
    """Return roots as on a node whose own root is mounted at the driver folder of the rig."""
    return rig.tree.roots("/", dev_root)


def aim(vendor: Nvidia) -> list[Target]:
    entries = inventory.build(vendor.snapshot()).entries
    return [
        Target(entry.name, entry.accelerator, entry.partition, admin_access=False, share_id=None) for entry in entries
    ]


def common(vendor: Nvidia) -> ContainerEdits:
    return vendor.prepare(aim(vendor)[:1]).common


def mounts(edits: ContainerEdits) -> dict[str, str]:
    return {mount.container_path: mount.host_path for mount in edits.mounts}


def install_hook(tree: Tree, path: str = "usr/bin/nvidia-cdi-hook") -> None:
    tree.write(path, b"", mode=0o755)


def node(path: str) -> DeviceNode:
    return DeviceNode(path=path, permissions="rw", file_mode=0o666)


def test_a_whole_gpu_exactly(build: Build) -> None:
    """The whole answer for one T4, with the hook: what a runtime is told, to the letter."""
    rig = build("t4")
    install_hook(rig.tree)
    vendor = rig.create(roots=host(rig))
    target = aim(vendor)[1]
    answer = vendor.prepare([target])
    assert answer.devices == {target.name: ContainerEdits(device_nodes=(node("/dev/nvidia1"),))}
    files = [
        *(f"/lib/firmware/nvidia/{VERSION}/{name}.bin" for name in ("gsp_ga10x", "gsp_tu10x")),
        *(f"/usr/bin/nvidia-{name}" for name in ("cuda-mps-control", "cuda-mps-server", "debugdump", "smi")),
        *(
            f"{FOLDER}/lib{name}.so.{VERSION}"
            for name in ("cuda", "nvcuvid", "nvidia-gpucomp", "nvidia-ml", "nvidia-nvvm", "nvidia-ptxjitcompiler")
        ),
    ]
    links = {
        "libcuda.so": "cuda",
        "libcuda.so.1": "cuda",
        "libnvcuvid.so.1": "nvcuvid",
        "libnvidia-ml.so.1": "nvidia-ml",
        "libnvidia-nvvm.so.4": "nvidia-nvvm",
        "libnvidia-ptxjitcompiler.so.1": "nvidia-ptxjitcompiler",
    }
    words = [word for name, to in links.items() for word in ("--link", f"lib{to}.so.{VERSION}::{FOLDER}/{name}")]
    hook = "/usr/bin/nvidia-cdi-hook"
    assert answer.common == ContainerEdits(
        env=("NVIDIA_VISIBLE_DEVICES=void",),
        device_nodes=tuple(node(f"/dev/nvidia{name}") for name in ("ctl", "-uvm", "-uvm-tools", "-modeset")),
        mounts=tuple(Mount(host_path=path, container_path=path, options=READ_ONLY) for path in files),
        hooks=(
            Hook(hook_name="createContainer", path=hook, args=("nvidia-cdi-hook", "create-symlinks", *words)),
            Hook(
                hook_name="createContainer", path=hook, args=("nvidia-cdi-hook", "update-ldcache", "--folder", FOLDER)
            ),
        ),
    )


def test_a_partition_exactly(build: Build) -> None:
    rig = build("a100-mig")
    vendor = rig.create(roots=host(rig))
    target = next(item for item in aim(vendor) if item.partition and item.partition.profile == "2g.20gb")
    gpu_instance, compute_instance = capability_minor(1, 8), capability_minor(1, 8, 0)
    answer = vendor.prepare([target]).devices[target.name]
    assert answer == ContainerEdits(
        device_nodes=(
            node("/dev/nvidia1"),
            *(
                DeviceNode(
                    path=f"/dev/nvidia-caps/nvidia-cap{minor}",
                    type="c",
                    major=235,
                    minor=minor,
                    permissions="rw",
                    file_mode=0o666,
                )
                for minor in (gpu_instance, compute_instance)
            ),
        )
    )


def test_no_container_sees_a_device_of_another(build: Build) -> None:
    """Over all GPUs and partitions of a node: nodes of two targets meet in their parent only."""
    rig = build("a100-mig")
    vendor = rig.create()
    targets = aim(vendor)
    answer = vendor.prepare(targets)
    assert len(targets) == 11
    control = {item.path for item in answer.common.device_nodes}
    seen: dict[str, str] = {}
    for target in targets:
        paths = {item.path for item in answer.devices[target.name].device_nodes}
        assert not paths & control
        parent = f"/dev/nvidia{target.accelerator.handle['minor']}"
        assert parent in paths
        for path in paths - {parent}:
            assert seen.setdefault(path, target.name) == target.name
        assert len(paths) == (3 if target.partition else 1)


def test_claimed_devices_are_the_only_ones(rig: Rig) -> None:
    vendor = rig.create()
    targets = aim(vendor)
    text = msgspec.json.encode(vendor.prepare(targets[2:4])).decode()
    nodes = {f"/dev/nvidia{number}" for number in range(8) if f"/dev/nvidia{number}" in text}
    expected = {f"/dev/nvidia{target.accelerator.handle['minor']}" for target in targets[2:4]}
    assert nodes == expected


def test_all_nodes_can_be_used_by_a_user_without_capabilities(build: Build) -> None:
    vendor = build("a100-mig").create()
    answer = vendor.prepare(aim(vendor))
    edits = (answer.common, *answer.devices.values())
    assert {(item.permissions, item.file_mode) for part in edits for item in part.device_nodes} == {("rw", 0o666)}


@pytest.mark.parametrize("folder", ["usr/bin", "usr/local/bin", "usr/local/nvidia/toolkit"])
def test_the_hook_is_found_on_the_host(rig: Rig, folder: str) -> None:
    install_hook(rig.tree, f"{folder}/nvidia-cdi-hook")
    assert {hook.path for hook in common(rig.create(roots=host(rig))).hooks} == {f"/{folder}/nvidia-cdi-hook"}


def test_the_older_tool_holds_the_hook_as_a_subcommand(rig: Rig) -> None:
    install_hook(rig.tree, "usr/bin/nvidia-ctk")
    hooks = common(rig.create(roots=host(rig))).hooks
    assert {hook.path for hook in hooks} == {"/usr/bin/nvidia-ctk"}
    assert [hook.args[:3] for hook in hooks] == [
        ("nvidia-ctk", "hook", "create-symlinks"),
        ("nvidia-ctk", "hook", "update-ldcache"),
    ]
    install_hook(rig.tree)
    assert common(rig.create(roots=host(rig))).hooks[0].path == "/usr/bin/nvidia-cdi-hook"


def test_a_hook_that_is_told_is_taken_as_it_is(rig: Rig) -> None:
    install_hook(rig.tree)
    told = rig.create({"cdi-hook": "/opt/hooks/nvidia-cdi-hook"}, host(rig))
    assert {hook.path for hook in common(told).hooks} == {"/opt/hooks/nvidia-cdi-hook"}
    assert common(rig.create({"cdi-hook": "none"}, host(rig))).hooks == ()


def test_the_hosts_tools_are_not_looked_for_in_a_driver_container(rig: Rig) -> None:
    install_hook(rig.tree)
    assert common(rig.create(roots=rig.tree.roots("/run/nvidia/driver"))).hooks == ()


def test_without_the_hook_every_name_is_a_mount(rig: Rig) -> None:
    """Names in the library's own folder, and in the folders that linkers search on Debian and elsewhere."""
    edits = common(rig.create(roots=host(rig)))
    assert edits.hooks == ()
    assert edits.env == ("NVIDIA_VISIBLE_DEVICES=void",)
    found = mounts(edits)
    real = f"{FOLDER}/libcuda.so.{VERSION}"
    for folder in (FOLDER, OTHER):
        for name in ("libcuda.so", "libcuda.so.1", f"libcuda.so.{VERSION}"):
            assert found[f"{folder}/{name}"] == real
    assert found[f"{OTHER}/libnvidia-nvvm.so.4"] == f"{FOLDER}/libnvidia-nvvm.so.{VERSION}"
    assert found["/usr/bin/nvidia-smi"] == "/usr/bin/nvidia-smi"
    assert len(found) == len(edits.mounts)


def test_without_the_hook_a_library_in_an_odd_folder_is_found_too(build: Build) -> None:
    rig = build("t4")
    rig.tree.uninstall(VERSION)
    path = rig.tree.install("usr/local/nvidia/lib64")
    rig.loader.libraries = {str(path): rig.library}
    found = mounts(common(rig.create(roots=host(rig))))
    for folder in ("/usr/local/nvidia/lib64", FOLDER, OTHER):
        assert found[f"{folder}/libcuda.so.1"] == f"/usr/local/nvidia/lib64/libcuda.so.{VERSION}"


def test_two_libraries_of_one_name_keep_their_own_places(build: Build) -> None:
    rig = build("t4")
    rig.tree.install("usr/lib64")
    found = mounts(common(rig.create(roots=host(rig))))
    assert found[f"{FOLDER}/libcuda.so.1"] == f"{FOLDER}/libcuda.so.{VERSION}"
    assert found[f"{OTHER}/libcuda.so.1"] == f"{OTHER}/libcuda.so.{VERSION}"


def test_links_across_folders_are_absolute(build: Build) -> None:
    rig = build("t4")
    install_hook(rig.tree)
    private = f"usr/lib/{LIBRARIES.rpartition('/')[2]}/nvidia/current"
    rig.tree.uninstall(VERSION)
    rig.loader.libraries = {str(rig.tree.install(private)): rig.library}
    rig.tree.link(f"{LIBRARIES}/libnvidia-ml.so.1", f"/{private}/libnvidia-ml.so.1")
    make_links, rebuild = common(rig.create(roots=host(rig))).hooks
    assert f"/{private}/libnvidia-ml.so.{VERSION}::{FOLDER}/libnvidia-ml.so.1" in make_links.args
    assert f"libnvidia-ml.so.{VERSION}::/{private}/libnvidia-ml.so.1" in make_links.args
    assert rebuild.args[2:] == ("--folder", FOLDER, "--folder", f"/{private}")


def test_a_driver_container_is_mounted_from_where_it_is(rig: Rig) -> None:
    roots = rig.tree.roots("/run/nvidia/driver", "/run/nvidia/driver")
    vendor = rig.create({"cdi-hook": "/usr/local/nvidia/toolkit/nvidia-cdi-hook"}, roots)
    target = aim(vendor)[0]
    answer = vendor.prepare([target])
    found = mounts(answer.common)
    assert found[f"{FOLDER}/libcuda.so.{VERSION}"] == f"/run/nvidia/driver{FOLDER}/libcuda.so.{VERSION}"
    assert found["/usr/bin/nvidia-smi"] == "/run/nvidia/driver/usr/bin/nvidia-smi"
    assert answer.common.device_nodes[0].host_path == "/run/nvidia/driver/dev/nvidiactl"
    assert answer.devices[target.name].device_nodes[0].host_path == "/run/nvidia/driver/dev/nvidia0"
    assert all(mount.host_path.startswith("/run/nvidia/driver/") for mount in answer.common.mounts)


def test_sockets_are_not_read_only_files(rig: Rig) -> None:
    rig.tree.write("run/nvidia-persistenced/socket", b"")
    found = next(mount for mount in common(rig.create()).mounts if mount.container_path.endswith("/socket"))
    assert found.container_path == "/run/nvidia-persistenced/socket"
    assert found.options == ("nosuid", "nodev", "noexec", "rbind", "rprivate")


def test_the_order_of_mounts_is_that_of_their_paths(rig: Rig) -> None:
    paths = [mount.container_path for mount in common(rig.create()).mounts]
    assert paths == sorted(paths)


@pytest.mark.parametrize("hook", [True, False])
def test_the_same_again_gives_the_same_bytes(rig: Rig, hook: bool) -> None:
    if hook:
        install_hook(rig.tree)
    vendor = rig.create(roots=host(rig))
    targets = aim(vendor)
    first = msgspec.json.encode(vendor.prepare(targets))
    os.utime(rig.tree.driver / LIBRARIES, ns=(1, 1))  # look at everything again
    assert msgspec.json.encode(vendor.prepare(targets)) == first
    assert msgspec.json.encode(rig.create(roots=host(rig)).prepare(targets)) == first


def test_a_control_node_that_appears_later_is_given_although_no_file_of_the_driver_changed(rig: Rig) -> None:
    """The kernel module nvidia-uvm is often loaded only when somebody needs it."""
    devices, uvm = rig.tree.proc / "devices", rig.tree.dev / "dev/nvidia-uvm"
    majors = devices.read_text()
    devices.write_text(majors.replace("511 nvidia-uvm\n", ""))
    uvm.unlink()
    vendor = rig.create()
    assert "/dev/nvidia-uvm" not in {each.path for each in common(vendor).device_nodes}
    devices.write_text(majors)
    assert "/dev/nvidia-uvm" in {each.path for each in common(vendor).device_nodes}
    uvm.touch()
    assert [each.major for each in common(vendor).device_nodes if each.path == "/dev/nvidia-uvm"] == [None]


def test_wsl_gives_its_one_node_and_its_folder(build: Build) -> None:
    rig = build("t4")
    rig.tree.uninstall(VERSION)
    rig.tree.unload()
    for path in (rig.tree.dev / "dev").iterdir():
        path.unlink()
    (rig.tree.dev / "dev" / "dxg").touch()
    for name in ("libcuda.so.1", "libnvidia-ml.so.1", "libdxcore.so"):
        rig.tree.write(f"usr/lib/wsl/lib/{name}", elf.build(name))
    rig.tree.write("usr/lib/wsl/lib/nvidia-smi", b"", mode=0o755)
    rig.tree.write("usr/lib/wsl/drivers/nv/libcuda.so.1.1", elf.build("libcuda.so.1"))
    rig.loader.libraries = {str(rig.tree.driver / "usr/lib/wsl/lib/libnvidia-ml.so.1"): rig.library}
    for gpu in rig.node.gpus:
        gpu.errors["nvmlDeviceGetMinorNumber"] = 3
        rig.tree.unplug(gpu.address)
    vendor = rig.create(roots=host(rig))
    targets = aim(vendor)
    answer = vendor.prepare(targets)
    assert [target.accelerator.handle for target in targets] == [{}, {}]
    assert set(answer.devices.values()) == {ContainerEdits(device_nodes=(node("/dev/dxg"),))}
    assert answer.common.device_nodes == ()
    found = mounts(answer.common)
    assert found["/usr/lib/wsl/drivers"] == "/usr/lib/wsl/drivers"
    assert found["/usr/lib/wsl/lib/libdxcore.so"] == "/usr/lib/wsl/lib/libdxcore.so"
    assert found[f"{FOLDER}/libcuda.so.1"] == "/usr/lib/wsl/lib/libcuda.so.1"
    assert found["/usr/bin/nvidia-smi"] == "/usr/lib/wsl/lib/nvidia-smi"
    install_hook(rig.tree)
    (rebuild,) = common(rig.create(roots=host(rig))).hooks[-1:]
    assert rebuild.args[-2:] == ("--folder", "/usr/lib/wsl/lib")


def test_a_target_of_another_vendor_is_refused(rig: Rig) -> None:
    vendor = rig.create()
    target = aim(vendor)[0]
    strange = dataclasses.replace(target, accelerator=dataclasses.replace(target.accelerator, handle={"minor": "x"}))
    with pytest.raises(InvalidInput, match=rf"device {target.name}, handle minor: 'x' is not allowed"):
        vendor.prepare([strange])


def test_a_partition_that_was_removed_meanwhile(build: Build) -> None:
    rig = build("a100-mig")
    vendor = rig.create()
    target = next(item for item in aim(vendor) if item.partition)
    rig.node.gpus[0].instances.clear()
    rig.node.gpus[1].instances.clear()
    rig.tree.sync()
    with pytest.raises(Unavailable, match="no capability"):
        vendor.prepare([target])


def test_a_whole_gpu_needs_no_capability(build: Build) -> None:
    rig = build("a100-mig")
    vendor = rig.create()
    target = next(item for item in aim(vendor) if item.partition is None)
    (rig.tree.proc / "devices").unlink()
    assert len(vendor.prepare([target]).devices[target.name].device_nodes) == 1
