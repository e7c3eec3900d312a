"""The files of one daemon: `lock`, `process`, `stop`, `log`. Called by `guarding` and `supervisor`.

They are what two instances of the plugin, and one after the other, agree by. The lock is held by the instance that
supervises the daemon and is freed by the kernel however that ends; `process` says which process it is; `stop` says that
nobody wants it any more, also to an instance that supervises it without having been asked.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from driver.daemons import processes
from driver.daemons.cgroups import Cgroup
from driver.daemons.logs import Log
from driver.daemons.processes import Process
from driver.model.errors import StepFailed

LOG_BYTES: Final = 1 << 20
_OURS: Final = Cgroup(None)


class Note(msgspec.Struct, frozen=True):
    """Content of `process`. Number 0: it was about to be started."""

    pid: int
    start: int
    boot: str


_notes: Final = msgspec.json.Decoder(Note)


class Place:
    """The folder of one daemon, made on demand. Every method that writes raises `StepFailed`."""

    def __init__(self, folder: Path, cgroup: Cgroup = _OURS) -> None:
        self.folder = folder
        self.cgroup = cgroup
        self.mark = str(folder)
        self.log = Log(folder / "log", LOG_BYTES)
        self._note, self._stop = folder / "process", folder / "stop"
        self._lock = -1

    @property
    def name(self) -> str:
        """The daemon's name."""
        return self.folder.name

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock."""
        return self._lock >= 0

    def failure(self, why: str) -> StepFailed:
        """Return the error that says so of this daemon."""
        return StepFailed(f"daemon {self.name}", why)

    def try_lock(self) -> bool:
        """Take the lock; False if someone else has it."""
        if self.is_held:
            return True
        path = self.folder / "lock"
        with self._telling("lock"):
            self.folder.mkdir(0o750, parents=True, exist_ok=True)
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if not _get(lock, path):
                os.close(lock)
                return False
        self._lock = lock
        return True

    def unlock(self) -> None:
        """Let go of the lock. Safe to repeat."""
        if self.is_held:
            os.close(self._lock)
        self._lock = -1

    @property
    def ended(self) -> float | None:
        """When it was to be stopped, in seconds since the epoch; None if it is wanted, or something of it may run."""
        if not self.is_clear:
            return None
        try:
            return self._stop.stat().st_mtime
        except OSError:
            return None

    def remove(self) -> bool:
        """Remove the folder with all logs, unless the daemon is wanted or somebody sees to it; say whether it went."""
        if not self.folder.exists() or not self.try_lock():
            return False
        try:
            if self.ended is None:
                return False
            with self._telling("remove"):
                shutil.rmtree(self.folder)
            return True
        finally:
            self.unlock()

    def ask_to_stop(self) -> None:
        """Tell everyone that the daemon shall not run."""
        with self._telling("stop"):
            self._stop.touch()

    def forget_stop(self) -> None:
        """Want the daemon again."""
        with self._telling("start"):
            self._stop.unlink(missing_ok=True)

    @property
    def is_to_stop(self) -> bool:
        """Whether nobody wants the daemon any more."""
        return self._stop.exists()

    def announce(self) -> None:
        """Write down that a process is about to be started, so that it is found even if we die right after."""
        self._write(Note(0, 0, ""))

    def write(self, process: Process) -> None:
        """Write down which process it is."""
        self._write(Note(process.pid, process.start, processes.read_boot_id()))

    def clear(self) -> None:
        """Forget the process: nothing of it runs any more."""
        with self._telling("stop"):
            self._note.unlink(missing_ok=True)

    @property
    def is_clear(self) -> bool:
        """Whether nothing can be left of an earlier process."""
        return not self._note.exists()

    def read(self) -> Process | None:
        """Return the process that was written down; None if there is none, or it is from before the last boot."""
        try:
            note = _notes.decode(self._note.read_bytes())
        except (OSError, msgspec.MsgspecError):
            return None
        return Process(note.pid, note.start) if note.pid and note.boot == processes.read_boot_id() else None

    def _write(self, note: Note) -> None:
        temporary = self.folder / ".process.tmp"
        with self._telling("start"):
            try:
                temporary.write_bytes(msgspec.json.encode(note))
                temporary.replace(self._note)
            except OSError:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise

    @contextlib.contextmanager
    def _telling(self, action: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            what = error.filename or self.folder
            raise self.failure(f"cannot {action} it: {what}: {error.strerror}") from error


def _get(lock: int, path: Path) -> bool:
    """Get an open lock; False if someone else has it, or has just removed its file with the folder."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(lock), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False
