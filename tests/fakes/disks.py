"""Disks that fail or stop: full ones, and ones that a crash freezes before a chosen change."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from driver.state.files import Disk


class WatchedDisk(Disk):
    """Tells `watch` what is about to be changed: the operation's name and the path's."""

    def __init__(self, watch: Callable[[str, Path], None]) -> None:
        self._watch = watch

    def write(self, path: Path, data: bytes, mode: int, *, sync: bool) -> None:
        self._watch("write", path)
        super().write(path, data, mode, sync=sync)

    def rename(self, source: Path, target: Path) -> None:
        self._watch("rename", target)
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self._watch("unlink", path)
        super().unlink(path)

    def sync_folder(self, path: Path) -> None:
        self._watch("sync", path)
        super().sync_folder(path)

    def make_folder(self, path: Path, mode: int) -> None:
        self._watch("mkdir", path)
        super().make_folder(path, mode)

    def remove_folder(self, path: Path) -> None:
        self._watch("rmdir", path)
        super().remove_folder(path)


class FullDisk(Disk):
    """A disk without room for files whose path contains one of `full`: half of the data is written, then ENOSPC."""

    def __init__(self) -> None:
        self.full: tuple[str, ...] = ()
        self.when_syncing: tuple[str, ...] = ()
        """Folders whose sync fails."""

    def write(self, path: Path, data: bytes, mode: int, *, sync: bool) -> None:
        if any(part in str(path) for part in self.full):
            super().write(path, data[: len(data) // 2], mode, sync=False)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        super().write(path, data, mode, sync=sync)

    def sync_folder(self, path: Path) -> None:
        if any(part in str(path) for part in self.when_syncing):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        super().sync_folder(path)


class CrashError(BaseException):
    """The process is gone: nobody may catch this as an error of a claim."""


class CrashingDisk(WatchedDisk):
    """Counts changes and stops for good before number `crash_at` (from 1; 0: never)."""

    def __init__(self) -> None:
        super().__init__(self._count)
        self.changes = 0
        self.crash_at = 0

    def note(self, _operation: str) -> None:
        """Count a change of something else than the disk, or stop before it."""
        if self.crash_at and self.changes + 1 >= self.crash_at:
            raise CrashError
        self.changes += 1

    def _count(self, operation: str, _path: Path) -> None:
        self.note(operation)
