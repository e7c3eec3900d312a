"""Processes as the kernel knows them: which one it is, whether it runs, its children, its end. Called by this folder.

It promises that a signal never reaches a process that got the number of one that is gone: a process is its number and
its start time (proc(5), stat), and signals go through a pidfd that was opened before the two were compared (Linux 5.3).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
"""Not the setting proc-root: numbers of processes mean something only in the PID namespace of this process."""
_GONE: Final = ("Z", "X")
"""States of a process that has ended and is not waited for yet."""
MARK: Final = "ACCEL_DRA_DAEMON"
"""In the environment of a daemon and so of its children, wherever they go: the folder that it belongs to."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process: its number, and its start in clock ticks since boot, so that nobody else has both."""

    pid: int
    start: int


@dataclass(frozen=True, slots=True)
class _Stat:
    state: str
    parent: int
    session: int
    start: int


def read_boot_id() -> str:
    """Return the kernel's boot id (random(4)): start times count from the boot."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def identify(pid: int) -> Process | None:
    """Return the process with this number; None if there is none that runs."""
    stat = _read_stat(pid)
    return None if stat is None or stat.state in _GONE else Process(pid, stat.start)


def recognize(pid: int) -> Process:
    """Return a child of ours that was not waited for yet, whether it still runs or not."""
    stat = _read_stat(pid)
    return Process(pid, 0 if stat is None else stat.start)


def is_running(process: Process) -> bool:
    """Say whether it has not ended yet."""
    return identify(process.pid) == process


def open_descriptor(process: Process) -> int | None:
    """Return a pidfd, readable once the process has ended, to be closed by the caller; None if it has ended."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    if is_running(process):
        return descriptor
    os.close(descriptor)
    return None


def find(leader: Process | None, mark: str) -> list[Process]:
    """Return what runs of a daemon: `leader`, its session and descendants, and everything that carries its mark."""
    stats = {pid: stat for pid in _list() if (stat := _read_stat(pid)) and stat.state not in _GONE}
    family = _family(leader, stats) if leader and is_running(leader) else set[int]()
    # Nothing of it is older than itself, which spares looking at most of a machine.
    since = leader.start if leader else 0
    return [
        Process(pid, stat.start)
        for pid, stat in stats.items()
        if pid != os.getpid() and (pid in family or (stat.start >= since and _has_mark(pid, mark)))
    ]


def send(targets: Iterable[Process], number: signal.Signals) -> None:
    """Send a signal to those that still run."""
    for process in targets:
        descriptor = open_descriptor(process)
        if descriptor is not None:
            try:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, number)
            finally:
                os.close(descriptor)


def wait(targets: Iterable[Process], seconds: float) -> None:
    """Return when all have ended, or after `seconds`. Children of ours among them leave no zombie."""
    end = time.monotonic() + seconds
    for process in targets:
        descriptor = open_descriptor(process)
        if descriptor is not None:
            try:
                poll(descriptor, seconds=end - time.monotonic())
            finally:
                os.close(descriptor)
        reap(process.pid)


def poll(*descriptors: int, seconds: float) -> list[int]:
    """Return the descriptors that can be read, none after `seconds`."""
    poller = select.poll()
    for descriptor in descriptors:
        poller.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in poller.poll(max(0.0, seconds) * 1000)]


def reap(pid: int) -> int | None:
    """Return how a child of ours ended (exit status, or a signal's number below 0); None if it is none, or runs."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if found else None


def explain(code: int | None) -> str:
    """Return the end of a process in words."""
    if code is None:
        return "how is not known, because an earlier process of the plugin had started it"
    if code >= 0:
        return f"exit status {code}"
    with contextlib.suppress(ValueError):
        return f"signal {-code}, {signal.Signals(-code).name}"
    return f"signal {-code}"


def _list() -> Iterator[int]:
    for entry in os.scandir(_PROC):
        if entry.name.isdigit():
            yield int(entry.name)


def _read_stat(pid: int) -> _Stat | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The name in parentheses may hold anything, also parentheses and blanks; fields count from behind it.
    fields = text.rpartition(")")[2].split()
    return _Stat(state=fields[0], parent=int(fields[1]), session=int(fields[3]), start=int(fields[19]))


def _family(leader: Process, stats: dict[int, _Stat]) -> set[int]:
    """Return the numbers of the leader, of its session and of all their descendants."""
    family = {leader.pid} | {pid for pid, stat in stats.items() if stat.session == leader.pid}
    grown = True
    while grown:
        more = {pid for pid, stat in stats.items() if stat.parent in family} - family
        family |= more
        grown = bool(more)
    return family


def _has_mark(pid: int, mark: str) -> bool:
    try:
        environment = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:  # it has ended, or is not ours to look at
        return False
    return f"{MARK}={mark}".encode() in environment.split(b"\0")
