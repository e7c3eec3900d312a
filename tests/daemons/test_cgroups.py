"""Daemons in control groups of their own: real ones where the kernel's tree may be written to."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from driver.daemons.cgroups import Cgroup
from driver.daemons.supervisor import Supervisor
from driver.model.errors import StepFailed
from tests.daemons.bench import QUICK, SLEEP, Bench
from tests.fakes.waiting import wait_until

TREES = ("/sys/fs/cgroup", "/sys/fs/cgroup/pids")
"""Of version 2, and of one controller of version 1."""


@pytest.fixture
def tree() -> Iterator[Path]:
    """A group of this test's in the kernel's tree."""
    name = f"accel-dra-test-{uuid.uuid4().hex[:8]}"
    found = next((Path(tree) for tree in TREES if Path(tree, "cgroup.procs").exists()), None)
    try:
        if found is None:
            raise PermissionError
        (found / name).mkdir()
        (found / name / "probe").mkdir()
        (found / name / "probe").rmdir()
    except OSError:
        pytest.skip("the kernel's tree of control groups may not be written to")
    yield found / name
    wait_until(lambda: remove(found / name / "mps") and remove(found / name))


def remove(group: Path) -> bool:
    """Remove a group once the kernel has forgotten its last process."""
    with contextlib.suppress(OSError):
        group.rmdir()
    return not group.exists()


def use(bench: Bench, cgroup: Path) -> None:
    bench.supervisor = Supervisor(bench.root / "daemons", bench.told.append, QUICK, str(cgroup))


def members(group: Path) -> list[int]:
    return [int(line) for line in (group / "cgroup.procs").read_text().split()]


def test_a_daemon_and_its_children_are_in_a_group_of_their_own(bench: Bench, tree: Path) -> None:
    use(bench, tree)
    bench.supervisor.start(bench.daemon(f"sleep 0.1; sleep 1000 & touch $HERE/up; {SLEEP}", ready=bench.has("up")))
    wait_until(lambda: len(members(tree / "mps")) == 2)
    assert bench.pid() in members(tree / "mps")
    assert os.getpid() not in members(tree / "mps")
    bench.supervisor.stop("mps")
    wait_until(lambda: not (tree / "mps").exists())


def test_a_daemon_that_is_started_again_is_in_its_group_again(bench: Bench, tree: Path) -> None:
    use(bench, tree)
    bench.supervisor.start(bench.daemon(SLEEP))
    bench.kill()
    wait_until(lambda: bench.started() == ["started", "again"])
    assert members(tree / "mps") == [bench.pid()]
    bench.supervisor.stop("mps")


def test_a_group_that_cannot_be_had_is_a_failure_that_names_the_setting(benches: Callable[[], Bench]) -> None:
    bench = benches()
    bench.file("file").touch()
    use(bench, bench.file("file"))
    with pytest.raises(StepFailed) as caught:
        bench.supervisor.start(bench.daemon(SLEEP))
    assert "daemon mps: cannot move it into the control group" in str(caught.value)
    assert str(caught.value).endswith("Not a directory (setting daemon-cgroup)")
    assert not bench.running()


def test_without_a_setting_nothing_is_moved() -> None:
    Cgroup(None).enter("mps", os.getpid())
    Cgroup(None).remove()
