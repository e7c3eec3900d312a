"""Writing to the node's disk so that a crash at any instruction leaves the old file or the new one, whole.

Used by `records`, `cdi_dir` and `metadata_dir`. `Disk` has one method for each thing that a crash can come between, so
that tests can stop or fail at every one of them. Errors of the disk become `StorageFailed`.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from driver.model.errors import StorageFailed

_TEMPORARY: Final = ".tmp"


class Disk:
    """The system calls that change something. Raises OSError as they do."""

    def write(self, path: Path, data: bytes, mode: int, *, sync: bool) -> None:
        """Make a file with exactly this content and mode; on the disk itself before it returns if `sync`."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, mode)
        try:
            os.fchmod(descriptor, mode)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            if sync:
                os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Put one file in the place of another, in one step."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        path.unlink()

    def sync_folder(self, path: Path) -> None:
        """Bring names that were made or removed in a folder to the disk itself."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def make_folder(self, path: Path, mode: int) -> None:
        """Make a folder and those above it, if they are not there."""
        path.mkdir(mode, parents=True, exist_ok=True)

    def remove_folder(self, path: Path) -> None:
        """Remove an empty folder."""
        path.rmdir()


def store(disk: Disk, path: Path, data: bytes, *, mode: int = 0o644, durable: bool, sync_name: bool = True) -> None:
    """Put `data` at `path`, replacing what is there, in a folder that exists.

    Durable: it survives a power failure once this returns (file and folder are synced). Otherwise only a crash of the
    process, which is all that a tmpfs can promise. Without `sync_name` the old file may be there again after a power
    failure, whole, if there was one. Raises `StorageFailed`; then the old file is still there.
    """
    temporary = path.with_name(f".{path.name}{_TEMPORARY}")
    try:
        disk.write(temporary, data, mode, sync=durable)
        disk.rename(temporary, path)
        if durable and sync_name:
            disk.sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StorageFailed(str(path), error.strerror or str(error)) from error


def discard(disk: Disk, path: Path, *, durable: bool) -> bool:
    """Remove the file at `path`; return whether there was one. Raises `StorageFailed`."""
    try:
        disk.unlink(path)
        if durable:
            disk.sync_folder(path.parent)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StorageFailed(str(path), error.strerror or str(error)) from error
    return True


def make_folder(disk: Disk, path: Path, mode: int) -> None:
    """Make a folder with those above it, if they are not there. Raises `StorageFailed`."""
    try:
        disk.make_folder(path, mode)
    except OSError as error:
        raise StorageFailed(str(path), error.strerror or str(error)) from error


def is_temporary(name: str) -> bool:
    """Say whether a file of this name is one that `store` left when it was interrupted."""
    return name.startswith(".") and name.endswith(_TEMPORARY)


def original_name(name: str) -> str:
    """Return the name of the file that an interrupted `store` was writing."""
    return name[1 : -len(_TEMPORARY)]
