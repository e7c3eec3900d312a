"""Any history of a node with partitions on demand: hardware, records, CDI folder and slices always agree.

Claims are allocated from the published slices and prepared, released, lost and cut off; two instances of the plugin
work side by side, crash before any change of disk or hardware, are restarted and boot with the machine; an
administrator makes and removes partitions of his own and switches the node's mode; hardware refuses. After every step:
nothing leaks, nothing of somebody else's is touched, every refusal leaves no trace, and what kube-scheduler may
allocate next is what prepare would not refuse.

What it finds is made short in a long run only, because that takes minutes:
NODE_MACHINE_EXAMPLES=2000 pytest -q --timeout=0 tests/properties/test_node_machine.py
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import Phase as Stage
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from driver.core.offering import Mode
from driver.model import quantities, vocabulary
from driver.model.devices import Inventory
from driver.model.prepared import PARTITION, PARTITION_MODE, Phase, Record, Step
from driver.model.slices import Device
from driver.vendors.simulated.instances import CHANGES
from tests.fakes.node_world import Held, Place, World

Trace = tuple[Mapping[str, object], Mapping[str, bytes]]
"""The hardware, and the files of the node."""
PROFILES = ("1g.10gb", "2g.20gb", "3g.40gb", "7g.80gb")
PICK = st.integers(0, 1 << 16)
INSTANCE = st.integers(0, 1)
SERVED = st.sampled_from([0, 1, 0, 1, None])
"""Which instance prepares a claim at once; None: neither."""
SMALL = st.sampled_from([*PROFILES, "1g.10gb", "1g.10gb"])
AFTER = st.integers(0, 22)
"""Changes of disk and hardware before a crash: a claim makes at most so many."""
LONG = {
    "apiVersion": vocabulary.CONFIG_API_VERSION,
    "kind": "GpuConfig",
    "sharing": {"strategy": "TimeSlicing", "timeSlicing": {"interval": "Long"}},
}


def whole(count: int = 1) -> Mapping[str, object]:
    return {"deviceClassName": "gpu", "count": count}


def part(profile: str, count: int = 1) -> Mapping[str, object]:
    expression = f'device.attributes["accel-dra.dev"].profile == "{profile}"'
    return {"deviceClassName": "partition", "count": count, "selectors": [{"cel": {"expression": expression}}]}


class Node(RuleBasedStateMachine):
    """`world` is what there is; `expected` the claims that the kubelet believes to be prepared, by name."""

    shares: ClassVar[str] = "off"

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        changes = {"partitions": "dynamic", "partition_profiles": PROFILES, "shares": self.shares}
        self.world = World(Path(self.folder.name), changes)
        self.expected: dict[str, Held] = {}
        self.lost: dict[str, Held] = {}
        self.stuck = False

    def teardown(self) -> None:
        self.world.refused.clear()
        for held in [*self.expected.values(), *self.lost.values(), *self.world.claims.values()]:
            assert self.world.preparers[0].unprepare([held.ref]) == {held.ref.uid: ""}
        left = {path: text for path, text in self.world.files().items() if "/begun/" not in path}
        assert left == {}, "all is released, nothing is left"
        made = [
            each for _, parts in self.world.layout().values() for each in parts if each[2] not in self.world.foreign
        ]
        assert made == []
        assert not self.world.faults
        self.world.stop()
        self.folder.cleanup()

    # Claims

    @rule(count=st.integers(1, 3), sliced=st.booleans(), served=SERVED)
    def allocate_whole(self, count: int, sliced: bool, served: int | None) -> None:
        self.serve(self.world.allocate(whole(count), config=(LONG,) if sliced and self.shares == "off" else ()), served)

    @rule(profile=SMALL, count=st.integers(1, 2), other=st.sampled_from([None, *PROFILES]), served=SERVED)
    def allocate_parts(self, profile: str, count: int, other: str | None, served: int | None) -> None:
        self.serve(self.world.allocate(part(profile, count), *([part(other)] if other else [])), served)

    allocate_more_parts = allocate_parts
    """Twice, so that it is chosen more often."""

    @rule(served=SERVED)
    def allocate_both(self, served: int | None) -> None:
        self.serve(self.world.allocate(whole(), part("2g.20gb")), served)

    @precondition(lambda self: self.shares != "off")
    @rule(profile=st.sampled_from([None, *PROFILES]), percent=st.sampled_from(["10", "40", "100"]), served=SERVED)
    def allocate_share(self, profile: str | None, percent: str, served: int | None) -> None:
        capacity = {"capacity": {"requests": {vocabulary.SHARE: percent, vocabulary.MEMORY: "1Gi"}}}
        self.serve(self.world.allocate({**(part(profile) if profile else whole()), **capacity}), served)

    def serve(self, held: Held | None, instance: int | None) -> None:
        """Prepare a claim as soon as it is allocated, by one of the instances; or not yet."""
        if held is not None and instance is not None:
            self.prepare_one(held, instance)

    @precondition(lambda self: self.world.claims)
    @rule(pick=PICK, instance=INSTANCE)
    def prepare(self, pick: int, instance: int) -> None:
        self.prepare_one(self.pick_claim(pick), instance)

    def prepare_one(self, held: Held, instance: int) -> None:
        before, published, prepared = self.trace(), self.published(), self.expected.get(self.name(held))
        answer = self.world.preparers[instance].prepare([held.ref])[held.ref.uid]
        if answer.error:
            self.check_refusal(held, answer.error, before)
            if prepared is not None and not self.records().get(held.ref.uid):
                del self.expected[self.name(held)]
        else:
            assert [device.device for device in answer.devices] == list(dict.fromkeys(held.devices))
            assert self.world.preparers[1 - instance].prepare([held.ref])[held.ref.uid] == answer
            self.expected[self.name(held)] = held
            self.stuck = self.is_stuck()
        if self.world.mode is Mode.DYNAMIC:
            assert self.published() == published, "preparing changes no slice"

    @precondition(lambda self: self.world.claims)
    @rule(pick=PICK, instance=INSTANCE)
    def release(self, pick: int, instance: int) -> None:
        """Unprepare a claim, prepared or not, as often as it takes; then it is deleted."""
        held = self.pick_claim(pick)
        published = self.published()
        if self.unprepare(held, instance):
            del self.world.claims[self.name(held)]
            self.expected.pop(self.name(held), None)
        if self.world.mode is Mode.DYNAMIC:
            assert self.published() == published, "releasing changes no slice"

    release_another = release

    @precondition(lambda self: self.expected)
    @rule(pick=PICK)
    def lose(self, pick: int) -> None:
        """A pod is deleted by force: its claim is gone before the kubelet unprepares it."""
        names = sorted(set(self.expected) & set(self.world.claims))
        if names:
            name = names[pick % len(names)]
            self.lost[name] = self.expected.pop(name)
            del self.world.claims[name]

    @precondition(lambda self: self.lost)
    @rule(pick=PICK, instance=INSTANCE)
    def find_lost(self, pick: int, instance: int) -> None:
        name = sorted(self.lost)[pick % len(self.lost)]
        if self.unprepare(self.lost[name], instance):
            del self.lost[name]

    # Crashes

    @precondition(lambda self: self.world.claims)
    @rule(pick=PICK, after=AFTER)
    def crash_in_prepare(self, pick: int, after: int) -> None:
        held = self.pick_claim(pick)
        with self.world.crash(after):
            self.world.preparers[0].prepare([held.ref])
        self.settle()

    @precondition(lambda self: self.expected)
    @rule(pick=PICK, after=AFTER)
    def crash_in_release(self, pick: int, after: int) -> None:
        held = self.expected[sorted(self.expected)[pick % len(self.expected)]]
        with self.world.crash(after):
            self.world.preparers[0].unprepare([held.ref])
        self.settle()

    @rule(after=AFTER)
    def crash_in_start(self, after: int) -> None:
        with self.world.crash(after):
            self.world.preparers[1].recover()
        self.settle()

    @rule()
    def restart(self) -> None:
        self.world.restart()
        self.settle()

    @rule()
    def reboot(self) -> None:
        self.world.reboot()
        self.settle()

    def settle(self) -> None:
        """After a start a claim is prepared, or as if it had never been; what could not be undone is known."""
        known = self.records()
        self.stuck = self.is_stuck()
        self.lost = {name: held for name, held in self.lost.items() if held.ref.uid in known}
        for name, held in list(self.world.claims.items()):
            record = known.get(held.ref.uid)
            if record is not None and record.phase is Phase.PREPARED:
                self.expected[name] = held
            else:
                self.expected.pop(name, None)

    # An administrator, and hardware

    @rule(pick=PICK, profile=st.sampled_from(PROFILES), place=PICK)
    def make_foreign(self, pick: int, profile: str, place: int) -> None:
        address = self.pick_address(pick)
        if address not in self.list_whole():  # a device that is in use cannot be switched
            shape = self.world.profile(address, profile)
            self.world.make_foreign(address, shape, shape.placements[place % len(shape.placements)])

    @precondition(lambda self: self.world.foreign)
    @rule(pick=PICK)
    def destroy_foreign(self, pick: int) -> None:
        uuid = sorted(self.world.foreign)[pick % len(self.world.foreign)]
        if uuid not in self.list_used():
            self.world.destroy_foreign(uuid)

    @rule(mode=st.sampled_from([Mode.DYNAMIC, *Mode]))
    def switch(self, mode: Mode) -> None:
        self.world.switch(mode)

    @rule()
    def scan(self) -> None:
        self.world.scan()

    @rule(call=st.sampled_from(CHANGES))
    def refuse(self, call: str) -> None:
        self.world.refused = {call}

    @precondition(lambda self: self.world.refused)
    @rule()
    def refuse_nothing(self) -> None:
        self.world.refused = set()

    # What always holds

    @invariant()
    def it_all_agrees(self) -> None:
        self.hardware_and_records_agree()
        self.modes_are_brought_back()
        self.strangers_are_never_touched()
        self.the_cdi_folder_is_what_prepared_claims_need()
        self.the_kubelet_s_claims_are_in_the_records()
        self.what_may_be_allocated_next_is_free()

    def hardware_and_records_agree(self) -> None:
        layout, there, known = self.world.layout(), self.world.places(), self.records().values()
        for record in known:
            for step in record.steps if self.is_current(record) else ():
                address = step.arguments.get("pciAddress", "")
                if step.name == PARTITION:
                    assert there.get(step.facts["uuid"]) == place_of(step), "what a claim has is there"
                    assert layout[address][0]
                if step.name == PARTITION_MODE:
                    assert layout[address][0] == (step.arguments["mode"] == "on")
        places = {place_of(step) for record in known for step in record.steps if step.name == PARTITION}
        for uuid, place in there.items():
            assert uuid in self.world.foreign or place in places, f"{uuid} at {place} belongs to nobody"

    def modes_are_brought_back(self) -> None:
        switched = self.world.switched()
        for address, (partitioned, _) in self.world.layout().items():
            if address not in switched and self.world.modes.get(address, False) is not None:
                assert partitioned == self.world.modes.get(address, False), f"{address} is not as it was left"

    def strangers_are_never_touched(self) -> None:
        there = self.world.places()
        for uuid, place in self.world.foreign.items():
            assert there.get(uuid) == place

    def the_cdi_folder_is_what_prepared_claims_need(self) -> None:
        current = [record for record in self.records().values() if self.is_current(record)]
        wanted = {f"cdi/{name}": bytes(text) for record in current for name, text in record.cdi.items()}
        present = {path: text for path, text in self.world.files().items() if path.startswith("cdi/")}
        older = {f"cdi/{name}" for record in self.records().values() if record not in current for name in record.cdi}
        assert {path: text for path, text in present.items() if path not in older} == wanted
        for record in current:
            for step in record.steps:
                if step.name == PARTITION:
                    assert step.facts["uuid"].encode() in b"".join(bytes(text) for text in record.cdi.values())

    def the_kubelet_s_claims_are_in_the_records(self) -> None:
        known = self.records()
        for held in [*self.expected.values(), *self.lost.values()]:
            assert held.ref.uid in known

    def what_may_be_allocated_next_is_free(self) -> None:
        found, layout = self.world.look(), self.world.layout()
        left = self.count_left(found)
        held = {device.device for record in self.records().values() for device in record.devices}
        occupied = self.list_occupied(found)
        for entry in found.entries:
            if entry.name in held or not fits(entry.device, left):
                continue
            mine = extent(entry.device, found)
            for other, theirs in occupied:
                assert not overlap(mine, theirs), f"{entry.name} could be allocated beside {other}"
            for uuid, place in self.world.foreign.items():
                own = entry.partition is not None and entry.partition.uuid == uuid
                assert own or not overlap(mine, self.measure(*place)), f"{entry.name} on {uuid}"
            if entry.partition is None and self.world.mode is not Mode.DYNAMIC:
                assert not layout[entry.accelerator.pci_address][1]

    # Helpers

    def is_current(self, record: Record) -> bool:
        return record.phase is Phase.PREPARED and record.boot_id == f"boot-{self.world.boots}"

    def measure(self, address: str, profile: str, placement: int) -> tuple[str, int, int]:
        """Return address and memory slices (from, to) of a place."""
        return address, placement, placement + self.world.profile(address, profile).size

    def name(self, held: Held) -> str:
        return held.claim.metadata.name

    def pick_claim(self, pick: int) -> Held:
        return self.world.claims[sorted(self.world.claims)[pick % len(self.world.claims)]]

    def pick_address(self, pick: int) -> str:
        addresses = sorted(self.world.layout())
        return addresses[pick % len(addresses)]

    def records(self) -> dict[str, Record]:
        return {record.uid: record for record in self.world.records()}

    def is_stuck(self) -> bool:
        return any(record.phase is Phase.PREPARING for record in self.records().values())

    def trace(self) -> Trace:
        return self.world.layout(), self.world.files()

    def published(self) -> object:
        found = self.world.look()
        return [entry.device for entry in found.entries], found.counter_sets

    def unprepare(self, held: Held, instance: int) -> bool:
        error = self.world.preparers[instance].unprepare([held.ref])[held.ref.uid]
        assert not error or self.world.refused, error
        self.stuck = self.is_stuck()
        if error:  # it is half undone, and tried again by the next call or start
            self.expected.pop(self.name(held), None)
        return not error

    def check_refusal(self, held: Held, error: str, before: Trace) -> None:
        """A refusal has a reason that the test knows, and leaves no trace unless undoing is refused, too."""
        sound = held.epoch == self.world.epoch == self.world.seen
        assert not sound or self.world.refused or self.lost or self.stuck, error
        assert "internal error" not in error
        if not (self.world.refused and self.is_stuck()):
            after = self.trace()
            kept = self.records().get(held.ref.uid)
            assert kept is None or kept.phase is Phase.PREPARED
            if not self.was_prepared(before, held):
                assert leave_out_notes(after) == leave_out_notes(before), "a refusal leaves no trace"
                assert list_notes(after) <= list_notes(before), "nor a note of what was begun"
        self.stuck = self.is_stuck()

    def was_prepared(self, before: Trace, held: Held) -> bool:
        return f"state/claims/{held.ref.uid}.json" in before[1]

    def list_whole(self) -> set[str]:
        """Return the addresses of devices that claims hold as a whole."""
        found = self.world.look()
        names = {device.device for record in self.records().values() for device in record.devices}
        return {entry.accelerator.pci_address for entry in found.entries if entry.name in names and not entry.partition}

    def list_used(self) -> set[str | None]:
        """Return the UUIDs of existing partitions that claims hold."""
        names = {device.device for record in self.records().values() for device in record.devices}
        return {entry.partition.uuid for entry in self.world.look().entries if entry.partition and entry.name in names}

    def list_occupied(self, found: Inventory) -> list[tuple[str, tuple[str, int, int]]]:
        """Return what prepared claims hold: device and the memory slices that it takes.

        Those that the API server knows no more are left out: only prepare keeps others off their devices.
        """
        occupied = []
        gone = {held.ref.uid for held in self.lost.values()}
        for record in (each for uid, each in self.records().items() if uid not in gone):
            for device in record.devices:
                entry = found.find(device.device)
                if entry is not None:
                    occupied.append((device.device, extent(entry.device, found)))
            made = [step for step in record.steps if step.name == PARTITION]
            occupied += [(record.name, self.measure(*place_of(step))) for step in made]
        return occupied

    def count_left(self, found: Inventory) -> dict[tuple[str, str], int]:
        """Return the counters that are left beside allocated claims, as kube-scheduler adds them up."""
        names = {name for held in self.world.claims.values() for name in held.devices}
        left = {
            (each.name, counter): quantities.parse(value.value).rounded_up
            for each in found.counter_sets
            for counter, value in each.counters.items()
        }
        for entry in found.entries:
            if entry.name in names:
                for key, amount in takes(entry.device):
                    left[key] -= amount
        return left


def leave_out_notes(trace: Trace) -> Trace:
    """Return a trace without the vendor's notes of what was begun: old ones are cleared away by whoever meets them."""
    layout, files = trace
    return layout, {path: text for path, text in files.items() if "/begun/" not in path}


def list_notes(trace: Trace) -> set[str]:
    return {path for path in trace[1] if "/begun/" in path}


def place_of(step: Step) -> Place:
    return step.arguments["pciAddress"], step.arguments["profile"], int(step.arguments["placement"])


def takes(device: Device) -> list[tuple[tuple[str, str], int]]:
    """Return what a device takes of which counter."""
    return [
        ((each.counter_set, counter), quantities.parse(value.value).rounded_up)
        for each in device.consumes_counters
        for counter, value in each.counters.items()
    ]


def fits(device: Device, left: Mapping[tuple[str, str], int]) -> bool:
    """Say whether the counters are enough for a device."""
    return all(amount <= left[key] for key, amount in takes(device))


def extent(device: Device, found: Inventory) -> tuple[str, int, int]:
    """Return address and memory slices (from, to) of a device."""
    entry = found.find(device.name)
    assert entry is not None
    address, part = entry.accelerator.pci_address, entry.partition
    if part is None:
        return address, 0, 1 << 16
    sizes = {each.name: each.size for each in entry.accelerator.profiles}
    return address, part.placement, part.placement + (part.size or sizes[part.profile])


def overlap(one: tuple[str, int, int], other: tuple[str, int, int]) -> bool:
    return one[0] == other[0] and one[1] < other[2] and other[1] < one[2]


class SharedNode(Node):
    """The same with shares of devices: several claims on one device or partition, and steps that they share."""

    shares = "TimeSlicing"


LONG_RUN = "NODE_MACHINE_EXAMPLES" in os.environ
EXAMPLES = int(os.environ.get("NODE_MACHINE_EXAMPLES", "6"))
PROFILE = settings(
    max_examples=EXAMPLES,
    stateful_step_count=40,
    deadline=None,
    derandomize=not LONG_RUN,
    phases=[Stage.explicit, Stage.reuse, Stage.generate] + ([Stage.shrink] if LONG_RUN else []),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
TestNode = Node.TestCase
TestNode.settings = PROFILE
TestSharedNode = SharedNode.TestCase
TestSharedNode.settings = PROFILE
