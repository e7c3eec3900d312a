"""Laws of preparing, over any history of calls, crashes, restarts, boots and two instances side by side.

prepare∘prepare = prepare; unprepare∘prepare = nothing; no device is held by two claims; what is on disk, in the CDI
folder and in the hardware is exactly what the prepared claims ask for.
"""

from __future__ import annotations

import itertools
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from driver.model.claims import AllocationResult
from driver.model.devices import Inventory
from driver.model.prepared import Phase, PrepareAnswer
from driver.model.sharing import Strategy
from driver.model.vocabulary import SHARE
from driver.node.preparer import Preparer
from driver.state.files import Disk
from tests.fakes import cdi as judge
from tests.fakes.bench import (
    Bench,
    claim,
    device,
    node_inventory,
    prepare_one,
    ref,
    result,
    share,
    shared_inventory,
    unprepare_one,
)
from tests.fakes.disks import CrashError, CrashingDisk

RESULTS = st.builds(
    lambda slot, request, share_id, admin: result(device(slot), request, shareID=share_id, adminAccess=admin),
    st.integers(1, 3),
    st.sampled_from(["a", "b/sub"]),
    st.sampled_from([None, None, "s1", "s2"]),
    st.sampled_from([None, None, None, True]),
)
UIDS = st.sampled_from([f"u{number}" for number in range(5)])
INSTANCES = st.integers(0, 1)


def holds(results: tuple[AllocationResult, ...]) -> set[tuple[str, str | None]]:
    """Return what a claim keeps others from: devices with share ids; what only admins have is not kept."""
    return {(entry.device, entry.share_id) for entry in results if not entry.admin_access}


def exclude(mine: set[tuple[str, str | None]], theirs: set[tuple[str, str | None]]) -> bool:
    return any(a == b and (s is None or t is None or s == t) for (a, s), (b, t) in itertools.product(mine, theirs))


class Node(RuleBasedStateMachine):
    """One node. `expected` is the model: the prepared claims, in memory."""

    steps: ClassVar[int] = 0
    results_of_claims: ClassVar[st.SearchStrategy[AllocationResult]] = RESULTS

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.bench = Bench(Path(self.folder.name))
        self.bench.vendor.steps_per_device = self.steps
        self.bench.inventory = self.make_inventory()
        self.results: dict[str, tuple[AllocationResult, ...]] = {}
        self.answers: dict[str, PrepareAnswer] = {}
        self.expected: set[str] = set()
        self.stale: set[str] = set()
        """Prepared before the last boot and not asked for since."""
        self.boots = 0
        self.instances = [self.start(), self.start()]

    def make_inventory(self) -> Inventory:
        return node_inventory()

    def start(self) -> Preparer:
        preparer = self.bench.open()
        preparer.recover()
        return preparer

    def teardown(self) -> None:
        for instance in self.instances:
            instance.close()
        self.folder.cleanup()

    @initialize(data=st.data())
    def allocate(self, data: st.DataObject) -> None:
        """Make up claims: some devices are in several of them, as if the allocator had failed."""
        for number in range(5):
            self.results[f"u{number}"] = tuple(data.draw(st.lists(self.results_of_claims, min_size=1, max_size=2)))
            self.bench.add(claim(f"u{number}", *self.results[f"u{number}"]))

    @rule(uid=UIDS, instance=INSTANCES)
    def prepare(self, uid: str, instance: int) -> None:
        answer = prepare_one(self.instances[instance], ref(uid))
        if self.is_blocked(uid):
            assert "already prepared for claim" in answer.error
            assert answer.devices == ()
            return
        assert answer.error == "", answer.error
        assert answer == self.answers.setdefault(uid, answer), "the same answer, whatever happened in between"
        self.expected.add(uid)
        self.stale.discard(uid)

    @rule(uid=UIDS, instance=INSTANCES)
    def unprepare(self, uid: str, instance: int) -> None:
        assert unprepare_one(self.instances[instance], ref(uid)) == ""
        self.expected.discard(uid)
        self.stale.discard(uid)

    @rule(uids=st.lists(UIDS, unique=True, min_size=2), instance=INSTANCES)
    def unprepare_several(self, uids: list[str], instance: int) -> None:
        assert set(self.instances[instance].unprepare([ref(uid) for uid in uids]).values()) == {""}
        self.expected.difference_update(uids)
        self.stale.difference_update(uids)

    @rule(instance=INSTANCES)
    def restart(self, instance: int) -> None:
        self.instances[instance].close()
        self.instances[instance] = self.start()

    @rule(uid=UIDS, instance=INSTANCES, at=st.integers(1, 25), undo=st.booleans())
    def crash(self, uid: str, instance: int, at: int, *, undo: bool) -> None:
        """Die somewhere in a call; the other instance lives on, and this one is started again."""
        self.instances[instance].close()
        disk = CrashingDisk()
        self.bench.disk = self.bench.vendor.disk = disk
        dying = self.start()
        disk.changes, disk.crash_at = 0, at
        blocked = self.is_blocked(uid)
        try:
            if undo:
                unprepare_one(dying, ref(uid))
            else:
                prepare_one(dying, ref(uid))
        except CrashError:
            pass
        self.bench.disk = self.bench.vendor.disk = Disk()
        dying.close()
        self.instances[instance] = self.start()
        self.adopt(uid)
        assert not (blocked and not undo and uid in self.expected)

    @rule(instance=INSTANCES)
    def lose_cdi_folder(self, instance: int) -> None:
        for path in (self.bench.root / "cdi").iterdir():
            path.unlink()
        self.instances[instance].recover()

    @precondition(lambda self: self.boots < 3)
    @rule(known=st.booleans())
    def reboot(self, *, known: bool) -> None:
        """Boot the machine; the hardware's driver may not be there yet when the plugin starts."""
        for instance in self.instances:
            instance.close()
        self.boots += 1
        self.bench.reboot(f"0000000{self.boots}-2222-4333-8444-555555555555")
        inventory = self.bench.inventory
        self.bench.inventory = inventory if known else None
        self.instances = [self.start(), self.start()]
        self.bench.inventory = inventory
        self.stale = {uid for uid in self.expected if not known or self.needs_steps(uid)} | (self.stale & self.expected)

    def needs_steps(self, uid: str) -> bool:
        return bool(self.steps) and any(share_id is None for _, share_id in holds(self.results[uid]))

    def is_blocked(self, uid: str) -> bool:
        others = (holds(self.results[other]) for other in self.expected - {uid})
        return uid not in self.expected and any(exclude(holds(self.results[uid]), theirs) for theirs in others)

    def adopt(self, uid: str) -> None:
        """After a crash either is right: take what the disk says about this one claim, and only about it."""
        prepared = {record.uid for record in self.bench.records()}
        boot = (self.bench.root / "proc/sys/kernel/random/boot_id").read_text().strip()
        current = {record.uid for record in self.bench.records() if record.boot_id == boot}
        self.expected = (self.expected - {uid}) | (prepared & {uid})
        self.stale = (self.stale | ({uid} & prepared)) - (current & {uid})

    @invariant()
    def records_are_the_prepared_claims(self) -> None:
        records = {record.uid: record for record in self.bench.records()}
        assert set(records) == self.expected
        for uid, record in records.items():
            assert record.phase is Phase.PREPARED
            assert PrepareAnswer(record.devices) == self.answers.setdefault(uid, PrepareAnswer(record.devices))

    @invariant()
    def no_device_is_held_by_two_claims(self) -> None:
        for one, other in itertools.combinations(sorted(self.expected), 2):
            assert not exclude(holds(self.results[one]), holds(self.results[other]))

    @invariant()
    def the_cdi_folder_has_what_the_answers_name_and_nothing_else(self) -> None:
        offered: set[str] = set()
        for text in self.bench.files("cdi").values():
            document = judge.check(text)
            offered |= {f"{document['kind']}={entry['name']}" for entry in document["devices"]}  # type: ignore[attr-defined]
        named = {
            uid: {name for entry in self.answers[uid].devices for name in entry.cdi_device_ids} for uid in self.expected
        }
        fresh = set().union(*(named[uid] for uid in self.expected - self.stale))
        assert fresh <= offered <= set().union(*named.values())

    @invariant()
    def the_hardware_is_as_the_prepared_claims_want_it(self) -> None:
        wanted = {
            f"hardware/{name}.{part}"
            for uid in self.expected - self.stale
            for name, share_id in holds(self.results[uid])
            if share_id is None
            for part in range(self.steps)
        }
        assert set(self.bench.files("hardware")) == wanted

    @invariant()
    def nothing_is_left_over(self) -> None:
        temporary = list(self.bench.root.rglob("*.tmp"))
        assert temporary == []
        assert not (self.bench.root / "state/quarantine").exists()
        assert self.bench.faults == []


class NodeWithShares(Node):
    """The same where claims have shares of devices: they fit beside each other as long as there is room."""

    results_of_claims: ClassVar[st.SearchStrategy[AllocationResult]] = st.builds(
        lambda slot, number, percent: share(
            device(slot), f"s{number}-{percent}", f"{percent * 80 * 1024 // 100}Mi", percent, ("a", "b/sub")[slot - 1]
        ),
        st.integers(1, 2),
        st.integers(1, 4),
        st.sampled_from([20, 30, 50, 100]),
    )
    """A request has shares of one device only: each device has an MPS daemon."""

    def make_inventory(self) -> Inventory:
        return shared_inventory(Strategy.MPS)

    def is_blocked(self, uid: str) -> bool:
        return uid not in self.expected and (super().is_blocked(uid) or self.is_crowded({uid, *self.expected}))

    def is_crowded(self, uids: Iterable[str]) -> bool:
        """Say whether claims together have more of a device than there is; one share for two requests counts once."""
        taken: Counter[str] = Counter()
        for uid in uids:
            first = {(each.device, each.share_id): each for each in reversed(self.results[uid])}
            for each in first.values():
                taken[each.device] += int(each.consumed_capacity[SHARE])
        return any(percent > 100 for percent in taken.values())

    @invariant()
    def no_device_is_shared_out_twice(self) -> None:
        assert not self.is_crowded(self.expected)
        for record in self.bench.records():
            for held in record.devices:
                limits = held.sharing
                assert held.shared is (int(held.consumed_capacity[SHARE]) < 100)
                assert (limits is not None and limits.active_thread_percentage) == (
                    int(held.consumed_capacity[SHARE]) if held.shared else False
                )


class NodeWithSteps(Node):
    """The same on hardware that has to be changed for each device."""

    steps = 2


HISTORIES = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.mark.timeout(600)  # a failure is first made as small as possible, which takes minutes
@pytest.mark.parametrize("node", [Node, NodeWithSteps, NodeWithShares])
def test_the_laws_hold_over_any_history(node: type[Node]) -> None:
    case = node.TestCase
    case.settings = settings(HISTORIES, max_examples=30) if node is NodeWithShares else HISTORIES
    case("runTest").runTest()
