"""The folder of CDI specs, and the folder of metadata documents."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from driver.model.errors import StorageFailed
from driver.state.cdi_dir import CdiDir
from driver.state.files import Disk
from driver.state.metadata_dir import MetadataDir
from tests.fakes.disks import FullDisk, WatchedDisk


def test_a_spec_is_readable_by_everyone_and_its_folder_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "cdi"
    specs = CdiDir(str(folder), Disk())
    assert specs.names() == frozenset()
    specs.store("a.json", b"{}")
    assert specs.names() == {"a.json"}
    assert stat.S_IMODE((folder / "a.json").stat().st_mode) == 0o644
    assert folder.stat().st_mode & 0o555 == 0o555


def test_a_runtime_never_sees_half_a_spec(tmp_path: Path) -> None:
    """Runtimes watch the folder and read *.json and *.yaml: what is being written has neither ending."""
    seen: list[str] = []
    specs = CdiDir(str(tmp_path), WatchedDisk(lambda _, path: seen.append(path.name)))
    specs.store("a.json", b"{}")
    assert seen == [".a.json.tmp", "a.json"]


def test_nothing_is_synced_because_a_reboot_empties_the_folder(tmp_path: Path) -> None:
    seen: list[str] = []
    specs = CdiDir(str(tmp_path), WatchedDisk(lambda operation, _: seen.append(operation)))
    specs.store("a.json", b"{}")
    specs.remove("a.json")
    assert seen == ["write", "rename", "unlink"]


def test_presence_and_removal(tmp_path: Path) -> None:
    specs = CdiDir(str(tmp_path), Disk())
    assert not specs.has("a.json")
    assert not specs.remove("a.json")
    specs.store("a.json", b"{}")
    assert specs.has("a.json")
    (tmp_path / "b.json").touch()
    assert not specs.has("b.json"), "an empty file is no spec"
    assert specs.remove("a.json")
    assert not specs.has("a.json")


def test_a_full_tmpfs_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    disk = FullDisk()
    disk.full = ("a.json",)
    specs = CdiDir(str(tmp_path), disk)
    with pytest.raises(StorageFailed, match="No space left"):
        specs.store("a.json", b"{}")
    assert specs.names() == frozenset()


def test_a_folder_that_cannot_be_made_or_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    specs = CdiDir(str(tmp_path / "file"), Disk())
    with pytest.raises(StorageFailed, match="file"):
        specs.store("a.json", b"{}")
    with pytest.raises(StorageFailed, match="Not a directory"):
        specs.names()


def test_metadata_documents(tmp_path: Path) -> None:
    documents = MetadataDir(str(tmp_path), Disk())
    path = "meta/default_claim/gpu/metadata.json"
    assert not documents.has(path)
    documents.store(path, b"{}\n")
    assert documents.has(path)
    assert stat.S_IMODE((tmp_path / path).stat().st_mode) == 0o644
    documents.store("meta/default_claim/nic/metadata.json", b"{}\n")
    documents.remove("meta/default_claim")
    documents.remove("meta/default_claim")
    assert list((tmp_path / "meta").iterdir()) == []


def test_a_claim_name_that_is_too_long_for_a_folder_is_an_error_and_no_crash(tmp_path: Path) -> None:
    documents = MetadataDir(str(tmp_path), Disk())
    name = f"meta/{'n' * 63}_{'c' * 253}"
    with pytest.raises(StorageFailed, match="File name too long"):
        documents.store(f"{name}/gpu/metadata.json", b"{}")
    assert not documents.has(f"{name}/gpu/metadata.json")


def test_sweeping_keeps_what_belongs_to_claims(tmp_path: Path) -> None:
    documents = MetadataDir(str(tmp_path), Disk())
    for claim in ("a", "b"):
        documents.store(f"meta/{claim}/gpu/metadata.json", b"{}")
    documents.sweep("meta", {"meta/a"})
    assert [path.name for path in (tmp_path / "meta").iterdir()] == ["a"]
    documents.sweep("nothing-here", ())


def test_removing_what_cannot_be_removed_is_told(tmp_path: Path) -> None:
    (tmp_path / "meta/a/gpu/strange").mkdir(parents=True)
    with pytest.raises(StorageFailed):
        MetadataDir(str(tmp_path), Disk()).remove("meta/a")
