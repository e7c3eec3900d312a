"""Starting the process of a daemon and ending it with all that came from it. Called by `guarding` and `supervisor`.

Promises that the process gets no file of ours, no signal meant for the plugin, and a log to write to; that it is
written down before it is started; and that ending leaves nothing of it behind, or says so.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from signal import SIGKILL, SIGTERM, Signals
from typing import Final

from driver.contract import Daemon
from driver.daemons import processes
from driver.daemons.places import Place
from driver.daemons.processes import MARK, Process

_ROUND: Final = 0.2
"""Seconds after which those are looked for again that a dying process has just started."""

_SECOND_LOOK: Final = 0.01


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that a daemon is given to end: asked in its own way, after SIGTERM, after SIGKILL."""

    polite: float = 5.0
    terminate: float = 5.0
    kill: float = 5.0

    @property
    def total(self) -> float:
        """All of them."""
        return self.polite + self.terminate + self.kill


def launch(daemon: Daemon, place: Place) -> Process:
    """Start the process. The place's lock is held and nothing of an earlier process runs. Raises `StepFailed`."""
    _refuse_old_kernel(place)
    place.announce()
    log = place.log.open()
    try:
        child = subprocess.Popen(
            daemon.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={"PATH": os.environ.get("PATH", os.defpath), MARK: place.mark, **daemon.environment},
            cwd="/",
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        place.clear()
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise place.failure(f"{daemon.command[0]} cannot be run: {why}") from error
    finally:
        os.close(log)
    # It outlives this process and is waited for by its number: the object must neither wait for it nor complain.
    child.returncode = 0
    process = processes.recognize(child.pid)
    place.write(process)
    if processes.is_running(process):
        place.cgroup.enter(place.name, process.pid)
    return process


def _refuse_old_kernel(place: Place) -> None:
    """Raise `StepFailed` where a process cannot be followed: what cannot be ended must not be started."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        raise place.failure(
            f"this kernel cannot follow processes (pidfd_open: {error.strerror}); Linux 5.3 can"
        ) from error


def end(place: Place, patience: Patience, ask: Callable[[], None] | None = None) -> bool:
    """End what runs of the daemon, and forget it; return whether anything ran. Raises `StepFailed` if it does not end.

    `ask` asks it to end in its own way; it is given time, then SIGTERM, then SIGKILL.
    """
    leader = place.read()
    ran = not place.is_clear and bool(_find(leader, place))
    if ran and ask is not None:
        with contextlib.suppress(Exception):  # whatever a vendor raises, signals remain
            ask()
        processes.wait(processes.find(leader, place.mark), patience.polite)
    for number, seconds in ((SIGTERM, patience.terminate), (SIGKILL, patience.kill)):
        if ran and not _signal(leader, place, number, seconds):
            break
    else:
        if ran:
            raise place.failure("its processes do not end, not even after SIGKILL")
    place.clear()
    place.cgroup.remove()
    return ran


def _find(leader: Process | None, place: Place) -> list[Process]:
    """Look twice before it is believed that nothing runs: a process has no mark while it replaces its program."""
    found = processes.find(leader, place.mark)
    if not found:
        time.sleep(_SECOND_LOOK)
        found = processes.find(leader, place.mark)
    return found


def _signal(leader: Process | None, place: Place, number: Signals, seconds: float) -> bool:
    """Send a signal to all, also to those that they start meanwhile; return whether any is left after `seconds`."""
    deadline, told = time.monotonic() + seconds, set[Process]()
    while left := _find(leader, place):
        if time.monotonic() >= deadline:
            return True
        processes.send(set(left) - told, number)
        told.update(left)
        processes.wait(left, min(seconds, _ROUND))
    if leader is not None:
        processes.reap(leader.pid)
    return False
