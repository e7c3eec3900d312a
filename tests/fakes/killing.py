"""A process that kills itself with SIGKILL before a chosen change of disk or hardware, without a chance to clean up.

`python -m tests.fakes.killing` reads one JSON `Job` a line, runs it in a forked child of its own, and answers with the
signal that ended it (0: it ran to its end). Forking one warm, single-threaded process makes a kill take milliseconds.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from driver.node.preparer import Preparer
from driver.state.files import Disk
from tests.fakes.bench import Bench, claim, device, prepare_one, ref, result, unprepare_one
from tests.fakes.disks import WatchedDisk
from tests.fakes.forking import ask_process, serve

LATER = "99999999-2222-4333-8444-555555555555"
UID = "u1"


class Job(msgspec.Struct, frozen=True):
    """What to do, and before which change to die (from 1; 0: never)."""

    root: str
    scenario: str
    kill_at: int
    torn: bool = False
    """Die in the middle of the write instead, with half of the data written."""


class KillingDisk(WatchedDisk):
    """Counts changes once it is armed, and kills the process before (or in the middle of) one of them."""

    def __init__(self) -> None:
        super().__init__(self._count)
        self.changes: list[str] = []
        self.armed = False
        self.kill_at = 0
        self.torn = False

    def _count(self, operation: str, path: Path) -> None:
        if not self.armed:
            return
        self.changes.append(f"{operation}-{path.parent.name}-{path.name}")
        if len(self.changes) == self.kill_at and not self.torn:
            os.kill(os.getpid(), signal.SIGKILL)

    def write(self, path: Path, data: bytes, mode: int, *, sync: bool) -> None:
        if self.armed and self.torn and len(self.changes) + 1 == self.kill_at:
            Disk.write(self, path, data[: len(data) // 2], mode, sync=False)
            os.kill(os.getpid(), signal.SIGKILL)
        super().write(path, data, mode, sync=sync)


def equip(root: Path, steps: int, disk: Disk | None = None) -> Bench:
    """Return a node with a claim for two devices, on hardware that needs `steps` steps a device."""
    bench = Bench(root, disk or Disk())
    bench.vendor.steps_per_device = steps
    if "rebooted" in {path.name for path in root.iterdir()}:
        bench.vendor.node_numbers = 1
        bench.boot(LATER)
    bench.add(claim(UID, result(device(1)), result(device(2), "b")))
    return bench


def _prepare(_: Bench, preparer: Preparer) -> None:
    prepare_one(preparer, ref(UID))


def _unprepare(_: Bench, preparer: Preparer) -> None:
    unprepare_one(preparer, ref(UID))


def _start(_: Bench, preparer: Preparer) -> None:
    preparer.recover()


def _start_and_prepare(bench: Bench, preparer: Preparer) -> None:
    preparer.recover()
    _prepare(bench, preparer)


def _nothing(_: Bench, __: Preparer) -> None:
    """A fresh node."""


def _interrupt(bench: Bench, preparer: Preparer) -> None:
    """Leave what a crash in the middle of the steps leaves, and a leaked spec."""
    bench.vendor.fail_runs = {f"{device(2)}.0"}
    bench.vendor.fail_undos = {f"{device(1)}.1"}
    _prepare(bench, preparer)
    (bench.root / "cdi/k8s.gpu.accel-dra.dev-claim_gone.json").write_text("{}")
    (bench.root / "cdi/.k8s.gpu.accel-dra.dev-claim_gone.json.tmp").write_text("{")
    (bench.root / "state/claims/.u9.json.tmp").write_text("{")
    bench.vendor.fail_runs = bench.vendor.fail_undos = set()


def _lose_specs(bench: Bench, preparer: Preparer) -> None:
    """Leave a prepared claim whose CDI folder was emptied."""
    _prepare(bench, preparer)
    for path in (bench.root / "cdi").iterdir():
        path.unlink()


def _reboot(bench: Bench, preparer: Preparer) -> None:
    """Leave a prepared claim on a machine that was booted since."""
    _prepare(bench, preparer)
    (bench.root / "rebooted").touch()
    bench.reboot(LATER)


Act = Callable[[Bench, Preparer], None]
SCENARIOS: dict[str, tuple[int, Act, Act]] = {
    "prepare-plain": (0, _nothing, _prepare),
    "prepare-steps": (2, _nothing, _prepare),
    "unprepare-plain": (0, _prepare, _unprepare),
    "unprepare-steps": (2, _prepare, _unprepare),
    "repeat-plain": (0, _lose_specs, _prepare),
    "start-after-crash": (2, _interrupt, _start),
    "start-without-specs": (0, _lose_specs, _start),
    "start-after-boot": (0, _reboot, _start),
    "prepare-after-boot": (2, _reboot, _start_and_prepare),
}
"""Steps a device, what happened before, and what is killed in the middle."""


def run(job: Job) -> list[str]:
    """Do a job in this process; return the changes that were made while it could have been killed."""
    steps, before, act = SCENARIOS[job.scenario]
    root = Path(job.root)
    disk = KillingDisk()
    disk.kill_at, disk.torn = job.kill_at, job.torn
    bench = equip(root, steps, disk)
    preparer = bench.open()
    before(bench, preparer)
    preparer.close()
    bench = equip(root, steps, disk)
    preparer = bench.open()
    disk.armed = True
    act(bench, preparer)
    disk.armed = False
    preparer.close()
    return disk.changes


def server() -> AbstractContextManager[Callable[[Job], int]]:
    """Run the process; give a function that has a job done and returns the signal that ended it."""
    return ask_process("tests.fakes.killing")


if __name__ == "__main__":
    serve(Job, run)
