"""Laws of layouts and plans, one a test."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from driver.core import slicing
from driver.core.slicing import Content, Identity, Layout
from driver.model.slices import (
    MAX_COUNTER_SETS,
    MAX_DEVICES,
    MAX_DEVICES_WITH_TAINTS_OR_COUNTERS,
    Counter,
    CounterConsumption,
    CounterSet,
    Device,
    DeviceCapacity,
    DeviceTaint,
)
from tests.fakes.slice_store import SliceStore

IDENTITY = Identity("gpu.example.com", "node-1", "uid", "node-1", {})
SETS = st.integers(0, 20).map(
    lambda count: tuple(CounterSet(name=f"set-{index}", counters={"c": Counter(value="8")}) for index in range(count))
)
TAINTS = st.sampled_from([(), (), (), (DeviceTaint(key="k", effect="NoSchedule"),)])
DRAWS = st.none() | st.none() | st.integers(0, 20)


@st.composite
def device_lists(draw: st.DrawFn) -> tuple[Device, ...]:
    """Up to 300 devices, of which a few are special; names may repeat."""
    count = draw(st.integers(0, 300))
    devices = [Device(name=f"gpu-{index}") for index in range(count)]
    for index in draw(st.lists(st.integers(0, max(count - 1, 0)), max_size=5)) if count else ():
        taints, drawn = draw(TAINTS), draw(DRAWS)
        draws = () if drawn is None else (make_draw(drawn),)
        name = draw(st.sampled_from([f"gpu-{index}", "gpu-0", "Bad_Name"]))
        devices[index] = Device(name=name, taints=taints, consumes_counters=draws)
    return tuple(devices)


def make_draw(index: int) -> CounterConsumption:
    return CounterConsumption(counter_set=f"set-{index}", counters={"c": Counter(value="1")})


def is_special(device: Device) -> bool:
    return bool(device.taints or device.consumes_counters)


def size_limit(laid_out: Layout) -> int:
    return MAX_DEVICES_WITH_TAINTS_OR_COUNTERS if any(map(is_special, laid_out.devices)) else MAX_DEVICES


@given(device_lists(), SETS)
def test_every_device_is_published_once_or_withheld_with_a_reason(
    devices: tuple[Device, ...], sets: tuple[CounterSet, ...]
) -> None:
    laid_out = slicing.layout(devices, sets)
    assert len(laid_out.devices) + len(laid_out.withheld) == len(devices)
    assert len({device.name for device in laid_out.devices}) == len(laid_out.devices)
    assert all(reason for _, reason in laid_out.withheld)


@given(device_lists(), SETS)
def test_order_is_kept(devices: tuple[Device, ...], sets: tuple[CounterSet, ...]) -> None:
    published = list(slicing.layout(devices, sets).devices)
    remaining = iter(devices)
    assert all(any(device == other for other in remaining) for device in published)


@given(device_lists(), SETS)
def test_no_slice_is_over_a_limit_or_mixed_and_there_is_at_least_one(
    devices: tuple[Device, ...], sets: tuple[CounterSet, ...]
) -> None:
    laid_out = slicing.layout(devices, sets)
    assert laid_out.contents
    for content in laid_out.contents:
        assert len(content.devices) <= size_limit(laid_out)
        assert len(content.shared_counters) <= MAX_COUNTER_SETS
        assert not (content.devices and content.shared_counters)


@given(device_lists(), SETS)
def test_counter_sets_that_are_drawn_from_are_published(
    devices: tuple[Device, ...], sets: tuple[CounterSet, ...]
) -> None:
    laid_out = slicing.layout(devices, sets)
    published = {each.name for content in laid_out.contents for each in content.shared_counters}
    drawn = {draw.counter_set for device in laid_out.devices for draw in device.consumes_counters}
    assert drawn <= published


@settings(max_examples=50)
@given(st.lists(device_lists(), min_size=1, max_size=4))
def test_after_any_sequence_one_round_is_enough_and_generations_never_fall(
    histories: list[tuple[Device, ...]],
) -> None:
    store, generation = SliceStore(), 0
    for devices in histories:
        contents = slicing.layout(devices).contents
        plan = slicing.plan(IDENTITY, contents, store.list())
        assert plan.generation >= generation
        generation = plan.generation
        store.apply(plan)
        assert slicing.plan(IDENTITY, contents, store.list()).is_empty
        assert [Content(each.spec.devices) for each in store.list()] == [Content(each.devices) for each in contents]


@given(device_lists(), st.permutations(range(4)))
def test_the_plan_does_not_depend_on_the_order_in_which_slices_are_read(
    devices: tuple[Device, ...], order: list[int]
) -> None:
    store = SliceStore()
    store.apply(slicing.plan(IDENTITY, slicing.layout(devices).contents, ()))
    published = store.list()
    shuffled = [published[index] for index in order if index < len(published)]
    shuffled += published[len(order) :]
    contents = slicing.layout([*devices[1:], Device(name="new", capacity={"m": DeviceCapacity(value="1")})]).contents
    plans = [slicing.plan(IDENTITY, contents, each) for each in (published, shuffled)]
    one, other = (msgspec.json.encode((plan.delete, plan.update, plan.create)) for plan in plans)
    assert one == other
