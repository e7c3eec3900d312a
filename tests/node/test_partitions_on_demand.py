"""Claims for partitions that are made on demand, from the claim to the hardware and back, when things go wrong."""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from driver.core.offering import Mode
from driver.model.prepared import Phase, PreparedDevice
from driver.node.preparer import Preparer
from driver.state.files import Disk
from driver.vendors.simulated.instances import CREATE_GPU_INSTANCE, DESTROY_GPU_INSTANCE, InstanceError
from tests.fakes.bench import prepare_one, unprepare_one
from tests.fakes.disks import CrashError, CrashingDisk, WatchedDisk
from tests.fakes.partitioned_node import ADDRESSES, SLICES, PartitionedNode

LATER = "99999999-2222-4333-8444-555555555555"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[PartitionedNode]:
    made = PartitionedNode(tmp_path)
    yield made
    made.stop()


def small(node: PartitionedNode, *placements: int) -> list[str]:
    return [node.find("1g.10gb", placement) for placement in placements]


def is_clean(node: PartitionedNode) -> bool:
    """Say whether nothing of any claim is left, neither files nor on the hardware."""
    return not node.left() and not node.partitions() and not node.accelerator().partitioned


def test_seven_partitions_of_one_device_in_one_claim(node: PartitionedNode) -> None:
    wanted = node.add("u1", *small(node, *range(SLICES)))
    answer = prepare_one(node.preparer, wanted)
    assert not answer.error
    assert [entry.requests for entry in answer.devices] == [(f"r{number}",) for number in range(SLICES)]
    assert len(node.partitions()) == SLICES
    spec = (node.root / "cdi/k8s.gpu.accel-dra.dev-claim_u1.json").read_text()
    assert all(uuid in spec for uuid in node.partitions().values())
    assert unprepare_one(node.preparer, wanted) == ""
    assert is_clean(node)


def test_one_partition_for_two_requests_is_made_once(node: PartitionedNode) -> None:
    (name,) = small(node, 2)
    wanted = node.add("u1", name, name)
    answer = prepare_one(node.preparer, wanted)
    assert [(entry.device, entry.requests) for entry in answer.devices] == [(name, ("r0", "r1"))]
    assert list(node.partitions()) == [2]
    assert unprepare_one(node.preparer, wanted) == ""
    assert is_clean(node)


def refuse(node: PartitionedNode, call: str, number: int) -> None:
    """Let the hardware refuse a call the so manieth time, and each time after it."""
    seen: list[str] = []

    def count(name: str) -> None:
        seen.extend([name] if name == call else [])
        if name == call and len(seen) >= number:
            raise InstanceError("the hardware is tired")

    node.vendor.instances.before_change = count


def test_if_the_third_of_seven_cannot_be_made_none_stays(node: PartitionedNode) -> None:
    wanted = node.add("u1", *small(node, *range(SLICES)))
    refuse(node, CREATE_GPU_INSTANCE, 3)
    assert "the hardware is tired" in prepare_one(node.preparer, wanted).error
    assert is_clean(node)
    node.start()
    assert not prepare_one(node.preparer, wanted).error


def test_what_cannot_be_removed_keeps_its_place_and_nothing_else(node: PartitionedNode) -> None:
    names = small(node, *range(SLICES))
    wanted, same, beside = node.add("u1", *names[:3]), node.add("u2", names[0]), node.add("u3", names[5])
    assert not prepare_one(node.preparer, wanted).error
    refuse(node, DESTROY_GPU_INSTANCE, 1)
    for _ in range(3):
        assert "the hardware is tired" in unprepare_one(node.preparer, wanted)
    (record,) = node.bench.records()
    assert record.phase is Phase.PREPARING
    assert f"device {names[0]} is already prepared for claim {wanted}" in prepare_one(node.preparer, same).error
    node.stop()
    node.start()
    refuse(node, DESTROY_GPU_INSTANCE, 1)
    node.preparer.recover()
    assert not prepare_one(node.preparer, beside).error
    node.vendor.instances.before_change = lambda _: None
    assert unprepare_one(node.preparer, wanted) == ""
    assert list(node.partitions()) == [5]
    assert unprepare_one(node.preparer, beside) == ""
    assert is_clean(node)


@pytest.mark.parametrize("undo", [False, True])
def test_wherever_a_claim_for_three_is_cut_off_nothing_leaks(node: PartitionedNode, *, undo: bool) -> None:
    """Between any two changes of files or hardware, those of a neighbour's claim unharmed."""
    names = small(node, *range(SLICES))
    beside, wanted = node.add("u1", names[6]), node.add("u2", *names[:3])
    answer = prepare_one(node.preparer, beside)
    finished = 0
    for at in range(1, 60):
        if undo:
            assert not prepare_one(node.preparer, wanted).error
        node.stop()
        disk = CrashingDisk()
        dying = node.start(disk)
        disk.crash_at = disk.changes + at
        node.vendor.instances.before_change = lambda _: disk._count("", Path())  # noqa: B023 - of this round
        try:
            unprepare_one(dying, wanted) if undo else prepare_one(dying, wanted)
            finished += 1
        except CrashError:
            pass
        node.stop()
        node.start(Disk()).recover()
        assert set(node.partitions()) - {0, 1, 2} == {6}
        assert unprepare_one(node.preparer, wanted) == ""
        assert list(node.partitions()) == [6]
        assert prepare_one(node.preparer, beside) == answer, "the same, to the byte"
        if finished:
            break
    assert finished, "until it is not cut off any more"
    assert unprepare_one(node.preparer, beside) == ""
    assert is_clean(node)


class SometimesFullDisk(WatchedDisk):
    """Refuses write number `full_at`, from 1."""

    def __init__(self) -> None:
        super().__init__(self._count)
        self.writes = 0
        self.full_at = 0

    def _count(self, operation: str, path: Path) -> None:
        self.writes += operation == "write"
        if operation == "write" and self.writes == self.full_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def test_whichever_write_a_full_disk_refuses_the_hardware_is_as_before(node: PartitionedNode) -> None:
    names = small(node, *range(SLICES))
    beside, wanted = node.add("u1", names[6]), node.add("u2", *names[:2])
    assert not prepare_one(node.preparer, beside).error
    node.stop()
    disk = SometimesFullDisk()
    node.start(disk)
    before = node.left()
    failures = 0
    for at in range(1, 20):
        disk.writes, disk.full_at = 0, at
        if not prepare_one(node.preparer, wanted).error:
            assert unprepare_one(node.preparer, wanted) == "" or unprepare_one(node.preparer, wanted) == ""
        else:
            failures += 1
        disk.full_at = 0
        assert list(node.partitions()) == [6]
        assert node.left() == before
        if disk.writes < at:
            break
    assert failures >= 3, "the record before, the CDI spec, the record after"


# Strangers


def test_a_stranger_that_comes_between_plan_and_run_is_named_and_left(node: PartitionedNode) -> None:
    first, second = small(node, 0, 1)
    plan = node.vendor.plan
    made: list[str] = []

    def plan_and_be_overtaken(targets):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202 - a method in place of another
        steps = plan(targets)
        if not made:
            made.append(node.make_foreign("1g.10gb", 1))
        return steps

    node.vendor.plan = plan_and_be_overtaken  # type: ignore[method-assign]
    wanted = node.add("u1", first, second)
    error = prepare_one(node.preparer, wanted).error
    assert made[0] in error, "named"
    assert "in the way" in error
    assert node.partitions() == {1: made[0]}
    assert not node.left()
    node.look()
    assert node.look().find(second), "it is published as it is"
    with pytest.raises(LookupError):
        node.find("2g.20gb", 0)


def test_a_stranger_in_the_place_of_ours_is_left_when_the_claim_goes(node: PartitionedNode) -> None:
    (name,) = small(node, 3)
    wanted = node.add("u1", name)
    assert not prepare_one(node.preparer, wanted).error
    node.look()
    node.destroy(node.partitions()[3])
    foreign = node.make_foreign("1g.10gb", 3)
    node.look()
    error = prepare_one(node.preparer, node.add("u2", name)).error
    assert "already prepared for claim default/claim-u1" in error, "the place is held, and the stranger lent to nobody"
    assert unprepare_one(node.preparer, wanted) == ""
    assert node.partitions() == {3: foreign}
    assert not node.left()
    other = node.add("u3", name)
    node.look()
    node.look()
    answer = prepare_one(node.preparer, other)
    assert not answer.error, "what is published is a partition that exists"
    assert unprepare_one(node.preparer, other) == ""
    assert node.partitions() == {3: foreign}


def test_ours_that_an_administrator_destroyed_is_no_obstacle_to_the_end_of_its_claim(node: PartitionedNode) -> None:
    wanted = node.add("u1", *small(node, 3, 4))
    assert not prepare_one(node.preparer, wanted).error
    node.destroy(node.partitions()[3])
    assert unprepare_one(node.preparer, wanted) == ""
    assert is_clean(node)


# Modes


@pytest.mark.parametrize("mode", [Mode.STATIC, Mode.OFF])
def test_a_mode_that_was_switched_after_the_allocation_is_the_reason(node: PartitionedNode, mode: Mode) -> None:
    had, late = small(node, 0, 1)
    running = node.add("u1", had)
    answer = prepare_one(node.preparer, running)
    node.mode = mode
    node.look()
    error = prepare_one(node.preparer, node.add("u2", late)).error
    assert f"device {late} of request r0 is not on this node now" in error
    assert "mode for partitions" in error
    assert prepare_one(node.preparer, running) == answer
    node.stop()
    node.start().recover()
    assert prepare_one(node.preparer, running) == answer
    assert unprepare_one(node.preparer, running) == ""
    assert is_clean(node)


@pytest.mark.parametrize("known", [True, False])
def test_a_whole_device_that_is_idle_in_partition_mode_is_made_whole(node: PartitionedNode, *, known: bool) -> None:
    """Also if the last look does not know of the mode yet."""
    wanted = node.add("u1", node.whole())
    before = node.bench.inventory
    node.destroy(node.make_foreign("1g.10gb", 0))
    assert node.accelerator().partitioned
    node.look()
    if not known:
        node.bench.inventory = before
    assert not prepare_one(node.preparer, wanted).error
    assert not node.accelerator().partitioned
    assert unprepare_one(node.preparer, wanted) == ""
    assert node.accelerator().partitioned, "as an administrator left it"


def test_a_whole_device_with_somebodys_partitions_is_refused_naming_them(node: PartitionedNode) -> None:
    wanted = node.add("u1", node.whole())
    foreign = node.make_foreign("1g.10gb", 0)
    assert foreign in prepare_one(node.preparer, wanted).error
    assert node.partitions() == {0: foreign}
    assert not node.left()


# Claims beside each other


def test_two_instances_of_the_plugin_make_partitions_of_one_device_at_a_time(node: PartitionedNode) -> None:
    """A rolling update: partition mode is switched by the first and back by the last, whoever that is."""
    names = small(node, *range(SLICES))
    old = node.preparer
    other = PartitionedNode.start(node)
    refs = [node.add(f"u{number}", name) for number, name in enumerate(names)]
    errors: list[str] = []

    def work(preparer: Preparer, number: int) -> None:
        errors.append(prepare_one(preparer, refs[number]).error)

    def run(act) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001 - one of two functions
        threads = [threading.Thread(target=act, args=((old, other)[number % 2], number)) for number in range(len(refs))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

    run(work)
    assert set(errors) == {""}
    assert sorted(node.partitions()) == list(range(SLICES))
    befores = {
        step.facts["before"] for record in node.bench.records() for step in record.steps if "before" in step.facts
    }
    assert befores == {"off"}
    run(lambda preparer, number: errors.append(unprepare_one(preparer, refs[(number + 3) % len(refs)])))
    assert set(errors) == {""}
    assert is_clean(node)
    old.close()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_crowd_of_calls_for_the_same_devices_leaves_nothing(node: PartitionedNode, seed: int) -> None:
    """Two instances, threads, claims that exclude each other, somebody who looks, and hardware that takes its time."""
    names = [
        *small(node, *range(SLICES)),
        node.find("2g.20gb", 0),
        node.find("3g.40gb", 4),
        node.whole(),
        node.whole(1),
    ]
    draw = random.Random(seed)
    refs = [node.add(f"u{number}", *draw.sample(names, draw.choice([1, 1, 2]))) for number in range(12)]
    node.write(call_seconds=0.002)
    old = node.preparer
    preparers = [old, node.start()]
    errors: list[str] = []

    def call(number: int) -> None:
        own = random.Random(100 * seed + number)
        for _ in range(15):
            preparer, ref = own.choice(preparers), own.choice(refs)
            if own.random() < 0.5:
                errors.append(prepare_one(preparer, ref).error)
            else:
                assert unprepare_one(preparer, ref) == ""
            node.look()

    threads = [threading.Thread(target=call, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert "" in errors
    assert node.bench.faults == []
    for ref in refs:
        assert unprepare_one(old, ref) == ""
    assert is_clean(node)
    assert not node.accelerator(1).partitioned
    old.close()


def test_after_a_boot_claims_that_share_the_mode_come_back_one_by_one(node: PartitionedNode) -> None:
    names = small(node, 0, 1)
    refs = [node.add(f"u{number}", name) for number, name in enumerate(names)]
    answers = [prepare_one(node.preparer, ref) for ref in refs]
    before = node.partitions()
    node.stop()
    node.bench.boot(LATER)
    for path in (node.root / "cdi").iterdir():
        path.unlink()
    node.start().recover()
    assert node.partitions() == {}, "a boot takes partitions along"
    assert prepare_one(node.preparer, refs[0]) == answers[0]
    assert list(node.partitions()) == [0]
    assert unprepare_one(node.preparer, refs[0]) == "", "before the other one is asked for again"
    assert prepare_one(node.preparer, refs[1]) == answers[1]
    assert list(node.partitions()) == [1]
    assert node.partitions()[1] != before[1]
    spec = (node.root / "cdi/k8s.gpu.accel-dra.dev-claim_u1.json").read_text()
    assert node.partitions()[1] in spec
    assert before[1] not in b"".join(node.left().values()).decode(), "no document has the old identity"
    assert unprepare_one(node.preparer, refs[1]) == ""
    assert is_clean(node)


# Who looks on


def ids(devices: tuple[PreparedDevice, ...]) -> dict[str, bool]:
    """Return whether a device comes with anything to inject, by name."""
    return {entry.device: bool(entry.cdi_device_ids) for entry in devices}


def test_who_looks_on_gets_what_is_there_and_makes_nothing(node: PartitionedNode) -> None:
    names = small(node, *range(SLICES))
    owner = node.add("u1", names[2])
    assert not prepare_one(node.preparer, owner).error
    node.look()
    monitor = node.add("u2", *names, node.whole(1), admin_access=True)
    answer = prepare_one(node.preparer, monitor)
    assert answer.error == ""
    assert list(ids(answer.devices)) == [*names, node.whole(1)]
    assert list(node.partitions()) == [2], "nothing was made"
    spec = (node.root / "cdi/k8s.gpu.accel-dra.dev-claim_u2.json").read_text()
    assert node.partitions()[2] in spec
    assert spec.count("MIG-") == 1
    assert not prepare_one(node.preparer, node.add("u3", names[0])).error, "it holds nothing"
    node.stop()
    node.start().recover()
    assert prepare_one(node.preparer, monitor) == answer
    assert unprepare_one(node.preparer, owner) == "", "and holds nobody up"
    assert unprepare_one(node.preparer, monitor) == ""


def test_who_looks_on_where_nothing_is_gets_what_comes_with_every_device(node: PartitionedNode) -> None:
    before = node.bench.files()
    monitor = node.add("u1", *small(node, *range(SLICES)), admin_access=True)
    answer = prepare_one(node.preparer, monitor)
    assert answer.error == ""
    assert len(answer.devices) == SLICES
    assert "SIMULATED_DRIVER_VERSION" in (node.root / "cdi/k8s.gpu.accel-dra.dev-claim_u1.json").read_text()
    assert not node.accelerator().partitioned
    assert unprepare_one(node.preparer, monitor) == ""
    assert node.bench.files() == before


def test_who_looks_on_comes_back_after_a_boot(node: PartitionedNode) -> None:
    (name,) = small(node, 2)
    assert not prepare_one(node.preparer, node.add("u1", name)).error
    node.look()
    monitor = node.add("u2", name, node.whole(1), admin_access=True)
    answer = prepare_one(node.preparer, monitor)
    node.stop()
    node.bench.boot(LATER)
    node.start().recover()
    assert prepare_one(node.preparer, monitor) == answer
    assert node.partitions() == {}


def test_the_devices_are_where_the_file_says(node: PartitionedNode) -> None:
    assert tuple(each.pci_address for each in node.vendor.snapshot().accelerators) == ADDRESSES
