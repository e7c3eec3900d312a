"""Rules of the structured allocator that are easy to get wrong, one test each."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from driver.core.allocator import Allocated, InvalidClaim, Snapshot, Unsatisfiable, allocate
from driver.model.claims import Allocation, AllocationResult, ClaimStatus, DeviceAllocation
from driver.model.objects import ObjectMeta
from driver.model.published import Attribute, Capacity, PublishedDevice
from driver.model.requests import ALL, Constraint, DeviceRequest, Request
from driver.model.slices import Counter, CounterConsumption, CounterSet, Pool
from driver.model.wanted import Claim
from tests.fakes.clusters import CLASSES, DRIVER, NODE, ask, make_claim, make_slice

EVERYTHING = Request(name="all", exactly=DeviceRequest(device_class_name="any", allocation_mode=ALL))
DIFFERENT_UUIDS = Constraint(distinct_attribute=f"{DRIVER}/uuid")


def device(name: str, slots: str = "", *, is_shareable: bool = False, memory: str = "") -> PublishedDevice:
    taken = CounterConsumption(counter_set="set", counters={"slots": Counter(value=slots)})
    return PublishedDevice(
        name=name,
        attributes={"uuid": Attribute(string=name)},
        capacity={"memory": Capacity(value=memory)} if memory else {},
        consumes_counters=(taken,) if slots else (),
        allow_multiple_allocations=is_shareable,
    )


def node_with(slots: int, *devices: PublishedDevice, held: Sequence[AllocationResult] = ()) -> Snapshot:
    pool = Pool(name="pool", generation=1, resource_slice_count=2)
    counters = CounterSet(name="set", counters={"slots": Counter(value=str(slots))})
    slices = [make_slice(devices, pool=pool), make_slice((), name="counters", pool=pool, counters=[counters])]
    holder = Claim(
        metadata=ObjectMeta(name="holder", namespace="team", uid="uid-holder"),
        status=ClaimStatus(allocation=Allocation(devices=DeviceAllocation(results=tuple(held)))),
    )
    return Snapshot(slices, CLASSES, [holder])


def holding(name: str, share_id: str | None = None) -> AllocationResult:
    return AllocationResult(request="r", driver=DRIVER, pool="pool", device=name, share_id=share_id)


def is_possible(snapshot: Snapshot, *requests: Request) -> bool:
    return isinstance(allocate(snapshot, NODE, [make_claim("claim", *requests)]), Allocated)


@pytest.mark.parametrize("slots", [3, 8])
def test_shares_without_capacity_take_the_counters_of_their_device_once_together(slots: int) -> None:
    node = node_with(slots, device("gpu", "3", is_shareable=True))
    assert is_possible(node, *(ask(f"r{index}") for index in range(5)))


@pytest.mark.parametrize(("slots", "expected"), [(5, False), (6, True)])
def test_they_take_them_once_more_if_allocated_shares_say_no_capacity(slots: int, *, expected: bool) -> None:
    node = node_with(slots, device("gpu", "3", is_shareable=True), held=[holding("gpu", "share")])
    assert is_possible(node, ask("r0"), ask("r1")) is expected


@pytest.mark.parametrize(("taken", "expected"), [("2", True), ("3", False)])
def test_a_device_that_consumes_nothing_waits_for_a_pool_that_is_overdrawn(taken: str, *, expected: bool) -> None:
    node = node_with(2, device("held", taken), device("idle", "0"), held=[holding("held")])
    assert is_possible(node, ask("r")) is expected


def test_a_device_that_is_held_as_a_whole_and_in_shares_takes_its_counters_once() -> None:
    """It was published as shareable first, then as one for one claim only."""
    node = node_with(4, device("held", "3"), device("free", "1"), held=[holding("held"), holding("held", "share")])
    assert is_possible(node, ask("r"))


def test_a_device_without_counters_does_not_mind_that_the_pool_is_overdrawn() -> None:
    node = node_with(2, device("held", "3"), device("free"), held=[holding("held")])
    assert is_possible(node, ask("r"))


def test_a_broken_constraint_on_all_devices_counts_more_than_what_is_left_of_them() -> None:
    """Both stand in the way: the first request has all memory of the device, and has its uuid already."""
    node = node_with(1, device("gpu", is_shareable=True, memory="1Gi"))
    claim = make_claim("claim", ask("one"), EVERYTHING, constraints=[DIFFERENT_UUIDS])
    with pytest.raises(InvalidClaim, match="a claim constraint would not be satisfied"):
        allocate(node, NODE, [claim])


def test_without_the_constraint_all_devices_are_just_not_to_be_had() -> None:
    node = node_with(1, device("gpu", is_shareable=True, memory="1Gi"))
    assert isinstance(allocate(node, NODE, [make_claim("claim", ask("one"), EVERYTHING)]), Unsatisfiable)


def test_a_constraint_on_devices_that_lack_counters_is_not_looked_at() -> None:
    node = node_with(1, device("gpu", "1", is_shareable=True, memory="1Gi"), device("hog", "1"), held=[holding("hog")])
    claim = make_claim("claim", EVERYTHING, constraints=[DIFFERENT_UUIDS])
    assert isinstance(allocate(node, NODE, [claim]), Unsatisfiable)
