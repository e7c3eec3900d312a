"""The stock over the allocator: only fenced pools, what is held is not given again, and attributes as CEL has them."""

from __future__ import annotations

import msgspec
import pytest

from driver.core import fencing
from driver.core.deciding.stocks import DeviceStock
from driver.core.deciding.world import SHARED, Chosen, Member, Refused
from driver.model.claims import Allocation, AllocationResult, ClaimStatus, DeviceAllocation
from driver.model.objects import ObjectMeta
from driver.model.policies import Policy, Preference
from driver.model.published import Attribute, PublishedDevice, PublishedSlice, PublishedSpec
from driver.model.requests import (
    CelSelector,
    ClaimSpec,
    DeviceClass,
    DeviceRequest,
    DevicesSpec,
    Request,
    Selector,
)
from driver.model.slices import DeviceTaint, Pool
from driver.model.wanted import Claim
from driver.model.workloads import ClusterNode

DRIVER = "gpu.accel-dra.dev"
CLASSES = {"any": DeviceClass(metadata=ObjectMeta(name="any"))}
NODES = {name: ClusterNode(metadata=ObjectMeta(name=name)) for name in ("a", "b")}
BROKEN = DeviceTaint(key="accel-dra.dev/unhealthy", effect="NoSchedule")


def device(name: str, *taints: DeviceTaint, fenced: bool = True, **attributes: Attribute) -> PublishedDevice:
    named = {f"accel-dra.dev/{key}": value for key, value in attributes.items()}
    return PublishedDevice(name=name, attributes=named, taints=(*((fencing.FENCE,) if fenced else ()), *taints))


def pool(node: str, *devices: PublishedDevice, generation: int = 1, slices: int = 1, index: int = 0) -> PublishedSlice:
    spec = PublishedSpec(
        driver=DRIVER,
        pool=Pool(name=node, generation=generation, resource_slice_count=slices),
        node_name=node,
        devices=devices,
    )
    return PublishedSlice(metadata=ObjectMeta(name=f"{index}-{node}-{generation}"), spec=spec)


def claim(name: str, count: int = 1, *selectors: str, class_name: str = "any") -> Claim:
    request = DeviceRequest(
        device_class_name=class_name,
        count=count,
        selectors=tuple(Selector(cel=CelSelector(expression=each)) for each in selectors),
    )
    spec = ClaimSpec(devices=DevicesSpec(requests=(Request(name="r", exactly=request),)))
    return Claim(metadata=ObjectMeta(name=name, namespace="ns", uid=f"uid-{name}"), spec=spec)


def ask(stock: DeviceStock, *claims: Claim) -> Chosen | Refused:
    stock.put_nodes(NODES)
    return stock.choose(Member(claims, tuple(Policy() for _ in claims)), NODES)


def get(stock: DeviceStock, wanted: Claim) -> tuple[str, list[str], Allocation]:
    answer = ask(stock, wanted)
    assert isinstance(answer, Chosen)
    (allocation,) = answer.allocations
    return answer.node, [each.device for each in allocation.devices.results], allocation


def test_only_pools_in_which_every_device_is_fenced_are_ours() -> None:
    open_pool = pool("a", device("gpu-0", fenced=False))
    mixed = pool("a", device("gpu-0"), device("gpu-1", fenced=False))
    for slices in ((open_pool,), (mixed,), (pool("a"),), ()):
        answer = ask(DeviceStock(slices, CLASSES), claim("c"))
        assert isinstance(answer, Refused)
        assert "no pool belongs to the accel-dra controller" in str(answer.message)
    stock = DeviceStock((open_pool, pool("b", device("gpu-0"))), CLASSES)
    assert get(stock, claim("c"))[:2] == ("b", ["gpu-0"])


def test_a_pool_of_which_one_slice_is_not_fenced_yet_is_left_alone() -> None:
    slices = (
        pool("a", device("gpu-0"), slices=2),
        pool("a", device("gpu-1", fenced=False), slices=2, index=1),
    )
    assert isinstance(ask(DeviceStock(slices, CLASSES), claim("c")), Refused)


def test_claims_need_no_toleration_for_the_fence_and_one_for_every_other_taint() -> None:
    stock = DeviceStock((pool("a", device("bad", BROKEN), device("good")),), CLASSES)
    assert get(stock, claim("c"))[1] == ["good"]
    assert isinstance(ask(stock, claim("c", 2)), Refused)


def test_what_is_held_is_not_given_again_until_it_is_given_back() -> None:
    stock = DeviceStock((pool("a", device("gpu-0"), device("gpu-1")),), CLASSES)
    first, second = claim("first"), claim("second")
    allocation = get(stock, first)[2]
    stock.take(first, allocation)
    assert get(stock, second)[1] == ["gpu-1"]
    stock.take(second, get(stock, second)[2])
    assert isinstance(ask(stock, claim("third")), Refused)
    stock.give_back(first)
    stock.give_back(first)
    assert get(stock, claim("third"))[1] == ["gpu-0"]


def test_hold_forgets_what_is_not_listed() -> None:
    stock = DeviceStock((pool("a", device("gpu-0")),), CLASSES)
    stock.take(claim("guess"), get(stock, claim("guess"))[2])
    stock.hold([claim("unallocated")], NODES)
    assert get(stock, claim("c"))[1] == ["gpu-0"]


def test_an_allocation_is_ours_if_all_of_its_pools_are() -> None:
    ours = DeviceStock((pool("a", device("gpu-0")), pool("b", device("gpu-0", fenced=False))), CLASSES)
    open_stock = DeviceStock((pool("b", device("gpu-0")),), CLASSES)
    assert ours.owns(get(ours, claim("c"))[2])
    assert not ours.owns(get(open_stock, claim("c"))[2])


def test_a_selector_that_fails_is_refused_with_the_one_that_works() -> None:
    stock = DeviceStock((pool("a", device("gpu-0")),), CLASSES)
    answer = ask(stock, claim("c", 1, 'device.attributes["accel-dra.dev"].numa > 1'))
    assert isinstance(answer, Refused)
    assert "gpu.accel-dra.dev/a/gpu-0 has no attribute accel-dra.dev/numa" in str(answer.message)
    assert 'this would work: `has(device.attributes["accel-dra.dev"].numa) &&' in str(answer.message)


def test_a_claim_that_no_node_can_help_is_refused_with_its_reason() -> None:
    stock = DeviceStock((pool("a", device("gpu-0")),), CLASSES)
    answer = ask(stock, claim("c", class_name="none"))
    assert isinstance(answer, Refused)
    assert "device class none does not exist" in str(answer.message)


def test_free_devices_are_counted_by_node_and_value() -> None:
    rack = {name: Attribute(string=name) for name in ("x", "y")}
    slices = (
        pool("a", device("gpu-0", rack=rack["x"]), device("gpu-1", rack=rack["y"]), generation=2),
        pool("a", device("old", rack=rack["x"]), generation=1),
        pool("b", device("gpu-0", rack=rack["x"]), device("gpu-1")),
    )
    stock = DeviceStock(slices, CLASSES)
    assert stock.count_free() == {"": {"a": 2, "b": 2}}
    assert stock.count_free("accel-dra.dev/rack") == {"x": {"a": 1, "b": 1}, "y": {"a": 1}}
    assert stock.count_free("accel-dra.dev/none") == {}
    allocation = get(stock, claim("c"))[2]
    stock.take(claim("c"), allocation)
    assert stock.count_free("accel-dra.dev/rack")["x"] == {"a": 0, "b": 1}
    assert stock.values(allocation, "accel-dra.dev/rack") == {"x"}


@pytest.mark.parametrize(
    ("attribute", "text"),
    [
        (Attribute(string='a"b\\c é'), 'a"b\\c é'),
        (Attribute(int_=-3), "-3"),
        (Attribute(bool_=False), "false"),
        (Attribute(version="1.2.3-rc.1"), "1.2.3-rc.1"),
    ],
)
def test_devices_are_found_again_by_the_value_of_their_domain(attribute: Attribute, text: str) -> None:
    other = pool("b", device("gpu-0", type=Attribute(string="gpu"), rack=Attribute(string="other")))
    ours = pool("a", device("gpu-0", type=Attribute(string="gpu"), rack=attribute))
    stock = DeviceStock((other, ours), CLASSES)
    name = "accel-dra.dev/rack"
    assert stock.count_free(name)[text] == {"a": 1}
    stock.put_nodes(NODES)
    chosen = stock.choose(Member((claim("c"),), (Policy(),), within=(name, text)), NODES)
    assert isinstance(chosen, Chosen)
    assert (chosen.node, stock.values(chosen.allocations[0], name)) == ("a", frozenset({text}))


def test_a_domain_that_is_too_small_is_explained() -> None:
    machines = (pool(node, device("gpu-0", type=Attribute(string="gpu"), rack=Attribute(string=node))) for node in "ab")
    stock = DeviceStock(tuple(machines), CLASSES)
    stock.put_nodes(NODES)
    refused = stock.choose(Member((claim("c", 2),), (Policy(),), within=("accel-dra.dev/rack", "a")), NODES)
    assert isinstance(refused, Refused)
    assert "no node can give request r 2 devices" in str(refused.message)


def test_slices_and_nodes_may_change() -> None:
    stock = DeviceStock((pool("a", device("gpu-0")),), CLASSES)
    assert get(stock, claim("c"))[0] == "a"
    stock.put_devices((pool("b", device("gpu-0")),), CLASSES)
    assert get(stock, claim("c"))[0] == "b"
    stock.put_nodes({})
    assert isinstance(stock.choose(Member((claim("c"),), (Policy(),)), {}), Refused)
    stock.put_devices((), CLASSES)
    assert isinstance(ask(stock, claim("c")), Refused)


def test_a_wish_that_can_be_fulfilled_elsewhere_wins_over_the_first_node() -> None:
    link = {name: Attribute(string=name) for name in ("x", "y")}
    apart = pool("a", device("gpu-0", interconnectDomain=link["x"]), device("gpu-1", interconnectDomain=link["y"]))
    together = pool("b", *(device(f"gpu-{index}", interconnectDomain=link["x"]) for index in range(2)))
    assert get(DeviceStock((apart, together), CLASSES), claim("c", 2))[0] == "b"
    assert get(DeviceStock((apart,), CLASSES), claim("c", 2))[0] == "a", "a preference is given up"
    required = Member((claim("c", 2),), (Policy(interconnect=Preference.REQUIRE),))
    stock = DeviceStock((apart,), CLASSES)
    stock.put_nodes(NODES)
    refused = stock.choose(required, NODES)
    assert isinstance(refused, Refused)
    assert "free devices are in two interconnect domains (1 of x, 1 of y)" in str(refused.message)


def test_devices_that_several_nodes_reach_count_for_all_kinds_together_only() -> None:
    spec = PublishedSpec(
        driver=DRIVER,
        pool=Pool(name="fabric", generation=1, resource_slice_count=1),
        all_nodes=True,
        devices=(device("far", fabricDomain=Attribute(string="x")),),
    )
    wide = PublishedSlice(metadata=ObjectMeta(name="wide"), spec=spec)
    near = pool("a", device("gpu-0", fabricDomain=Attribute(string="x")), device("nic-0"))
    stock = DeviceStock((near, wide), CLASSES)
    assert stock.count_free() == {"": {"a": 2, SHARED: 1}}
    assert stock.count_free("accel-dra.dev/fabricDomain") == {"x": {"a": 1}}


def test_all_who_are_refused_while_nothing_changes_look_at_one_snapshot() -> None:
    stock = DeviceStock((pool("a", device("gpu-0")),), CLASSES)
    first, second = ask(stock, claim("first", 2)), ask(stock, claim("second", 3))
    assert isinstance(first, Refused)
    assert isinstance(second, Refused)
    taken = claim("taken")
    stock.take(taken, get(stock, taken)[2])
    third = ask(stock, claim("third", 1))
    assert isinstance(third, Refused)
    # What is said is what was so when the claim was refused.
    assert "ns/taken" not in str(first.message)
    assert "ns/taken" in str(third.message)


def test_a_pod_that_has_a_device_of_a_foreign_pool_gets_the_rest_from_ours() -> None:
    stock = DeviceStock((pool("a", device("gpu-0")),), CLASSES)
    stock.put_nodes(NODES)
    result = AllocationResult(request="r", driver="nic.example.com", pool="a-nics", device="nic-0")
    allocation = Allocation(devices=DeviceAllocation(results=(result,)))
    card = claim("card")
    card = msgspec.structs.replace(card, status=ClaimStatus(allocation=allocation))
    answer = stock.choose(Member((claim("c"),), (Policy(),), None, (card,)), NODES)
    assert isinstance(answer, Chosen)
    assert answer.node == "a"
