"""One daemon: start it or find it running, start it again when it ends. Called by `supervisor`.

Promises that two instances of the plugin never run the same daemon at a time, that nothing of an earlier process is
left when a new one is started, and that a daemon outlives the plugin. Each guard has a thread of its own, because a
vendor's `ready` may take seconds.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from driver.contract import Daemon
from driver.daemons import launching, processes
from driver.daemons.launching import Patience
from driver.daemons.logs import Log
from driver.daemons.places import LOG_BYTES, Place
from driver.daemons.processes import Process
from driver.model.errors import StepFailed
from driver.model.occurrences import DaemonEnded, DaemonStarted, DaemonStopped, Emit

_FIRST_GLANCE: Final = 0.005
"""Seconds between two questions whether a daemon is ready; doubled each time, up to the last."""
_LAST_GLANCE: Final = 0.1
_FOUND: Final = "found"


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds."""

    first_pause: float = 1.0
    """Before a daemon that ended is started again; doubled each time, up to `longest_pause`."""
    longest_pause: float = 60.0
    steady: float = 60.0
    """One that ran for so long begins with `first_pause` again."""
    tick: float = 2.0
    """Between looks at its log, and at what another instance wants."""
    patience: Patience = field(default_factory=Patience)


class Guard:
    """Keeps one daemon running, or waits for its turn while another instance of the plugin does."""

    def __init__(self, daemon: Daemon, place: Place, emit: Emit, timings: Timings) -> None:
        self.daemon = daemon
        self._place = place
        self._emit = emit
        self._timings = timings
        self._logs = tuple(Log(Path(path), LOG_BYTES) for path in daemon.logs)
        self._process: Process | None = None
        self._began = 0.0
        self._failures = 0
        self._leaving = threading.Event()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name=f"daemon {daemon.name}", daemon=True)

    def start(self) -> None:
        """Return once the daemon is ready, and watch it from then on. Raises `StepFailed`; then nothing is left."""
        try:
            self._place.forget_stop()
            self._bring_up("started")
        except StepFailed:
            try:
                self._give_up()
            finally:
                self.leave()
            raise
        self._thread.start()

    def hurry(self) -> None:
        """Tell the thread that the supervision ends."""
        self._leaving.set()
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)

    def leave(self) -> None:
        """End the supervision, not the daemon. Safe to repeat."""
        self.hurry()
        if self._thread.is_alive():
            self._thread.join()
        if self._wake >= 0:
            os.close(self._wake)
        self._wake = -1
        self._place.unlock()

    def _give_up(self) -> None:
        """End what could not be made ready, or have it ended by the instance that supervises it."""
        if self._place.is_held:
            launching.end(self._place, self._timings.patience)
        else:
            self._place.ask_to_stop()

    def _bring_up(self, kind: str) -> None:
        """Get the daemon to run, here or in the hands of another instance, until it says that it is ready."""
        deadline, glance = time.monotonic() + self.daemon.ready_seconds, _FIRST_GLANCE
        how = kind
        while True:
            if self._process is None and self._place.try_lock():
                how = self._take(kind)
            reason = self._ask()
            if self._process is not None and not processes.is_running(self._process):
                self._lose(self._process, found=how == _FOUND)
                continue
            if not reason:
                break
            if time.monotonic() >= deadline:
                words = self._place.log.last_words()
                raise self._place.failure(f"it is not ready after {self.daemon.ready_seconds:g} s: {reason}{words}")
            if self._pause(glance):
                raise self._place.failure("the plugin is stopping")
            glance = min(2 * glance, _LAST_GLANCE)
        if self._process is not None:
            self._emit(DaemonStarted(self.daemon.name, self._process.pid, how))

    def _ask(self) -> str:
        try:
            return self.daemon.ready()
        except Exception as error:  # noqa: BLE001 - a vendor's defect is one daemon's trouble
            return f"{type(error).__name__}: {error}"

    def _lose(self, process: Process, *, found: bool) -> None:
        """Forget a process that has ended. Raises `StepFailed` unless it was found, and so on its way out already."""
        self._process = None
        how = processes.explain(processes.reap(process.pid))
        if not found:
            raise self._place.failure(f"{self.daemon.command[0]} ended at once ({how}){self._place.log.last_words()}")

    def _take(self, kind: str) -> str:
        """Find the daemon running since an earlier process of the plugin, or start it. The lock is ours."""
        self._began = time.monotonic()
        found = self._place.read()
        if found is not None and processes.is_running(found):
            self._process = found
            return _FOUND
        if not self._place.is_clear:
            launching.end(self._place, self._timings.patience)
        self._process = launching.launch(self.daemon, self._place)
        return kind

    def _run(self) -> None:
        """Watch until we leave or are told to stop; whatever happens, the daemon is started again."""
        while not self._leaving.is_set() and not self._place.is_to_stop:
            try:
                self._go_on()
            except Exception as error:  # noqa: BLE001 - top of a thread that must not end
                self._mourn(f"{type(error).__name__}: {error}")
        while not self._leaving.is_set() and self._place.is_held:
            self._obey()

    def _go_on(self) -> None:
        if self._process is not None:
            self._watch(self._process)
        elif self._place.is_held or self._is_our_turn():
            self._attempt("again")

    def _is_our_turn(self) -> bool:
        """Wait a little; say whether the other instance has let go of a daemon that is still wanted."""
        if self._pause(self._timings.tick):
            return False
        return self._place.try_lock() and not self._place.is_to_stop

    def _watch(self, process: Process) -> None:
        """Look at a running daemon until it ends, or until the next tick."""
        descriptor = processes.open_descriptor(process)
        if descriptor is not None:
            try:
                processes.poll(descriptor, self._wake, seconds=self._timings.tick)
            finally:
                os.close(descriptor)
        for log in (self._place.log, *self._logs):
            log.trim()
        if not self._leaving.is_set() and not self._place.is_to_stop and not processes.is_running(process):
            self._process = None
            if time.monotonic() - self._began > self._timings.steady:
                self._failures = 0
            how = processes.explain(processes.reap(process.pid))
            self._mourn(f"it ended ({how}){self._place.log.last_words()}")

    def _attempt(self, kind: str) -> None:
        try:
            self._bring_up(kind)
        except Exception as error:  # noqa: BLE001 - top of a thread that must not end
            if self._leaving.is_set():
                return
            self._discard()
            self._mourn(str(error))

    def _discard(self) -> None:
        """End what could not be made ready; if that fails too, the next start does it first."""
        self._process = None
        try:
            launching.end(self._place, self._timings.patience)
        except StepFailed as error:
            self._emit(DaemonEnded(self.daemon.name, str(error), 0.0))

    def _mourn(self, why: str) -> None:
        """Tell why the daemon does not run, and wait before it is started again."""
        pause = min(self._timings.first_pause * 2.0 ** min(self._failures, 30), self._timings.longest_pause)
        self._failures += 1
        self._emit(DaemonEnded(self.daemon.name, why.removeprefix(f"{self._place.failure('')}"), pause))
        deadline = time.monotonic() + pause
        while (left := deadline - time.monotonic()) > 0 and not self._place.is_to_stop:
            if self._pause(min(left, self._timings.tick)):
                return

    def _obey(self) -> None:
        """End the daemon because another instance of the plugin was asked to stop it."""
        try:
            launching.end(self._place, self._timings.patience, self.daemon.end)
            self._emit(DaemonStopped(self.daemon.name))
        except StepFailed as error:
            self._emit(DaemonEnded(self.daemon.name, str(error), self._timings.tick))
            self._pause(self._timings.tick)
        else:
            self._place.unlock()

    def _pause(self, seconds: float) -> bool:
        """Wait; return True at once when the supervision ends."""
        return self._leaving.wait(seconds)
