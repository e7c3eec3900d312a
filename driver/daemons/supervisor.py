"""The plugin's `contract.Runner`: all daemons of the node's vendor, by name. Made and closed by `node.app`.

A daemon lives on when the plugin ends, in whatever way, and the next process of the plugin finds it; while two
instances run, one of them supervises it and the other takes over. Must not know what a daemon is for.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from driver.contract import Daemon
from driver.daemons import launching
from driver.daemons.cgroups import Cgroup
from driver.daemons.guarding import Guard, Timings
from driver.daemons.places import Place
from driver.model.errors import StepFailed
from driver.model.occurrences import DaemonStopped, Emit

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_GLANCE: Final = 0.05
"""Seconds between two looks whether another instance has let go of a daemon."""
KEPT: Final = 16
"""Of how many daemons that have ended the logs are kept."""


@dataclass
class _Turn:
    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0
    """Threads that have the lock or wait for it."""


class Supervisor:
    """Starts, supervises and stops daemons. Called from several threads; calls for one daemon come one at a time."""

    def __init__(self, root: Path, emit: Emit, timings: Timings | None = None, cgroup: str = "") -> None:
        """`root`: the folder for what belongs to daemons, the same for all instances of the plugin on the node.

        `cgroup`: the folder of the control groups below which each daemon gets its own; empty: they stay in ours.
        """
        self._root = root
        self._cgroup = cgroup
        self._emit = emit
        self._timings = timings or Timings()
        self._lock = threading.Lock()
        self._guards: dict[str, Guard] = {}
        self._turns: dict[str, _Turn] = {}
        self._closed = threading.Event()

    def start(self, daemon: Daemon) -> None:
        """Start it, or find it running; return once it is ready. Raises `StepFailed`: then it does not run."""
        with self._turn(daemon.name):
            if self._closed.is_set():
                raise StepFailed(f"daemon {daemon.name}", "the plugin is stopping")
            before = self._guards.pop(daemon.name, None)
            if before is not None:
                before.leave()
            guard = Guard(daemon, self._place(daemon.name), self._emit, self._timings)
            guard.start()
            with self._lock:
                if not self._closed.is_set():
                    self._guards[daemon.name] = guard
                    return
            guard.leave()

    def stop(self, name: str, end: Callable[[], None] | None = None) -> None:
        """End it with all its processes, or find it ended. Raises `StepFailed` if it does not end."""
        with self._turn(name):
            place = self._place(name)
            if not place.folder.exists():
                return
            place.ask_to_stop()
            guard = self._guards.pop(name, None)
            if guard is not None:
                end = end or guard.daemon.end
                guard.leave()
            self._await_lock(place)
            try:
                if launching.end(place, self._timings.patience, end):
                    self._emit(DaemonStopped(name))
            finally:
                place.unlock()
        self._tidy()

    def close(self) -> None:
        """End the supervision; the daemons live on. Safe to repeat."""
        with self._lock:
            self._closed.set()
            guards = list(self._guards.values())
            self._guards.clear()
        for guard in guards:
            guard.hurry()
        for guard in guards:
            guard.leave()

    def _place(self, name: str) -> Place:
        return Place(self._root / name, Cgroup(Path(self._cgroup, name) if self._cgroup else None))

    def _await_lock(self, place: Place) -> None:
        """Wait until another instance that supervises the daemon has read that it is to stop, and has ended it."""
        deadline = time.monotonic() + self._timings.patience.total + 2 * self._timings.tick
        while not place.try_lock():
            if time.monotonic() >= deadline:
                raise place.failure("another instance of the plugin supervises it and does not end it")
            time.sleep(_GLANCE)

    def _tidy(self) -> None:
        """Remove what is left of daemons that ended before the last few: claims give their daemons ever new names."""
        with contextlib.suppress(OSError, StepFailed):  # the next end tries again
            places = [Place(folder) for folder in self._root.iterdir()]
            ended = sorted((when, place.name) for place in places if (when := place.ended) is not None)
            for _, name in ended[:-KEPT]:
                self._place(name).remove()

    @contextlib.contextmanager
    def _turn(self, name: str) -> Iterator[None]:
        if not _NAME.fullmatch(name):
            raise StepFailed(f"daemon {name}", "its name cannot be that of a file")
        with self._lock:
            turn = self._turns.setdefault(name, _Turn())
            turn.users += 1
        try:
            with turn.lock:
                yield
        finally:
            with self._lock:
                turn.users -= 1
                if not turn.users:
                    del self._turns[name]
