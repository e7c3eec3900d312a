"""Whatever two instances of the plugin do and whatever dies meanwhile: never two of one daemon, and none too many.

Each daemon holds a lock of its own, which the kernel frees however it ends; one that finds the lock taken says so.
"""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Callable

import pytest

from driver.daemons import processes
from driver.model.errors import StepFailed
from tests.daemons.bench import Bench
from tests.fakes.waiting import wait_until

NAMES = ("mps-a", "mps-b")
STEPS = 25
SCRIPT = """
exec 9>"$HERE/lock-$NAME"
flock -n 9 || echo "$NAME" >> "$HERE/twice"
sleep 1000 9>&- &
test -e "$HERE/fail-$NAME" && exit 1
touch "$HERE/up-$NAME-$$"
exec sleep 1000
"""


class Machine:
    """Two instances, two daemons, and which of the daemons are wanted."""

    def __init__(self, make: Callable[[], Bench], seed: int) -> None:
        self.make = make
        self.dice = random.Random(seed)
        self.instances = [make(), make()]
        self.root = self.instances[0].root
        self.wanted: dict[str, set[int]] = {name: set() for name in NAMES}
        """Which instances were asked for a daemon since it was stopped last."""
        self.done: list[str] = []

    def step(self) -> None:
        action = self.dice.choice((self.start, self.start, self.stop, self.kill, self.restart, self.fail))
        name, which = self.dice.choice(NAMES), self.dice.randrange(2)
        self.done.append(f"{action.__name__} {name} {which}")
        action(name, which)

    def start(self, name: str, which: int) -> None:
        bench = self.instances[which]

        def ready() -> str:
            pid = bench.pid(name)
            return "" if bench.file(f"up-{name}-{pid}").exists() else f"{pid} is not up"

        environment = {"HERE": str(bench.root), "NAME": name}
        bench.supervisor.start(bench.daemon(SCRIPT, name, ready, environment=environment))
        self.wanted[name].add(which)

    def stop(self, name: str, which: int) -> None:
        self.instances[which].supervisor.stop(name)
        self.wanted[name].clear()
        assert self.running(name) == [], self.done

    def kill(self, name: str, which: int) -> None:
        if self.instances[which].pid(name):
            with contextlib.suppress(ProcessLookupError):
                self.instances[which].kill(name)

    def restart(self, name: str, which: int) -> None:  # noqa: ARG002 - it is the whole instance
        """End an instance and start it again: what it held is asked for again, as its records say."""
        self.instances[which].supervisor.close()
        self.instances[which] = self.make()
        for each, askers in self.wanted.items():
            if which in askers:
                self.start(each, which)

    def fail(self, name: str, which: int) -> None:
        """Let a daemon end at once when it is started, once it has ended."""
        mark = self.root / f"fail-{name}"
        mark.touch()
        self.kill(name, which)
        mark.unlink()

    def running(self, name: str) -> list[processes.Process]:
        return self.instances[0].running(name)

    def settle(self) -> None:
        """Wait until exactly the daemons run that are wanted, and are ready."""
        for name, askers in self.wanted.items():
            if askers:
                wait_until(lambda name=name: self._is_up(name), f"{name} after {self.done}")  # type: ignore[misc]
            else:
                assert self.running(name) == [], self.done

    def _is_up(self, name: str) -> bool:
        pid = self.instances[0].pid(name)
        return pid in [process.pid for process in self.running(name)] and (self.root / f"up-{name}-{pid}").exists()


@pytest.mark.skipif(shutil.which("flock") is None, reason="the daemons of this test need flock(1)")
@pytest.mark.parametrize("seed", range(5))
def test_there_is_one_of_each_wanted_daemon_and_no_other(benches: Callable[[], Bench], seed: int) -> None:
    machine = Machine(benches, seed)
    for _ in range(STEPS):
        with contextlib.suppress(StepFailed):
            machine.step()
        if machine.dice.random() < 0.4:
            machine.settle()
    machine.settle()
    assert not (machine.root / "twice").exists(), machine.done
    for name in NAMES:
        machine.stop(name, 0)
