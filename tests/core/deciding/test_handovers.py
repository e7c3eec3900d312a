"""Pools that change hands are left alone for a while."""

from __future__ import annotations

from driver.core import fencing
from driver.core.deciding.handovers import Handovers
from driver.model.objects import ObjectMeta
from driver.model.published import PublishedDevice, PublishedSlice, PublishedSpec
from driver.model.slices import Pool


def publish(node: str, *fenced: bool) -> PublishedSlice:
    devices = tuple(
        PublishedDevice(name=f"gpu-{index}", taints=(fencing.FENCE,) if each else ())
        for index, each in enumerate(fenced)
    )
    pool = Pool(name=node, generation=1, resource_slice_count=1)
    spec = PublishedSpec(driver="d", pool=pool, node_name=node, devices=devices)
    return PublishedSlice(metadata=ObjectMeta(name=node), spec=spec)


def names(slices: list[PublishedSlice]) -> list[str]:
    return [each.metadata.name for each in slices]


def test_a_pool_that_is_fenced_from_the_start_is_taken_at_once() -> None:
    assert names(Handovers(10).leave_out([publish("a", True)], 0.0)) == ["a"]


def test_a_pool_whose_fence_has_come_is_left_alone_for_the_delay() -> None:
    handovers = Handovers(10)
    handovers.leave_out([publish("a", False), publish("b", True)], 0.0)
    assert names(handovers.leave_out([publish("a", True), publish("b", True)], 5.0)) == ["b"]
    assert handovers.due_in(6.0) == 9.0
    assert not handovers.is_due(14.9)
    assert handovers.is_due(15.0)
    assert names(handovers.leave_out([publish("a", True), publish("b", True)], 15.0)) == ["a", "b"]
    assert handovers.due_in(15.0) is None


def test_a_pool_that_is_half_fenced_has_not_changed_hands_yet() -> None:
    handovers = Handovers(10)
    handovers.leave_out([publish("a", True, False)], 0.0)
    handovers.leave_out([publish("a", True, True)], 100.0)
    assert handovers.due_in(100.0) == 10.0


def test_pools_of_kube_scheduler_are_nothing_to_wait_for() -> None:
    handovers = Handovers(10)
    for now in (0.0, 100.0):
        assert names(handovers.leave_out([publish("a", False)], now)) == ["a"]
        assert handovers.due_in(now) is None


def test_a_pool_that_goes_back_or_is_gone_is_forgotten() -> None:
    handovers = Handovers(10)
    handovers.leave_out([publish("a", False), publish("b", False)], 0.0)
    handovers.leave_out([publish("a", True), publish("b", True)], 1.0)
    handovers.leave_out([publish("a", False)], 2.0)
    assert handovers.due_in(2.0) is None
