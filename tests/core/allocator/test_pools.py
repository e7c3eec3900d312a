"""Which devices a node sees, in which order, and which pools are unfit for it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from driver.core.allocator import NodeView
from driver.core.allocator.pools import DevicePool, Fault, PoolIndex
from driver.model.objects import ObjectMeta
from driver.model.published import PublishedDevice, PublishedSlice, PublishedSpec
from driver.model.selection import NodeSelector, Requirement, Term
from driver.model.slices import Counter, CounterConsumption, CounterSet, Pool

A, B = NodeView("a", {"zone": "one"}), NodeView("b", {"zone": "two"})
ZONE_ONE = NodeSelector(
    node_selector_terms=(Term(match_expressions=(Requirement(key="zone", operator="In", values=("one",)),)),)
)


def part(
    name: str,
    *devices: str | PublishedDevice,
    pool: str = "pool",
    driver: str = "d",
    generation: int = 1,
    count: int = 1,
    node: str = "",
    **spec: object,
) -> PublishedSlice:
    listed = tuple(each if isinstance(each, PublishedDevice) else PublishedDevice(name=each) for each in devices)
    base = PublishedSpec(
        driver=driver,
        pool=Pool(name=pool, generation=generation, resource_slice_count=count),
        node_name=node,
        devices=listed,
    )
    return PublishedSlice(metadata=ObjectMeta(name=name), spec=msgspec.structs.replace(base, **spec))


def counters(name: str, *sets: str, **spec: object) -> PublishedSlice:
    filled = tuple(CounterSet(name=each, counters={"c": Counter(value="4")}) for each in sets)
    return part(name, **spec, shared_counters=filled)  # type: ignore[arg-type]  # keyword arguments of a helper


def taking(name: str, counter_set: str, counter: str = "c") -> PublishedDevice:
    consumption = CounterConsumption(counter_set=counter_set, counters={counter: Counter(value="1")})
    return PublishedDevice(name=name, consumes_counters=(consumption,))


def see(slices: Sequence[PublishedSlice], node: NodeView = A) -> tuple[DevicePool, ...]:
    return PoolIndex(slices).gather(node)


def names(slices: Sequence[PublishedSlice], node: NodeView = A) -> list[str]:
    return [device.name for pool in see(slices, node) for device in pool.devices]


def faults(slices: Sequence[PublishedSlice], node: NodeView = A) -> list[Fault | None]:
    return [pool.fault for pool in see(slices, node)]


def test_the_order_is_driver_pool_slice_name_list() -> None:
    slices = [
        part("z", "1", driver="e", node="a"),
        part("s2", "4", "3", pool="pool-2", count=2, node="a"),
        part("s1", "2", pool="pool-2", count=2, node="a"),
        part("s", "0", pool="pool-10", node="a"),
    ]
    assert names(slices) == ["0", "2", "4", "3", "1"], "pool-10 is before pool-2: names are texts"


def test_pools_with_binding_conditions_come_last() -> None:
    bound = PublishedDevice(name="bound", binding_conditions=("ready",), binding_failure_conditions=("failed",))
    assert names([part("s", bound, "free", pool="a", node="a"), part("t", "other", pool="b", node="a")]) == [
        "other",
        "bound",
        "free",
    ]


def test_nodes_are_chosen_by_name_by_selector_or_not_at_all() -> None:
    slices = [
        part("mine", "local", pool="p1", node="a"),
        part("zone", "zoned", pool="p2", node_selector=ZONE_ONE),
        part("all", "everywhere", pool="p3", all_nodes=True),
        part("future", "unknown", pool="p4"),
    ]
    assert names(slices) == ["local", "zoned", "everywhere"]
    assert names(slices, B) == ["everywhere"]


def test_devices_may_choose_nodes_themselves() -> None:
    devices = (
        PublishedDevice(name="mine", node_name="a"),
        PublishedDevice(name="zoned", node_selector=ZONE_ONE),
        PublishedDevice(name="all", all_nodes=True),
        PublishedDevice(name="none"),
    )
    slices = [part("s", *devices, per_device_node_selection=True)]
    for node, reached in ((A, {"mine", "zoned", "all"}), (B, {"all"})):
        (pool,) = see(slices, node)
        assert {each.name for each in pool.devices if each not in pool.unreached} == reached
    assert see([part("s", devices[0], per_device_node_selection=True)], B) == (), "no device for this node at all"


def test_only_the_newest_generation_counts() -> None:
    slices = [part("old", "x", node="a"), part("new", "y", generation=2, node="a"), part("older", "z", node="a")]
    assert names(slices) == ["y"]


def test_a_complete_old_generation_stays_in_use_while_only_another_node_has_the_new_one() -> None:
    slices = [part("old", "x", node="a"), part("new", "y", generation=2, node="b")]
    assert names(slices) == ["x"]
    assert names(slices, B) == ["y"]


def test_an_incomplete_old_generation_gives_way_to_a_new_one_on_another_node() -> None:
    slices = [part("old", "x", node="a", count=2), part("new", "y", generation=2, node="b")]
    assert see(slices) == ()
    assert PoolIndex(slices).find_replaced(A) == [("d", "pool")]
    assert PoolIndex(slices).find_replaced(B) == []


def test_slices_that_are_missing_or_too_many_make_a_pool_incomplete() -> None:
    assert faults([part("s", "x", node="a", count=2)]) == [Fault.INCOMPLETE]
    assert faults([part("s", "x", node="a"), part("t", "y", node="a")]) == [Fault.INCOMPLETE]


def test_slices_for_other_nodes_complete_a_pool() -> None:
    slices = [part("s", "x", node="a", count=2), part("t", "y", node="b", count=2)]
    assert (names(slices), names(slices, B)) == (["x"], ["y"])


def test_a_name_that_occurs_twice_makes_a_pool_invalid_only_for_the_node_that_sees_both() -> None:
    twice = [part("s", "x", node="a", count=2), part("t", "x", node="a", count=2)]
    assert faults(twice) == [Fault.INVALID]
    apart = [part("s", "x", node="a", count=2), part("t", "x", node="b", count=2)]
    assert (names(apart), names(apart, B)) == (["x"], ["x"])


def test_counters_must_exist_on_every_node_of_the_pool() -> None:
    good = [part("s", taking("x", "set"), node="a", count=2), counters("c", "set", node="a", count=2)]
    assert names(good) == ["x"]
    for bad in (taking("y", "none"), taking("y", "set", "none")):
        slices = [
            part("s", "x", node="a", count=3),
            part("t", bad, node="b", count=3),
            counters("c", "set", node="a", count=3),
        ]
        assert faults(slices) == [Fault.INVALID]


def test_a_counter_set_that_is_defined_twice_makes_a_pool_invalid_for_every_node() -> None:
    slices = [
        part("s", "x", node="a", count=3),
        counters("c1", "set", node="a", count=3),
        counters("c2", "set", node="a", count=3),
    ]
    assert faults(slices) == [Fault.INVALID]
    assert faults(slices, B) == [Fault.INVALID], "slices with counters are looked at for every node"


def test_an_incomplete_pool_with_counters_is_noticed_on_other_nodes() -> None:
    slices = [counters("c", "set", node="a", count=2), part("mine", "y", pool="other", node="b")]
    assert faults(slices, B) == [None, Fault.INCOMPLETE]
    whole = [*slices, part("s", "x", node="a", count=2)]
    assert names(whole, B) == ["y"]


def test_a_counter_that_is_no_quantity_makes_its_pool_invalid_and_no_other() -> None:
    broken = CounterSet(name="set", counters={"c": Counter(value="many")})
    slices = [part("c", node="a", shared_counters=(broken,)), part("s", "x", pool="good", node="a")]
    assert faults(slices) == [None, Fault.INVALID]


def test_what_several_nodes_see_alike_is_compiled_once() -> None:
    index = PoolIndex([part("s", "x", all_nodes=True)])
    assert index.gather(A)[0] is index.gather(B)[0]


def test_pools_whose_slices_are_the_same_objects_stay_compiled() -> None:
    one, two = part("s", "x", pool="p1", node="a"), part("t", "y", pool="p2", node="a")
    before = PoolIndex([one, two])
    after = before.updated([one, part("t", "z", pool="p2", node="a", generation=2)])
    assert before.gather(A)[0] is after.gather(A)[0]
    assert [device.name for pool in after.gather(A) for device in pool.devices] == ["x", "z"]
    assert [device.name for pool in before.gather(A) for device in pool.devices] == ["x", "y"], "values do not change"


def test_labels_that_change_are_seen() -> None:
    index = PoolIndex([part("zone", "zoned", node_selector=ZONE_ONE)])
    assert index.gather(NodeView("n", {"zone": "one"})) != ()
    assert index.gather(NodeView("n", {"zone": "two"})) == ()
