"""Driver roots read like a chroot, and the headers of shared libraries."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from driver.vendors.nvidia import libraries
from driver.vendors.nvidia.libraries import DynamicLoader, Root
from tests.fakes.nvml import elf


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root("/run/driver", str(tmp_path))


def make(root: Root, path: str, content: bytes = b"") -> Path:
    target = Path(root.here(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return target


def test_a_path_has_two_names(root: Root) -> None:
    assert root.on_host("/usr/lib/x") == "/run/driver/usr/lib/x"
    assert root.here("/usr/lib/x") == f"{root.mount}/usr/lib/x"


def test_links_do_not_lead_out_of_the_root(root: Root) -> None:
    make(root, "/usr/lib/nvidia/current/libcuda.so.535")
    alternatives = Path(root.here("/etc/alternatives"))
    alternatives.mkdir(parents=True)
    (alternatives / "cuda").symlink_to("/usr/lib/nvidia/current/libcuda.so.535")
    Path(root.here("/usr/lib/libcuda.so.1")).symlink_to("../../../../../../etc/alternatives/cuda")
    Path(root.here("/lib")).symlink_to("usr/lib")
    assert root.resolve("/lib/libcuda.so.1") == "/usr/lib/nvidia/current/libcuda.so.535"
    assert root.resolve("/usr/./lib/../lib//nvidia") == "/usr/lib/nvidia"


def test_links_that_lead_nowhere(root: Root) -> None:
    make(root, "/usr/lib/x")
    Path(root.here("/usr/lib/broken")).symlink_to("gone")
    Path(root.here("/usr/lib/a")).symlink_to("b")
    Path(root.here("/usr/lib/b")).symlink_to("a")
    outside = Path(root.mount).parent / "outside"
    outside.touch()
    Path(root.here("/usr/lib/escape")).symlink_to(outside)
    for name in ("broken", "a", "missing", "escape", "x/y"):
        assert root.resolve(f"/usr/lib/{name}") is None, name


def test_a_folder_that_cannot_be_read_is_empty(root: Root) -> None:
    assert root.names("/usr/lib") == []
    make(root, "/usr/lib/b")
    make(root, "/usr/lib/a")
    assert root.names("/usr/lib") == ["a", "b"]
    assert root.names("/usr/lib/a") == []


def test_folders_are_those_that_exist_each_once(root: Root) -> None:
    for folder in (f"/usr/lib/{libraries.TRIPLET}", "/usr/local/nvidia/lib64"):
        Path(root.here(folder)).mkdir(parents=True)
    Path(root.here("/lib")).symlink_to("usr/lib")
    assert libraries.folders(root) == (f"/usr/lib/{libraries.TRIPLET}", "/usr/lib", "/usr/local/nvidia/lib64")


def test_folders_of_the_linkers_configuration_are_searched_too(root: Root) -> None:
    make(
        root, "/etc/ld.so.conf", b"# comment\ninclude ld.so.conf.d/*.conf\n/opt/a/lib  # mine\ninclude /etc/more.conf\n"
    )
    make(root, "/etc/ld.so.conf.d/b.conf", b"/opt/b/lib\nrelative/ignored\n")
    make(root, "/etc/ld.so.conf.d/c.conf", b"/opt/c/lib\ninclude /etc/ld.so.conf\n")
    make(root, "/etc/ld.so.conf.d/d.txt", b"/opt/d/lib\n")
    make(root, "/etc/more.conf", b"/opt/e/lib\n/opt/missing\n")
    for name in "abcde":
        Path(root.here(f"/opt/{name}/lib")).mkdir(parents=True)
    assert libraries.folders(root) == ("/opt/b/lib", "/opt/c/lib", "/opt/a/lib", "/opt/e/lib")


def test_the_name_of_a_library(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(elf.build("libcuda.so.1"))
    assert libraries.read_object(str(path)) == libraries.SharedObject(native=True, soname="libcuda.so.1")
    path.write_bytes(elf.build(None))
    assert libraries.read_object(str(path)) == libraries.SharedObject(native=True, soname=None)


@pytest.mark.parametrize("content", [elf.build("a", bits=32), elf.build("a", machine=8), elf.build("a", machine=40)])
def test_libraries_of_other_machines_are_not_native(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    assert libraries.read_object(str(path)) == libraries.SharedObject(native=False, soname=None)


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fEL", elf.build("a")[:20], b"GROUP ( /lib/libc.so.6 )"])
def test_files_that_are_no_libraries(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    assert libraries.read_object(str(path)) is None
    assert libraries.read_object(str(tmp_path / "missing")) is None


def test_a_truncated_library_has_no_name(tmp_path: Path) -> None:
    whole = elf.build("libcuda.so.1")
    for length in range(64, len(whole)):
        path = tmp_path / "x"
        path.write_bytes(whole[:length])
        found = libraries.read_object(str(path))
        assert found is None or found.native, length


def test_a_name_outside_of_what_is_mapped_is_no_name(tmp_path: Path) -> None:
    raw = bytearray(elf.build("libcuda.so.1"))
    struct.pack_into("<Q", raw, 64 + 32, 8)  # p_filesz of PT_LOAD
    path = tmp_path / "x"
    path.write_bytes(raw)
    assert libraries.read_object(str(path)) == libraries.SharedObject(native=True, soname=None)


def _system_library() -> Path:
    """Return a real library that this process uses."""
    maps = Path("/proc/self/maps").read_text().split()
    return next(Path(word) for word in maps if word.startswith("/") and Path(word).name.startswith("libm.so"))


def test_a_real_library_of_this_machine() -> None:
    found = libraries.read_object(str(_system_library()))
    assert found == libraries.SharedObject(native=True, soname="libm.so.6")


def test_the_loader_leaves_nothing_mapped(tmp_path: Path) -> None:
    copy = tmp_path / "libnvidia-ml.so.1"
    copy.write_bytes(_system_library().read_bytes())
    loader = DynamicLoader()
    library = loader.open(str(copy))
    assert callable(library.cos)  # type: ignore[attr-defined]
    assert str(copy) in Path("/proc/self/maps").read_text()
    loader.close(library)
    assert str(copy) not in Path("/proc/self/maps").read_text()
