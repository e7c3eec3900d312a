"""Snapshots are values that keep what they know: a changed one costs what has changed."""

from __future__ import annotations

import msgspec

from driver.core.allocator import Allocated, NodeView, Snapshot, Unsatisfiable, allocate
from driver.core.allocator.devices import Device
from driver.core.allocator.selectors import evaluate, evaluate_with_lists
from driver.model.claims import ClaimStatus
from driver.model.published import Attribute, PublishedDevice, PublishedSlice
from driver.model.requests import Constraint
from driver.model.slices import Pool
from driver.model.wanted import Claim
from tests.fakes.clusters import CLASSES, DRIVER, NODE, ask, make_claim, make_slice

CLAIM = make_claim("c", ask("r", "gpu"))


def node_slice(name: str, count: int) -> PublishedSlice:
    devices = [
        PublishedDevice(name=f"{name}-{index}", attributes={"type": Attribute(string="gpu")}) for index in range(count)
    ]
    return make_slice(devices, name=name, pool=Pool(name=name, resource_slice_count=1), node_name=name)


def held(snapshot: Snapshot, name: str, node: str = "a") -> Claim:
    claim = make_claim(name, ask("r", "gpu"))
    outcome = allocate(snapshot, NodeView(node), [claim])
    assert isinstance(outcome, Allocated)
    return msgspec.structs.replace(claim, status=ClaimStatus(allocation=outcome.allocations[0]))


def device_for(snapshot: Snapshot, node: str = "a") -> str:
    outcome = allocate(snapshot, NodeView(node), [CLAIM])
    if isinstance(outcome, Unsatisfiable):
        return ""
    (result,) = outcome.allocations[0].devices.results
    return result.device


def test_claims_come_and_go() -> None:
    empty = Snapshot([node_slice("a", 2)], CLASSES)
    first = held(empty, "first")
    one = empty.with_claims(first)
    second = held(one, "second")
    full = one.with_claims(second)
    assert [device_for(each) for each in (empty, one, full)] == ["a-0", "a-1", ""]
    assert device_for(full.without_claims(first)) == "a-0"
    assert full.without_claims(first).allocated == (second,)
    fresh = Snapshot(full.slices, CLASSES, full.allocated)
    assert device_for(fresh) == ""


def test_selectors_are_asked_once_a_device_whatever_changes_elsewhere() -> None:
    asked: list[str] = []

    def ask_once(expression: str, device: Device) -> bool:
        asked.append(device.name)
        return evaluate(expression, device)

    a, b = node_slice("a", 2), node_slice("b", 1)
    snapshot = Snapshot([a, b], CLASSES, evaluate=ask_once)
    assert (device_for(snapshot), device_for(snapshot, "b")) == ("a-0", "b-0")
    assert sorted(asked) == ["a-0", "a-1", "b-0"]
    device_for(snapshot.with_claims(held(snapshot, "x")))
    later = snapshot.with_slices([a, node_slice("b", 2)])
    assert (device_for(later), device_for(later, "b")) == ("a-0", "b-0")
    assert sorted(asked) == ["a-0", "a-1", "b-0", "b-0", "b-1"], "only node b was asked again"


def test_slices_change_and_claims_stay() -> None:
    snapshot = Snapshot([node_slice("a", 1)], CLASSES)
    full = snapshot.with_claims(held(snapshot, "first"))
    assert device_for(full.with_slices([node_slice("a", 2)])) == "a-1"


def test_a_snapshot_over_another_takes_over_its_pools_only() -> None:
    slices = [node_slice("a", 1)]
    before = Snapshot(slices, CLASSES)
    pools = before.pools.gather(NodeView("a"))
    after = Snapshot(classes=CLASSES, allocated=[held(before, "first")]).over(before, slices)
    assert after.pools.gather(NodeView("a"))[0] is pools[0]
    assert device_for(after) == ""


def test_attributes_may_be_lists_where_the_snapshot_says_so() -> None:
    def with_racks(name: str, *racks: str) -> PublishedDevice:
        return PublishedDevice(name=name, attributes={"racks": Attribute(strings=racks)})

    slices = [make_slice([with_racks("g0", "a"), with_racks("g1", "b", "c"), with_racks("g2", "a", "b")])]
    claim = make_claim("c", ask("r", count=2), constraints=[Constraint(match_attribute=f"{DRIVER}/racks")])
    assert isinstance(allocate(Snapshot(slices, CLASSES), NODE, [claim]), Unsatisfiable)
    understood = Snapshot(slices, CLASSES, evaluate=evaluate_with_lists, list_attributes=True)
    outcome = allocate(understood, NODE, [claim])
    assert isinstance(outcome, Allocated)
    assert [each.device for each in outcome.allocations[0].devices.results] == ["g0", "g2"]
    chosen = make_claim("c", ask("r", selectors=[f'device.attributes["{DRIVER}"].racks.includes("c")']))
    outcome = allocate(understood, NODE, [chosen])
    assert isinstance(outcome, Allocated)
    assert outcome.allocations[0].devices.results[0].device == "g1"
