"""A folder with a supervisor on it, daemons that are shell scripts, and what was told of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from driver.contract import Daemon
from driver.daemons import launching, processes
from driver.daemons.guarding import Timings
from driver.daemons.launching import Patience
from driver.daemons.places import Place
from driver.daemons.supervisor import Supervisor
from driver.model.occurrences import DaemonEnded, DaemonStarted, Occurrence

QUICK = Timings(
    first_pause=0.02,
    longest_pause=0.1,
    steady=60.0,
    tick=0.05,
    patience=Patience(polite=2.0, terminate=0.3, kill=5.0),
)
SLEEP = "exec sleep 1000"


class Bench:
    """One node, seen by one instance of the plugin; `again` is the next one."""

    def __init__(self, root: Path, timings: Timings = QUICK) -> None:
        self.root = root
        self.told: list[Occurrence] = []
        self.supervisor = Supervisor(root / "daemons", self.told.append, timings)

    def daemon(self, script: str, name: str = "mps", ready: Callable[[], str] | None = None, **more: object) -> Daemon:
        """Return a daemon that runs a shell script in the bench's folder, ready at once unless told otherwise."""
        options: dict[str, object] = {"environment": {"HERE": str(self.root)}, "ready_seconds": 40.0} | more
        return Daemon(name, ("sh", "-c", script), ready=ready or (lambda: ""), **options)  # type: ignore[arg-type]

    def file(self, name: str) -> Path:
        return self.root / name

    def has(self, name: str) -> Callable[[], str]:
        """Return a `ready` that waits for a file."""
        return lambda: "" if self.file(name).exists() else f"{name} is not there"

    def log(self, name: str = "mps") -> str:
        return (self.root / "daemons" / name / "log").read_text()

    def pid(self, name: str = "mps") -> int:
        """Return the number of the process that is written down; 0 if none is."""
        process = self._place(name)
        return process.pid if process else 0

    def _place(self, name: str) -> processes.Process | None:
        return Place(self.root / "daemons" / name).read()

    def running(self, name: str = "mps") -> list[processes.Process]:
        """Return all processes of a daemon."""
        return processes.find(self._place(name), str(self.root / "daemons" / name))

    def kill(self, name: str = "mps") -> int:
        """End the daemon as a crash does; return its number."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    def started(self) -> list[str]:
        return [each.how for each in self.told if isinstance(each, DaemonStarted)]

    def ended(self) -> list[DaemonEnded]:
        return [each for each in self.told if isinstance(each, DaemonEnded)]

    def sweep(self) -> None:
        """Leave no process behind, whatever the test did."""
        self.supervisor.close()
        for folder in (self.root / "daemons").glob("*"):
            launching.end(Place(folder), QUICK.patience)


def open_benches(root: Path) -> Iterator[Callable[[], Bench]]:
    """Give a function that makes a further instance of the plugin on the same folder; sweep at the end."""
    benches: list[Bench] = []

    def make() -> Bench:
        benches.append(Bench(root))
        return benches[-1]

    yield make
    for bench in benches:
        bench.supervisor.close()
    for bench in benches:
        bench.sweep()
