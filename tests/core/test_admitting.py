"""What another claim holds and what cannot be had beside it; the state of each accelerator."""

from __future__ import annotations

import dataclasses

import pytest

from driver.core import inventory
from driver.core.admitting import Wanted, classify, find_rival, survey
from driver.core.health import HealthState, fold
from driver.core.offering import Mode, Offer
from driver.core.states import State, Use
from driver.model import vocabulary as words
from driver.model.devices import Entry, Inventory
from driver.model.health import HealthEvent, Severity
from driver.model.passthrough import Function, Group, View
from driver.model.prepared import PreparedDevice
from driver.model.sharing import Strategy
from tests.fakes.hardware import accelerator, snapshot
from tests.fakes.partitionable import ADDRESS, carve, h100, own

WHOLE = "gpu-0000-1a-00-0"
GUEST = "vfio-0000-1a-00-0"
SMALL = f"{WHOLE}-1g-10gb-0"
OTHER = f"{WHOLE}-1g-10gb-1"
LARGE = f"{WHOLE}-2g-20gb-0"
FAR = "gpu-0000-1b-00-0"
VIEW = View(loaded=True, groups={ADDRESS: Group("7", (Function(ADDRESS, 0x030200, driver="vendor"),))})
PART = {words.MEMORY: "10Gi", words.SHARE: "10"}
FOUND = inventory.build(snapshot(h100(), accelerator("0000:1b:00.0")), None, Offer(Mode.DYNAMIC, view=VIEW))
SHARED = inventory.build(snapshot(h100()), None, Offer(Mode.DYNAMIC, shares=Strategy.MPS))


def entry(name: str, found: Inventory = FOUND) -> Entry:
    there = found.find(name)
    assert there is not None, name
    return there


def held(device: str, share_id: str | None = None, *, admin: bool = False, takes: str = "") -> PreparedDevice:
    consumed = {words.MEMORY: takes, words.SHARE: "10"} if takes else {}
    return PreparedDevice(("r",), "pool", device, share_id=share_id, admin_access=admin, consumed_capacity=consumed)


def refuses(wanted: str, *others: str) -> bool:
    return find_rival(Wanted(entry(wanted)), list(map(held, others)), FOUND) is not None


@pytest.mark.parametrize(
    ("wanted", "there", "refused"),
    [
        (WHOLE, [], False),
        (WHOLE, [WHOLE], True),
        (WHOLE, [GUEST], True),
        (GUEST, [WHOLE], True),
        (GUEST, [SMALL], True),
        (WHOLE, [SMALL], True),
        (SMALL, [WHOLE], True),
        (SMALL, [GUEST], True),
        (SMALL, [SMALL], True),
        (SMALL, [OTHER], False),
        (LARGE, [SMALL], True),
        (SMALL, [LARGE], True),
        (f"{WHOLE}-1g-10gb-me-5", [f"{WHOLE}-1g-10gb-me-6"], True),
        (f"{WHOLE}-1g-10gb-5", [f"{WHOLE}-1g-10gb-me-6"], False),
        (WHOLE, [FAR], False),
        (FAR, [SMALL, OTHER], False),
    ],
)
def test_what_excludes_what(wanted: str, there: list[str], refused: bool) -> None:
    assert refuses(wanted, *there) is refused


def test_the_rival_is_the_one_that_has_what_is_missing() -> None:
    others = [held(f"{WHOLE}-2g-20gb-4"), held(SMALL), held(f"{WHOLE}-1g-10gb-6")]
    rival = find_rival(Wanted(entry(LARGE)), others, FOUND)
    assert rival is others[1]
    assert find_rival(Wanted(entry(OTHER)), others, FOUND) is None
    assert find_rival(Wanted(entry(SMALL)), others, FOUND) is others[1]


def test_shares_of_one_partition_take_its_counters_once() -> None:
    one, other = entry(f"{WHOLE}-3g-40gb-0", SHARED), entry(f"{WHOLE}-4g-40gb-0", SHARED)
    there = [held(one.name, "a", takes="1Gi"), held(one.name, "b", takes="1Gi")]
    assert find_rival(Wanted(one, "c", {words.MEMORY: "1Gi"}), there, SHARED) is None
    assert find_rival(Wanted(entry(f"{WHOLE}-3g-40gb-4", SHARED), "c"), there, SHARED) is None
    assert find_rival(Wanted(other, "c"), there, SHARED) in there


def test_shares_of_a_whole_device_leave_no_partition_and_nothing_whole() -> None:
    whole, part = entry(WHOLE, SHARED), entry(SMALL, SHARED)
    there = [held(WHOLE, "a", takes="10Gi")]
    assert find_rival(Wanted(whole, "b", PART), there, SHARED) is None
    assert find_rival(Wanted(whole, "a", PART), there, SHARED) is there[0], "allocated twice"
    assert find_rival(Wanted(whole), there, SHARED) is there[0], "allocated before devices were shared"
    everything = {name: capacity.value for name, capacity in whole.device.capacity.items()}
    assert find_rival(Wanted(whole, "b", everything), there, SHARED) is there[0]
    assert find_rival(Wanted(part, "b"), there, SHARED) is there[0]


def test_admin_access_holds_nothing() -> None:
    assert find_rival(Wanted(entry(WHOLE)), [held(SMALL, admin=True)], FOUND) is None


@pytest.mark.parametrize(
    ("device", "wanted", "refused"),
    [
        (f"{WHOLE}-4c-8g-0", WHOLE, True),
        (f"{WHOLE}-4c-8g-0", SMALL, False),
        (WHOLE, SMALL, True),
        (GUEST, SMALL, True),
    ],
)
def test_what_is_held_and_no_longer_offered_is_known_by_its_name(
    device: str,
    wanted: str,
    refused: bool,
) -> None:
    found = dataclasses.replace(FOUND, entries=tuple(each for each in FOUND.entries if each.name != device))
    assert (find_rival(Wanted(entry(wanted)), [held(device)], found) is not None) is refused


def test_existing_partitions_are_beside_each_other_without_counters() -> None:
    found = inventory.build(snapshot(carve(h100(), ("1g.10gb", 0), ("1g.10gb", 1))))
    assert find_rival(Wanted(entry(OTHER, found)), [held(SMALL)], found) is None


def test_what_a_claim_has_is_told_by_its_device() -> None:
    assert [classify(entry(name)) for name in (WHOLE, GUEST, SMALL)] == [Use.WHOLE, Use.PASSTHROUGH, Use.PARTITION]


@pytest.mark.parametrize(
    ("there", "state"),
    [
        ([], State.FREE),
        ([held(WHOLE)], State.WHOLE),
        ([held(SMALL), held(OTHER)], State.PARTITIONED),
        ([held(GUEST)], State.PASSTHROUGH),
        ([held(WHOLE, admin=True)], State.FREE),
        ([held(WHOLE, "a", takes="10Gi")], State.SHARED),
        ([held(SMALL, "a", takes="1Gi")], State.PARTITIONED),
    ],
)
def test_the_state_of_a_device_is_what_claims_have_of_it(there: list[PreparedDevice], state: State) -> None:
    assert survey(FOUND, there) == {WHOLE: state, FAR: State.FREE}


def test_a_share_of_all_of_a_device_has_it_whole() -> None:
    everything = {name: capacity.value for name, capacity in entry(WHOLE, SHARED).device.capacity.items()}
    alone = PreparedDevice(("r",), "pool", WHOLE, share_id="a", consumed_capacity=everything)
    assert survey(SHARED, [alone]) == {WHOLE: State.WHOLE}


def test_a_device_with_a_fault_is_failing_whoever_has_it_and_a_part_of_it_is_not_all() -> None:
    fault = HealthEvent(ADDRESS, "xid-79", Severity.UNHEALTHY, "fell off the bus", 5.0)
    ill = fold(HealthState(), fault)
    assert survey(FOUND, [held(SMALL)], ill) == {WHOLE: State.FAILING, FAR: State.FREE}
    slow = fold(HealthState(), dataclasses.replace(fault, severity=Severity.DEGRADED))
    assert survey(FOUND, [held(SMALL)], slow)[WHOLE] is State.PARTITIONED
    device = carve(h100(), ("1g.10gb", 0))
    found = inventory.build(snapshot(device), None, Offer(Mode.DYNAMIC, owned=own(device, ("1g.10gb", 0))))
    part = fold(HealthState(), dataclasses.replace(fault, partition_uuid="MIG-1g.10gb-0"))
    assert survey(found, [held(SMALL)], part)[WHOLE] is State.PARTITIONED
