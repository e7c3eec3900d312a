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
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from driver.model.errors import StorageFailed, Unavailable

_POLL: Final = 0.005
"""Seconds between looks at a lock that another process holds: only during rolling updates."""
_SIZE: Final = 8
"""Bytes of the counter."""


class _Queue:
    """A lock between threads that each gets in the order in which they came: a claim is never overtaken for long."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()
        """The first has the lock."""

    def acquire(self, timeout: float) -> bool:
        """Wait for at most so many seconds; return whether the lock is ours."""
        turn = object()
        with self._changed:
            self._waiting.append(turn)
            if self._changed.wait_for(lambda: self._waiting[0] is turn, timeout):
                return True
            self._waiting.remove(turn)
            return False

    def count(self) -> int:
        """Return how many have the lock or wait for it."""
        return len(self._waiting)

    def release(self) -> None:
        """Let the next one in."""
        with self._changed:
            self._waiting.popleft()
            self._changed.notify_all()


class Grip:
    """One thread's hold on a lock, which it can let go of and take again."""

    def __init__(self, lock: SharedLock) -> None:
        self._lock = lock
        self.held = False

    def take(self, timeout: float) -> None:
        """Get the lock. Raises as `SharedLock.hold` does; then it is not ours."""
        self._lock.acquire(timeout)
        self.held = True

    def drop(self) -> None:
        """Let go of the lock, if it is ours."""
        if self.held:
            self.held = False
            self._lock.release()


class SharedLock:
    """An flock on a file that also holds the counter. Every method raises `StorageFailed` if the disk refuses."""

    def __init__(self, path: Path, what: str = "records") -> None:
        """Open the file, make it if needed. `what` it keeps others from, for messages."""
        self._what = what
        self._queue = _Queue()
        self._path = path
        self._file = self._open()
        self.generation = 1
        """How often the file was opened: one that was replaced by hand counts anew."""

    @property
    def waiting(self) -> int:
        """How many threads of this process wait for the one that has it."""
        return max(0, self._queue.count() - 1)

    def close(self) -> None:
        """Let go of the file. Safe to repeat."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    @contextlib.contextmanager
    def hold(self, timeout: float) -> Iterator[None]:
        """Hold the lock alone. Raises `Unavailable` after `timeout` seconds of waiting for it, or once it is closed."""
        with self.grip(timeout):
            yield

    @contextlib.contextmanager
    def grip(self, timeout: float) -> Iterator[Grip]:
        """Hold the lock alone, as `hold` does, with a way to let others have it meanwhile."""
        grip = Grip(self)
        grip.take(timeout)
        try:
            yield grip
        finally:
            grip.drop()

    def acquire(self, timeout: float) -> None:
        """Get the lock. Raises as `hold` does."""
        deadline = time.monotonic() + timeout
        if not self._queue.acquire(min(max(timeout, 0), threading.TIMEOUT_MAX)):
            raise Unavailable(f"other claims have kept the {self._what} busy for {timeout:.0f} s")
        try:
            if not self._wait_until(deadline):
                text = f"another instance of the plugin has kept the {self._what} busy for {timeout:.0f} s"
                raise Unavailable(text)  # noqa: TRY301 - not ours in either case
        except BaseException:
            self._queue.release()
            raise

    def _wait_until(self, deadline: float) -> bool:
        """Wait for other instances of the plugin; return whether the lock is ours."""
        while not self._try():
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL)
        return True

    def release(self) -> None:
        """Let others have the lock, which is ours."""
        if self._file >= 0:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        self._queue.release()

    def read_counter(self) -> int:
        """Return how often `count` was called, by any process."""
        with self._telling("read"):
            return int.from_bytes(os.pread(self._file, _SIZE, 0), "big")

    def count(self) -> None:
        """Tell other processes that something is about to change. Only while the lock is held."""
        following = (self.read_counter() + 1) % 256**_SIZE
        with self._telling("write"):
            os.pwrite(self._file, following.to_bytes(_SIZE, "big"), 0)

    def _try(self) -> bool:
        if self._file < 0:
            raise Unavailable(f"the {self._what} are closed: the plugin is stopping")
        with self._telling("lock"):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                while not self._is_current():
                    old, self._file = self._file, self._open()
                    os.close(old)
                    self.generation += 1
                    fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def _is_current(self) -> bool:
        """Say whether the file that we hold is still the one that others find: somebody may have removed it."""
        try:
            return os.path.samestat(os.fstat(self._file), self._path.stat())
        except FileNotFoundError:
            return False

    def _open(self) -> int:
        with self._telling("write"):
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @contextlib.contextmanager
    def _telling(self, action: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageFailed(str(self._path), error.strerror or str(error), action=action) from error
