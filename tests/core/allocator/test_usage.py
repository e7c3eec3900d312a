"""What claims hold, added and removed one by one, is what is left of counters and shares."""

from __future__ import annotations

from driver.core.allocator import NodeView
from driver.core.allocator.pools import PoolIndex
from driver.core.allocator.usage import Usage
from driver.model.claims import Allocation, AllocationResult, ClaimStatus, DeviceAllocation
from driver.model.objects import ObjectMeta
from driver.model.published import PublishedDevice
from driver.model.quantities import NANO
from driver.model.slices import Counter, CounterConsumption, CounterSet, Pool
from driver.model.wanted import Claim
from tests.fakes.clusters import DRIVER, make_slice

KEY = (DRIVER, "pool")
POOL = Pool(name="pool", generation=1, resource_slice_count=2)
COUNTERS = CounterSet(name="set", counters={"slices": Counter(value="7"), "memory": Counter(value="40Gi")})


def taking(name: str, **amounts: str) -> PublishedDevice:
    counters = {key: Counter(value=value) for key, value in amounts.items()}
    return PublishedDevice(name=name, consumes_counters=(CounterConsumption(counter_set="set", counters=counters),))


SLICES = [
    make_slice(
        [taking("one", slices="1"), taking("three", slices="3", memory="20Gi"), taking("zero", slices="0")], pool=POOL
    ),
    make_slice((), name="counters", pool=POOL, counters=[COUNTERS]),
]
GENERATION = PoolIndex(SLICES).gather(NodeView("node-1"))[0].generation


def claim(name: str, *results: AllocationResult) -> Claim:
    status = ClaimStatus(allocation=Allocation(devices=DeviceAllocation(results=results)))
    return Claim(metadata=ObjectMeta(name=name, namespace="team"), status=status)


def whole(device: str, *, admin: bool = False) -> AllocationResult:
    return AllocationResult(request="r", driver=DRIVER, pool="pool", device=device, admin_access=admin or None)


def share(device: str, number: int, **consumed: str) -> AllocationResult:
    return AllocationResult(
        request="r", driver=DRIVER, pool="pool", device=device, share_id=str(number), consumed_capacity=consumed
    )


def slices_left(usage: Usage) -> int:
    return usage.of_pool(KEY).free(GENERATION)[0] // NANO


def test_nothing_is_held_at_first() -> None:
    usage = Usage()
    assert slices_left(usage) == 7
    assert not usage.of_pool(KEY).holds("one")
    assert Usage.of([Claim(metadata=ObjectMeta(name="pending"))]).of_pool(KEY).whole == {}


def test_devices_take_their_counters_and_give_them_back() -> None:
    first, second = claim("first", whole("one")), claim("second", whole("three"), whole("zero"))
    usage = Usage().adding(first)
    assert slices_left(usage) == 6
    more = usage.adding(second)
    assert (slices_left(more), slices_left(usage)) == (3, 6), "a usage is a value"
    assert more.of_pool(KEY).whole == {"one": ("team/first",), "three": ("team/second",), "zero": ("team/second",)}
    assert slices_left(more.removing(first)) == 4
    assert slices_left(more.removing(first, second)) == 7
    assert more.removing(first, second).of_pool(KEY).whole == {}


def test_what_is_remembered_is_what_is_counted_anew() -> None:
    claims = [claim("first", whole("one")), claim("second", whole("three"))]
    step_by_step = Usage()
    for each in claims:
        slices_left(step_by_step)
        step_by_step = step_by_step.adding(each)
    assert step_by_step.of_pool(KEY).free(GENERATION) == Usage.of(claims).of_pool(KEY).free(GENERATION)


def test_admin_access_holds_nothing() -> None:
    assert Usage.of([claim("admin", whole("one", admin=True))]).of_pool(KEY).whole == {}


def test_a_device_that_is_held_twice_takes_its_counters_once() -> None:
    one, two = claim("first", whole("one")), claim("second", whole("one"))
    usage = Usage().adding(one)
    assert slices_left(usage) == 6
    usage = usage.adding(two)
    assert slices_left(usage) == 6
    assert usage.of_pool(KEY).whole == {"one": ("team/first", "team/second")}
    assert slices_left(usage.removing(one)) == 6


def test_shares_add_up_and_take_counters_once() -> None:
    one, two = claim("first", share("three", 1, memory="4Gi")), claim("second", share("three", 2, memory="8Gi"))
    usage = Usage().adding(one)
    assert slices_left(usage) == 4
    usage = usage.adding(two)
    held = usage.of_pool(KEY).shared["three"]
    assert (slices_left(usage), held.holders, held.counted) == (4, ("team/first", "team/second"), 2)
    assert held.consumed == {"memory": 12 * 2**30 * NANO}
    assert usage.removing(one).of_pool(KEY).shared["three"].consumed == {"memory": 8 * 2**30 * NANO}
    assert slices_left(usage.removing(one, two)) == 7


def test_devices_that_are_not_published_any_more_take_nothing() -> None:
    assert slices_left(Usage.of([claim("old", whole("gone"))])) == 7


def test_too_much_given_away_is_below_zero() -> None:
    doubled = make_slice([taking("big", slices="9")], pool=POOL)
    generation = PoolIndex([doubled, SLICES[1]]).gather(NodeView("node-1"))[0].generation
    assert Usage.of([claim("c", whole("big"))]).of_pool(KEY).free(generation)[0] == -2 * NANO


def test_what_was_never_added_can_be_removed_without_harm() -> None:
    usage = Usage.of([claim("first", whole("one"))])
    assert slices_left(usage.removing(claim("other", whole("three"), share("one", 3)))) == 6
