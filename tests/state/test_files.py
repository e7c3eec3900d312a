"""Files on disk: the old one or the new one, whole, whatever happens in between."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from driver.model.errors import StorageFailed
from driver.state import files
from driver.state.files import Disk
from tests.fakes.disks import CrashError, CrashingDisk, FullDisk, WatchedDisk


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_stored_with_its_mode_whatever_the_umask(tmp_path: Path, *, durable: bool) -> None:
    before = os.umask(0o077)
    try:
        files.store(Disk(), tmp_path / "a.json", b"new", mode=0o644, durable=durable)
    finally:
        os.umask(before)
    assert content(tmp_path) == {"a.json": b"new"}
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o644


def test_what_durable_means(tmp_path: Path) -> None:
    """Data before the name, the name before the answer: write and sync, rename, sync the folder."""
    seen: list[tuple[str, str]] = []
    disk = WatchedDisk(lambda operation, path: seen.append((operation, path.name)))
    files.store(disk, tmp_path / "a", b"x", durable=True)
    assert seen == [("write", ".a.tmp"), ("rename", "a"), ("sync", tmp_path.name)]
    seen.clear()
    files.store(disk, tmp_path / "a", b"x", durable=False)
    assert seen == [("write", ".a.tmp"), ("rename", "a")]
    seen.clear()
    assert files.discard(disk, tmp_path / "a", durable=True)
    assert seen == [("unlink", "a"), ("sync", tmp_path.name)]


@pytest.mark.parametrize("crash_at", range(1, 5))
def test_a_crash_leaves_the_old_file_or_the_new_one(tmp_path: Path, crash_at: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    disk = CrashingDisk()
    disk.crash_at = crash_at
    try:
        files.store(disk, path, b"new", durable=True)
    except CrashError:
        assert path.read_bytes() == (b"old" if crash_at <= 2 else b"new")
    else:
        assert crash_at == 4
    files.store(Disk(), path, b"newer", durable=True)
    assert content(tmp_path) == {"a": b"newer"}


def test_a_full_disk_leaves_the_old_file_and_no_half_written_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    disk = FullDisk()
    disk.full = ("a",)
    with pytest.raises(StorageFailed, match=r"cannot write .*/a: No space left on device"):
        files.store(disk, tmp_path / "a", b"new content", durable=True)
    assert content(tmp_path) == {"a": b"old"}


def test_a_real_full_device() -> None:
    """/dev/full answers every write with ENOSPC."""
    with pytest.raises(OSError, match="No space left on device"):
        Disk().write(Path("/dev/full"), b"x", 0o666, sync=False)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="No such file or directory"):
        files.store(Disk(), tmp_path / "gone" / "a", b"x", durable=True)


def test_a_link_in_the_place_of_the_temporary_file_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    (tmp_path / ".a.tmp").symlink_to(target)
    with pytest.raises(StorageFailed):
        files.store(Disk(), tmp_path / "a", b"x", durable=False)
    assert not target.exists()
    files.store(Disk(), tmp_path / "a", b"x", durable=False)
    assert not target.exists()


def test_discarding_what_is_not_there_is_done_already(tmp_path: Path) -> None:
    assert not files.discard(Disk(), tmp_path / "a", durable=True)
    assert not files.discard(Disk(), tmp_path / "gone" / "a", durable=True)


def test_discarding_what_cannot_be_removed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(StorageFailed):
        files.discard(Disk(), tmp_path / "a", durable=True)


def test_a_long_file_is_written_whole(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    files.store(Disk(), tmp_path / "a", data, durable=True)
    assert (tmp_path / "a").read_bytes() == data


def test_interrupted_writes_are_recognised_and_nothing_else() -> None:
    assert files.is_temporary(".a.json.tmp")
    assert files.original_name(".a.json.tmp") == "a.json"
    assert not files.is_temporary("a.json")
    assert not files.is_temporary("a.tmp")
    assert not files.is_temporary(".a")
