"""The driver's files are found where they are, and looked for again only when something changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from driver.model.errors import Unavailable
from driver.vendors.nvidia.driver_files import File, Finder, Library
from tests.fakes.nvml import elf
from tests.fakes.nvml.hardware import FakeNode
from tests.fakes.nvml.tree import LIBRARIES, STRANGERS, TOOLS, Tree

VERSION = "580.126.09"
FOLDER = f"/{LIBRARIES}"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path, FakeNode(gpus=[], driver_version=VERSION))


def finder(tree: Tree) -> Finder:
    return Finder("/", str(tree.driver))


def test_nothing_installed_yet(tree: Tree) -> None:
    with pytest.raises(Unavailable, match=r"libnvidia-ml\.so\.1 is not below the driver root /"):
        finder(tree).files()


def test_libraries_with_all_their_names(tree: Tree) -> None:
    tree.install()
    found = {Path(library.path).name: library for library in finder(tree).files().libraries}
    assert sorted(found) == [
        f"{name}.so.{VERSION}"
        for name in (
            "libcuda", "libnvcuvid", "libnvidia-gpucomp", "libnvidia-ml", "libnvidia-nvvm", "libnvidia-ptxjitcompiler"
        )
    ]  # fmt: skip
    assert found[f"libcuda.so.{VERSION}"] == Library(
        f"{FOLDER}/libcuda.so.{VERSION}", (f"{FOLDER}/libcuda.so", f"{FOLDER}/libcuda.so.1")
    )
    assert found[f"libnvidia-nvvm.so.{VERSION}"].names == (f"{FOLDER}/libnvidia-nvvm.so.4",)
    assert found[f"libnvidia-gpucomp.so.{VERSION}"].names == ()


def test_only_what_belongs_to_this_driver(tree: Tree) -> None:
    """Other versions, other machines, other makers, static and text files beside it are left alone."""
    tree.install()
    expected = finder(tree).files()
    tree.write(f"{LIBRARIES}/libcuda.so.535.54.03", elf.build("libcuda.so.1"))
    tree.write(f"{LIBRARIES}/libOpenCL.so.1.0.0", elf.build("libOpenCL.so.1"))
    tree.link(f"{LIBRARIES}/libOpenCL.so.1", "libOpenCL.so.1.0.0")
    tree.write(f"{LIBRARIES}/libnvidia-broken.so.{VERSION}", b"text")
    tree.write(f"{LIBRARIES}/libcuda.a", b"")
    tree.write(f"usr/lib/libcuda.so.{VERSION}", elf.build("libcuda.so.1", bits=32))
    tree.link(f"{LIBRARIES}/libnvidia-dangling.so.{VERSION}", "nowhere")
    assert finder(tree).files() == expected


def test_names_are_completed_where_the_installer_left_them_out(tree: Tree) -> None:
    """A library is asked for by the name in its own header; frameworks ask for libcuda.so as well."""
    tree.install()
    for name in ("libcuda.so", "libcuda.so.1", "libnvcuvid.so.1"):
        (tree.driver / LIBRARIES / name).unlink()
    found = {Path(library.path).name: library.names for library in finder(tree).files().libraries}
    assert found[f"libcuda.so.{VERSION}"] == (f"{FOLDER}/libcuda.so", f"{FOLDER}/libcuda.so.1")
    assert found[f"libnvcuvid.so.{VERSION}"] == (f"{FOLDER}/libnvcuvid.so.1",)


def test_programs_of_the_driver_and_no_others(tree: Tree) -> None:
    tree.install()
    tree.write("usr/bin/nvidia-imex-ctl", b"", mode=0o755)
    tree.write("usr/sbin/nvidia-imex", b"", mode=0o755)
    tree.write("usr/bin/nvidia-persistenced", b"", mode=0o755)
    found = [Path(file.path).name for file in finder(tree).files().binaries]
    assert sorted(found) == sorted([*TOOLS, "nvidia-imex", "nvidia-imex-ctl", "nvidia-persistenced"])
    assert not set(found) & set(STRANGERS)


def test_a_program_that_cannot_be_run_is_none(tree: Tree) -> None:
    tree.install()
    (tree.driver / "usr/bin/nvidia-smi").chmod(0o644)
    assert "/usr/bin/nvidia-smi" not in {file.path for file in finder(tree).files().binaries}


def test_firmware_and_sockets(tree: Tree) -> None:
    tree.install()
    (tree.driver / "usr/lib/firmware").symlink_to("../../lib/firmware")
    tree.write("lib/firmware/nvidia/535.54.03/gsp_tu10x.bin", b"")
    tree.write(f"lib/firmware/nvidia/{VERSION}/other.bin", b"")
    tree.write("run/nvidia-persistenced/socket", b"")
    found = finder(tree).files()
    folder = f"/lib/firmware/nvidia/{VERSION}"
    assert [file.path for file in found.firmware] == [f"{folder}/gsp_ga10x.bin", f"{folder}/gsp_tu10x.bin"]
    assert found.sockets == ("/run/nvidia-persistenced/socket",)


def test_debian_keeps_the_driver_behind_alternatives(tree: Tree) -> None:
    """Links lead through /etc/alternatives of the driver root, not of this process's own root."""
    private = f"usr/lib/{LIBRARIES.rpartition('/')[2]}/nvidia/current"
    tree.install(private)
    (tree.driver / private / "libcuda.so").unlink()
    for name, soname in (("libcuda", "libcuda.so.1"), ("libnvidia-ml", "libnvidia-ml.so.1")):
        tree.link(f"etc/alternatives/nvidia--{soname}", f"/{private}/{soname}")
        tree.link(f"{LIBRARIES}/{soname}", f"/etc/alternatives/nvidia--{soname}")
        assert (tree.driver / private / f"{name}.so.{VERSION}").exists()
    (tree.driver / "usr/bin/nvidia-smi").unlink()
    tree.write("usr/lib/nvidia/current/nvidia-smi", b"", mode=0o755)
    tree.link("etc/alternatives/nvidia--nvidia-smi", "/usr/lib/nvidia/current/nvidia-smi")
    tree.link("usr/bin/nvidia-smi", "/etc/alternatives/nvidia--nvidia-smi")
    found = finder(tree).files()
    cuda = next(library for library in found.libraries if "libcuda" in library.path)
    assert cuda.path == f"/{private}/libcuda.so.{VERSION}"
    assert cuda.names == (f"{FOLDER}/libcuda.so.1", f"/{private}/libcuda.so", f"/{private}/libcuda.so.1")
    assert found.folders == (FOLDER, f"/{private}")
    assert File("/usr/bin/nvidia-smi", "/usr/lib/nvidia/current/nvidia-smi") in found.binaries


@pytest.mark.parametrize("folder", ["usr/lib64", "lib64", "usr/local/nvidia/lib64", "opt/nvidia/lib"])
def test_other_distributions_have_other_folders(tree: Tree, folder: str) -> None:
    tree.install(folder)
    tree.write("etc/ld.so.conf", b"include ld.so.conf.d/*.conf\n")
    tree.write("etc/ld.so.conf.d/nvidia.conf", b"/opt/nvidia/lib\n")
    found = finder(tree).files()
    assert found.folders == (f"/{folder}",)
    assert len(found.libraries) == 6


@pytest.mark.parametrize("below", ["run/nvidia/driver", "home/kubernetes/bin/nvidia"])
def test_a_driver_container_is_found_below_the_host(tree: Tree, below: str) -> None:
    tree.install(f"{below}/{LIBRARIES}")
    found = finder(tree).files()
    assert found.root.on_host(found.nvml) == f"/{below}{FOLDER}/libnvidia-ml.so.{VERSION}"
    assert found.root.here(found.nvml) == f"{tree.driver}/{below}{FOLDER}/libnvidia-ml.so.{VERSION}"
    assert found.nvml == f"{FOLDER}/libnvidia-ml.so.{VERSION}"


def test_the_hosts_own_driver_comes_first(tree: Tree) -> None:
    tree.install(f"run/nvidia/driver/{LIBRARIES}")
    own = Finder("/", str(tree.driver))
    assert own.files().root.host == "/run/nvidia/driver"
    tree.install()
    assert own.files().root.host == ""


def test_a_32_bit_library_is_not_taken_for_the_driver(tree: Tree) -> None:
    tree.install("usr/lib64")
    tree.write(f"{LIBRARIES}/libnvidia-ml.so.1", elf.build("libnvidia-ml.so.1", bits=32))
    assert finder(tree).files().nvml == f"/usr/lib64/libnvidia-ml.so.{VERSION}"


def test_a_library_without_a_version_is_not_understood(tree: Tree) -> None:
    tree.write(f"{LIBRARIES}/libnvidia-ml.so.1", elf.build("libnvidia-ml.so.1"))
    with pytest.raises(Unavailable, match="does not carry a driver version"):
        finder(tree).files()


def test_wsl_has_its_own_folder_and_no_versions(tree: Tree) -> None:
    for name, soname in (
        ("libcuda.so", "libcuda.so.1"),
        ("libcuda.so.1", "libcuda.so.1"),
        ("libnvidia-ml.so.1", "libnvidia-ml.so.1"),
        ("libdxcore.so", "libdxcore.so"),
    ):
        tree.write(f"usr/lib/wsl/lib/{name}", elf.build(soname))
    tree.write("usr/lib/wsl/lib/nvidia-smi", b"", mode=0o755)
    tree.write("usr/lib/wsl/drivers/nv_dispi.inf_amd64/libcuda.so.1.1", elf.build("libcuda.so.1"))
    found = finder(tree).files()
    assert found.wsl
    assert found.version is None
    assert [Path(library.path).name for library in found.libraries] == [
        "libcuda.so",
        "libcuda.so.1",
        "libdxcore.so",
        "libnvidia-ml.so.1",
    ]
    assert {name for library in found.libraries for name in library.names} == set()
    assert found.shared == ("/usr/lib/wsl/drivers",)
    assert found.binaries == (File("/usr/bin/nvidia-smi", "/usr/lib/wsl/lib/nvidia-smi"),)


def test_nothing_is_looked_at_twice_while_nothing_changes(tree: Tree) -> None:
    tree.install()
    own = finder(tree)
    assert own.files() is own.files()


@pytest.mark.parametrize(
    "path",
    [
        f"{LIBRARIES}/libnvidia-new.so.{VERSION}",
        "usr/bin/nvidia-imex",
        f"lib/firmware/nvidia/{VERSION}/gsp_new.bin",
        "run/nvidia-persistenced/socket",
    ],
)
def test_a_new_file_is_noticed(tree: Tree, path: str) -> None:
    tree.install()
    (tree.driver / "run/nvidia-persistenced").mkdir(parents=True)
    own = finder(tree)
    before = own.files()
    tree.write(path, elf.build(None), mode=0o755)
    assert own.files() != before


def test_a_removed_driver_is_noticed_and_so_is_its_successor(tree: Tree) -> None:
    tree.install()
    own = finder(tree)
    assert own.files().version == VERSION
    tree.uninstall(VERSION)
    with pytest.raises(Unavailable):
        own.files()
    tree.node.driver_version = "590.48.01"
    tree.install()
    assert own.files().version == "590.48.01"
    assert all(library.path.endswith("590.48.01") for library in own.files().libraries)


def test_the_same_files_give_the_same_answer_to_each(tree: Tree) -> None:
    tree.install()
    assert finder(tree).files() == finder(tree).files()
