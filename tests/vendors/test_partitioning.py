"""What the contract promises of partitions made on demand, for every vendor whose accelerators can be partitioned.

The steps are run and undone here as the driver does: written down as planned, undone in reverse, a step with a key
undone with the last claim that holds it. The process may be killed before any change of the hardware.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import msgspec
import pytest

from driver.contract import Steps, Target, Vendor
from driver.core import naming
from driver.model.devices import Accelerator, Partition, Profile, Snapshot
from driver.model.errors import InvalidInput, StepFailed, StepRefused, Unavailable, Unsupported
from driver.model.prepared import PARTITION, PARTITION_MODE, ContainerEdits, Step
from tests.vendors.machines import Admin, Killed, Machine


@dataclass(frozen=True)
class Bench:
    """A machine with an accelerator on which two partitions of one profile fit side by side."""

    machine: Machine
    address: str
    admin: Admin
    profile: Profile
    first: int
    second: int

    def create(self) -> tuple[Vendor, Steps]:
        """Start a process of the driver's."""
        vendor = self.machine.create({})
        assert isinstance(vendor, Steps)
        return vendor, vendor

    def look(self) -> Snapshot:
        return self.machine.create({}).snapshot()

    def find(self, placement: int) -> Partition | None:
        device = get(self.look(), self.address)
        found = (each for each in device.partitions if each.placement == placement)
        return next((each for each in found if each.profile == self.profile.name), None)

    def aim(self, placement: int, claim: str = "claim-1", *, admin_access: bool = False) -> Target:
        accelerator = get(self.look(), self.address)
        part = self.profile.shape(placement)
        name = naming.name_partition(accelerator, part)
        return Target(name, accelerator, part, admin_access=admin_access, share_id=None, claim=claim)


def encode(edits: ContainerEdits) -> str:
    return msgspec.json.encode(edits).decode()


def get(snapshot: Snapshot, address: str) -> Accelerator:
    return next(device for device in snapshot.accelerators if device.pci_address == address)


@pytest.fixture
def benches(machines: Sequence[Machine]) -> Sequence[Bench]:
    """An accelerator of each kind, in partition mode and not, that is free and can be partitioned now."""
    devices = [(machine, device) for machine in machines for device in machine.create({}).snapshot().accelerators]
    if not any(device.profiles for _, device in devices):
        pytest.skip("this vendor makes no partitions")
    kinds = {(device.model, device.partitioned): (machine, device) for machine, device in devices if is_able(device)}
    assert kinds, "a vendor that makes partitions has a machine on which one can be made"
    return [make_bench(machine, device) for machine, device in kinds.values()]


def is_able(device: Accelerator) -> bool:
    return bool(device.profiles and (device.partitioned or device.partition_fault is None) and not device.partitions)


def make_bench(machine: Machine, device: Accelerator) -> Bench:
    assert machine.admin, "a vendor that makes partitions lets tests make some behind its back"
    assert machine.interrupt, "a vendor that makes partitions can be interrupted"
    profile = next(each for each in device.profiles if len(each.placements) > 1)
    return Bench(machine, device.pci_address, machine.admin, profile, *profile.placements[:2])


def run(vendor: Steps, steps: Sequence[Step]) -> tuple[Step, ...]:
    done: list[Step] = []
    for step in steps:
        done.append(vendor.run(step, tuple(done)))
    return tuple(done)


def undo(vendor: Steps, steps: Sequence[Step]) -> None:
    for step in reversed(steps):
        vendor.undo(step)


def test_the_steps_say_in_the_words_of_all_vendors_what_is_to_be_made(benches: Sequence[Bench]) -> None:
    for bench in benches:
        _, steps = bench.create()
        planned = {step.name: step for step in steps.plan([bench.aim(bench.first)])}
        place = {"pciAddress": bench.address, "profile": bench.profile.name, "placement": str(bench.first)}
        assert place.items() <= planned[PARTITION].arguments.items(), bench.machine.title
        assert planned[PARTITION].facts["present"] == ""
        if get(bench.look(), bench.address).partition_fault is None:
            assert list(planned).index(PARTITION_MODE) < list(planned).index(PARTITION)
            assert bench.address in planned[PARTITION_MODE].key


def test_a_whole_device_is_taken_out_of_partition_mode_and_given_back_as_it_was(benches: Sequence[Bench]) -> None:
    for bench in benches:
        before = get(bench.look(), bench.address)
        _, steps = bench.create()
        whole = Target(
            naming.name_accelerator(before), before, None, admin_access=False, share_id=None, claim="claim-1"
        )
        if before.partitioned and before.partition_fault is not None:
            with pytest.raises(Unsupported, match=whole.name):
                steps.plan([whole])
            continue
        done = run(steps, steps.plan([whole]))
        assert not get(bench.look(), bench.address).partitioned, bench.machine.title
        undo(steps, done)
        assert get(bench.look(), bench.address) == before


def test_a_partition_is_made_shown_and_gone_again(benches: Sequence[Bench]) -> None:
    for bench in benches:
        before = bench.look()
        vendor, steps = bench.create()
        target = bench.aim(bench.first)
        fingerprint = vendor.fingerprint()
        done = run(steps, steps.plan([target]))
        made = bench.find(bench.first)
        assert made is not None, bench.machine.title
        assert made.uuid == done[-1].facts["uuid"]
        assert (made.size, made.memory_bytes) == (bench.profile.size, bench.profile.memory_bytes)
        assert get(bench.look(), bench.address).partitioned
        assert vendor.fingerprint() != fingerprint
        undo(steps, done)
        assert bench.look() == before, bench.machine.title


def test_planning_changes_nothing(benches: Sequence[Bench]) -> None:
    for bench in benches:
        before = bench.look()
        vendor, steps = bench.create()
        fingerprint = vendor.fingerprint()
        target = bench.aim(bench.first)
        assert steps.plan([target]) == steps.plan([target])
        assert (bench.look(), vendor.fingerprint()) == (before, fingerprint)


def test_a_container_is_told_the_identity_of_what_was_made(benches: Sequence[Bench]) -> None:
    for bench in benches:
        vendor, steps = bench.create()
        targets = [bench.aim(bench.first), bench.aim(bench.second)]
        done = run(steps, steps.plan(targets))
        first, second = (step.facts["uuid"] for step in done if step.name == PARTITION)
        edits = bench.machine.create({}).prepare(targets, done).devices
        texts = [encode(edits[target.key]) for target in targets]
        assert texts[0] != texts[1], bench.machine.title
        assert second not in texts[0]
        assert first not in texts[1]
        if edits[targets[0].key].env:  # otherwise device nodes tell which it is
            assert first in texts[0]
            assert second in texts[1]
        assert vendor.prepare(targets, done).devices == edits
        undo(steps, done)


def test_what_was_not_made_cannot_be_given_away(benches: Sequence[Bench]) -> None:
    for bench in benches:
        vendor, _ = bench.create()
        with pytest.raises(Unavailable, match=bench.aim(bench.first).name):
            vendor.prepare([bench.aim(bench.first)])


def test_who_looks_on_makes_nothing(benches: Sequence[Bench]) -> None:
    for bench in benches:
        before = bench.look()
        _, steps = bench.create()
        watcher = bench.aim(bench.first, "claim-2", admin_access=True)
        with contextlib.suppress(InvalidInput):  # a vendor may also refuse it
            assert steps.plan([watcher]) == (), bench.machine.title
        assert bench.look() == before


def test_steps_are_done_once_however_often_they_are_run(benches: Sequence[Bench]) -> None:
    for bench in benches:
        _, steps = bench.create()
        _, later = bench.create()
        planned = steps.plan([bench.aim(bench.first), bench.aim(bench.second)])
        done = run(steps, planned)
        assert run(later, planned) == run(later, done) == done, bench.machine.title
        assert len(get(bench.look(), bench.address).partitions) == 2
        undo(steps, done)
        undo(later, done)
        undo(later, planned)
        assert not get(bench.look(), bench.address).partitions


def test_the_mode_goes_with_the_last_claim_on_an_accelerator(benches: Sequence[Bench]) -> None:
    for bench in benches:
        before = bench.look()
        _, steps = bench.create()
        one = run(steps, steps.plan([bench.aim(bench.first)]))
        planned = steps.plan([bench.aim(bench.second, "claim-2")])
        held = {step.key: step for step in one if step.key}
        two = run(steps, [held.get(step.key, step) for step in planned])
        undo(steps, [step for step in one if step.key not in {other.key for other in two}])
        assert bench.find(bench.first) is None
        assert bench.find(bench.second) is not None, bench.machine.title
        undo(steps, two)
        assert bench.look() == before, bench.machine.title


def test_a_foreign_partition_in_the_way_is_named_and_left_alone(benches: Sequence[Bench]) -> None:
    for bench in benches:
        _, steps = bench.create()
        planned = steps.plan([bench.aim(bench.first)])
        late = bench.admin.create(bench.address, bench.profile.name, bench.first)
        for attempt in (planned, steps.plan([bench.aim(bench.first)])):
            with pytest.raises(StepRefused) as refused:
                run(steps, attempt)
            told = str(refused.value)
            assert all(word in told for word in (bench.profile.name, str(bench.first), late)), told
            undo(steps, attempt[:-1])
            assert bench.find(bench.first) is not None, bench.machine.title
        bench.admin.destroy(late)


def test_a_larger_foreign_partition_is_in_the_way_too(benches: Sequence[Bench]) -> None:
    for bench in benches:
        profiles = get(bench.look(), bench.address).profiles
        large = max(profiles, key=lambda profile: profile.size)
        foreign = bench.admin.create(bench.address, large.name, large.placements[0])
        _, steps = bench.create()
        planned = steps.plan([bench.aim(bench.second)])
        with pytest.raises(StepRefused, match=foreign):
            run(steps, planned)
        bench.admin.destroy(foreign)


def test_undoing_what_was_planned_and_not_run_destroys_nothing(benches: Sequence[Bench]) -> None:
    for bench in benches:
        for place in (bench.first, bench.second):
            foreign = bench.admin.create(bench.address, bench.profile.name, place)
            before = bench.look()
            _, steps = bench.create()
            undo(steps, steps.plan([bench.aim(bench.first)]))
            assert bench.look() == before, bench.machine.title
            bench.admin.destroy(foreign)


def test_a_foreign_partition_at_the_place_of_one_that_is_gone_is_left_alone(benches: Sequence[Bench]) -> None:
    for bench in benches:
        _, steps = bench.create()
        done = run(steps, steps.plan([bench.aim(bench.first)]))
        bench.admin.destroy(done[-1].facts["uuid"])
        foreign = bench.admin.create(bench.address, bench.profile.name, bench.first)
        if foreign != done[-1].facts["uuid"]:
            undo(steps, done)
            assert bench.find(bench.first) is not None, bench.machine.title
        bench.admin.destroy(foreign)


def test_a_partition_of_others_keeps_the_mode(benches: Sequence[Bench]) -> None:
    for bench in benches:
        _, steps = bench.create()
        done = run(steps, steps.plan([bench.aim(bench.first)]))
        foreign = bench.admin.create(bench.address, bench.profile.name, bench.second)
        undo(steps, done)
        device = get(bench.look(), bench.address)
        assert [part.uuid for part in device.partitions] == [foreign], bench.machine.title
        bench.admin.destroy(foreign)


def test_a_partition_in_use_is_not_destroyed_and_later_is(benches: Sequence[Bench]) -> None:
    for bench in benches:
        _, steps = bench.create()
        done = run(steps, steps.plan([bench.aim(bench.first)]))
        identity = done[-1].facts["uuid"]
        bench.admin.occupy(identity, True)
        with pytest.raises(StepFailed):
            undo(steps, done)
        found = bench.find(bench.first)
        assert found is not None
        assert found.uuid == identity, bench.machine.title
        bench.admin.occupy(identity, False)
        undo(steps, done)
        assert bench.find(bench.first) is None


def test_a_run_that_was_killed_anywhere_is_rolled_back(benches: Sequence[Bench]) -> None:
    for bench in benches:
        before = bench.look()
        for changes in count():
            planned, done = run_killed(bench, changes)
            _, later = bench.create()
            undo(later, done or planned)
            assert bench.look() == before, f"{bench.machine.title}, killed after {changes} changes"
            if done is not None:
                break
        assert changes >= 2


def test_a_run_that_was_killed_anywhere_is_completed(benches: Sequence[Bench]) -> None:
    for bench in benches:
        before = bench.look()
        for changes in count():
            planned, whole = run_killed(bench, changes)
            _, later = bench.create()
            done = run(later, planned)
            partitions = get(bench.look(), bench.address).partitions
            assert [part.uuid for part in partitions] == [step.facts["uuid"] for step in done if step.name == PARTITION]
            undo(later, done)
            assert bench.look() == before, f"{bench.machine.title}, killed after {changes} changes"
            if whole is not None:
                break


def test_an_undoing_that_was_killed_anywhere_is_completed(benches: Sequence[Bench]) -> None:
    for bench in benches:
        before = bench.look()
        for changes in count():
            _, steps = bench.create()
            done = run(steps, steps.plan([bench.aim(bench.first), bench.aim(bench.second)]))
            vendor, killed = bench.create()
            interrupt(bench, vendor, changes)
            finished = True
            try:
                undo(killed, done)
            except Killed:
                finished = False
            _, later = bench.create()
            undo(later, done)
            assert bench.look() == before, f"{bench.machine.title}, killed after {changes} changes"
            if finished:
                break
        assert changes >= 2


def run_killed(bench: Bench, changes: int) -> tuple[tuple[Step, ...], tuple[Step, ...] | None]:
    """Run the steps of two partitions in a process that is killed; return them as planned, and as done if it lived."""
    vendor, steps = bench.create()
    planned = steps.plan([bench.aim(bench.first), bench.aim(bench.second)])
    interrupt(bench, vendor, changes)
    try:
        return planned, run(steps, planned)
    except Killed:
        return planned, None


def interrupt(bench: Bench, vendor: Vendor, changes: int) -> None:
    assert bench.machine.interrupt is not None
    bench.machine.interrupt(vendor, changes)
