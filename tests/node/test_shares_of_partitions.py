"""Several claims on one partition that is made on demand, with an MPS daemon that is a real process."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from driver.model.prepared import PARTITION
from driver.model.sharing import Strategy
from driver.state.files import Disk
from tests.fakes.bench import prepare_one, unprepare_one
from tests.fakes.disks import CrashError, CrashingDisk
from tests.fakes.partitioned_node import PartitionedNode
from tests.fakes.waiting import wait_until
from tests.vendors.simulated.clients import Client

LATER = "99999999-2222-4333-8444-555555555555"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[PartitionedNode]:
    made = PartitionedNode(tmp_path)
    made.shares = Strategy.MPS
    made.look()
    yield made
    for name in made.daemons():
        made.supervisor.stop(name)
    made.stop()


def limits(node: PartitionedNode, name: str) -> str:
    """Return what a client that comes now is granted."""
    with Client(node.root / f"state/simulated/mps/{name}/pipe") as client:
        return client.join()


def is_clean(node: PartitionedNode) -> bool:
    no_daemons = not node.daemons() and not list((node.root / "state/simulated").glob("mps/*"))
    return no_daemons and not node.left() and not node.partitions() and not node.accelerator().partitioned


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_partition_and_its_daemon_go_with_the_last_claim(node: PartitionedNode, order: tuple[int, int]) -> None:
    name = node.find("1g.10gb", 0)
    refs = [node.add_share("u1", name, 25), node.add_share("u2", name, 50)]
    for ref in refs:
        assert not prepare_one(node.preparer, ref).error
    made = node.partitions()
    assert len(node.daemons()) == 1
    assert limits(node, name) == "granted 50 0=1024M"
    assert unprepare_one(node.preparer, refs[order[0]]) == ""
    assert node.partitions() == made
    assert limits(node, name) == f"granted {(25, 50)[order[1]]} 0=1024M"
    assert unprepare_one(node.preparer, refs[order[1]]) == ""
    assert is_clean(node)


def test_a_daemon_that_dies_while_claims_come_and_go_comes_back_with_the_limits_of_those_that_are_there(
    node: PartitionedNode,
) -> None:
    name = node.find("1g.10gb", 0)
    refs = [node.add_share("u1", name, 50), node.add_share("u2", name, 25), node.add_share("u3", name, 10)]
    for ref in refs[:2]:
        assert not prepare_one(node.preparer, ref).error
    kill(node)
    assert unprepare_one(node.preparer, refs[0]) == ""
    wait_until(lambda: _grants(node, name) == "granted 25 0=1024M", "it runs again, with its limits")
    kill(node)
    assert not prepare_one(node.preparer, refs[2]).error
    wait_until(lambda: _grants(node, name) == "granted 25 0=1024M", "it runs again, with its limits")
    for ref in refs[1:]:
        assert unprepare_one(node.preparer, ref) == ""
    assert is_clean(node)


def kill(node: PartitionedNode) -> None:
    (pid,) = node.daemons().values()
    os.kill(pid, signal.SIGKILL)


def _grants(node: PartitionedNode, name: str) -> str:
    try:
        return limits(node, name)
    except OSError:
        return ""


@pytest.mark.parametrize("at", range(1, 40, 3))
@pytest.mark.parametrize("undo", [False, True])
def test_wherever_the_second_claim_is_cut_off_the_first_keeps_what_it_has(
    node: PartitionedNode, at: int, *, undo: bool
) -> None:
    name = node.find("1g.10gb", 0)
    first, second = node.add_share("u1", name, 25), node.add_share("u2", name, 50)
    answer = prepare_one(node.preparer, first)
    made = node.partitions()
    if undo:
        assert not prepare_one(node.preparer, second).error
    node.stop()
    disk = CrashingDisk()
    dying = node.start(disk)
    disk.crash_at = disk.changes + at
    node.vendor.instances.before_change = lambda _: disk.sync_folder(node.root)
    with contextlib.suppress(CrashError):
        unprepare_one(dying, second) if undo else prepare_one(dying, second)
    node.stop()
    node.start(Disk()).recover()
    assert unprepare_one(node.preparer, second) == ""
    assert node.partitions() == made
    assert len(node.daemons()) == 1
    assert limits(node, name) == "granted 25 0=1024M"
    assert prepare_one(node.preparer, first) == answer
    assert unprepare_one(node.preparer, first) == ""
    assert is_clean(node)


@pytest.mark.parametrize("at", range(1, 40, 3))
def test_wherever_the_last_claim_is_cut_off_nothing_leaks(node: PartitionedNode, at: int) -> None:
    name = node.find("1g.10gb", 0)
    first, second = node.add_share("u1", name, 25), node.add_share("u2", name, 50)
    for ref in (first, second):
        assert not prepare_one(node.preparer, ref).error
    assert unprepare_one(node.preparer, first) == ""
    node.stop()
    disk = CrashingDisk()
    dying = node.start(disk)
    disk.crash_at = disk.changes + at
    node.vendor.instances.before_change = lambda _: disk.sync_folder(node.root)
    with contextlib.suppress(CrashError):
        assert unprepare_one(dying, second) == ""
    node.stop()
    node.start(Disk()).recover()
    assert unprepare_one(node.preparer, second) == ""
    assert is_clean(node)


def test_after_a_boot_both_claims_are_on_one_new_partition(node: PartitionedNode) -> None:
    name = node.find("1g.10gb", 0)
    refs = [node.add_share("u1", name, 25), node.add_share("u2", name, 50)]
    answers = [prepare_one(node.preparer, ref) for ref in refs]
    old = node.partitions()
    for daemon in node.daemons():
        node.supervisor.stop(daemon)
    node.stop()
    node.bench.boot(LATER)
    node.start().recover()
    for ref, answer in zip(refs, answers, strict=True):
        assert prepare_one(node.preparer, ref) == answer
    assert list(node.partitions()) == list(old)
    assert node.partitions() != old
    assert limits(node, name) == "granted 50 0=1024M"
    known = {step.facts["uuid"] for record in node.bench.records() for step in record.steps if step.name == PARTITION}
    assert known == set(node.partitions().values())
    assert old[0] not in b"".join(node.left().values()).decode()
    for ref in refs:
        assert unprepare_one(node.preparer, ref) == ""
    assert is_clean(node)
