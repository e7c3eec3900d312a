"""A lock between threads and between processes, with a counter that tells whether somebody else wrote meanwhile.

Used by `records`. Two instances of the plugin share the records while one replaces the other in a rolling update.
The kernel lets go of the lock when a process dies, however it dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from driver.model.errors import StorageFailed, Unavailable

_POLL: Final = 0.005
"""Seconds between looks at a lock that another process holds: only during rolling updates."""
_SIZE: Final = 8
"""Bytes of the counter."""


class SharedLock:
    """An flock on a file that also holds the counter."""

    def __init__(self, path: Path) -> None:
        """Open the file, make it if needed. Raises `StorageFailed`."""
        self._mutex = threading.Lock()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageFailed(str(path), error.strerror or str(error)) from error

    def close(self) -> None:
        """Let go of the file. Safe to repeat."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    @contextlib.contextmanager
    def hold(self, timeout: float) -> Iterator[None]:
        """Hold the lock alone. Raises `Unavailable` after `timeout` seconds of waiting for it, or once it is closed."""
        deadline = time.monotonic() + timeout
        if not self._mutex.acquire(timeout=max(timeout, 0)):
            raise Unavailable(f"other claims have kept the records busy for {timeout:.0f} s")
        try:
            while not self._try():
                if time.monotonic() >= deadline:
                    raise Unavailable(f"another instance of the plugin has kept the records busy for {timeout:.0f} s")
                time.sleep(_POLL)
            try:
                yield
            finally:
                if self._file >= 0:
                    fcntl.flock(self._file, fcntl.LOCK_UN)
        finally:
            self._mutex.release()

    def read_counter(self) -> int:
        """Return how often `count` was called, by any process."""
        return int.from_bytes(os.pread(self._file, _SIZE, 0), "big")

    def count(self) -> None:
        """Tell other processes that something is about to change. Only while the lock is held."""
        os.pwrite(self._file, ((self.read_counter() + 1) % 256**_SIZE).to_bytes(_SIZE, "big"), 0)

    def _try(self) -> bool:
        if self._file < 0:
            raise Unavailable("the records are closed: the plugin is stopping")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
