"""Semantic equality of devices, as Kubernetes sees it."""

from __future__ import annotations

import pytest

from driver.core import comparing
from driver.model.slices import (
    CapacityPolicy,
    CapacityRange,
    Counter,
    CounterConsumption,
    CounterSet,
    Device,
    DeviceAttribute,
    DeviceCapacity,
    DeviceTaint,
)


def taint(time: str | None = None, **fields: str) -> DeviceTaint:
    return DeviceTaint(**{"key": "k", "effect": "NoSchedule", "time_added": time, **fields})  # type: ignore[arg-type]


def draw(counter_set: str, value: str) -> CounterConsumption:
    return CounterConsumption(counter_set=counter_set, counters={"c": Counter(value=value)})


def shared_out(default: str = "80Gi", low: str = "64Mi", step: str | None = "1Mi") -> DeviceCapacity:
    policy = CapacityPolicy(default=default, valid_range=CapacityRange(min=low, step=step))
    return DeviceCapacity(value="80Gi", request_policy=policy)


def one_of(*values: str) -> DeviceCapacity:
    return DeviceCapacity(value="8", request_policy=CapacityPolicy(default="1", valid_values=values))


ZERO = DeviceAttribute(int_=0)
DRAWS = (draw("s", "1"), draw("t", "1"))


@pytest.mark.parametrize(
    ("one", "other", "differences"),
    [
        ({}, {"name": "b"}, ("name",)),
        ({"attributes": {"x": ZERO}}, {}, ("attributes",)),
        ({"attributes": {"x": ZERO}}, {"attributes": {"x": DeviceAttribute(bool_=False)}}, ("attributes",)),
        ({"attributes": {"x": ZERO}}, {"attributes": {"x": DeviceAttribute(string="0")}}, ("attributes",)),
        ({"capacity": {"m": DeviceCapacity(value="1024Mi")}}, {"capacity": {"m": DeviceCapacity(value="1Gi")}}, ()),
        ({"capacity": {"m": DeviceCapacity(value="1")}}, {"capacity": {"m": DeviceCapacity(value="2")}}, ("capacity",)),
        ({"capacity": {"m": DeviceCapacity(value="1")}}, {"capacity": {"n": DeviceCapacity(value="1")}}, ("capacity",)),
        ({"capacity": {"m": DeviceCapacity(value="?")}}, {"capacity": {"m": DeviceCapacity(value="!")}}, ("capacity",)),
        ({"consumes_counters": (draw("s", "1000m"),)}, {"consumes_counters": (draw("s", "1"),)}, ()),
        ({"consumes_counters": (draw("s", "1"),)}, {"consumes_counters": (draw("t", "1"),)}, ("consumesCounters",)),
        ({"consumes_counters": DRAWS}, {"consumes_counters": DRAWS[::-1]}, ("consumesCounters",)),
        ({"taints": (taint(),)}, {"taints": (taint("2026-01-01T00:00:00Z"),)}, ()),
        ({"taints": (taint("2026-01-01T00:00:00.9Z"),)}, {"taints": (taint("2026-01-01T00:00:00Z"),)}, ()),
        ({"taints": (taint("2026-01-01T00:00:01Z"),)}, {"taints": (taint("2026-01-01T00:00:00Z"),)}, ()),
        ({"taints": (taint("2026-01-01T00:00:02Z"),)}, {"taints": (taint("2026-01-01T00:00:00Z"),)}, ("taints",)),
        ({"taints": (taint("2026-01-01T01:00:00+01:00"),)}, {"taints": (taint("2026-01-01T00:00:00Z"),)}, ()),
        ({"taints": (taint("nonsense"),)}, {"taints": (taint("2026-01-01T00:00:00Z"),)}, ("taints",)),
        ({"taints": (taint(),)}, {"taints": (taint(effect="NoExecute"),)}, ("taints",)),
        ({"taints": (taint(),)}, {"taints": (taint(value="x"),)}, ("taints",)),
        ({"taints": (taint(),)}, {"taints": ()}, ("taints",)),
        ({"taints": (taint(),)}, {"attributes": {"x": ZERO}}, ("attributes", "taints")),
        ({"allow_multiple_allocations": True}, {}, ("allowMultipleAllocations",)),
        ({"capacity": {"m": shared_out()}}, {"capacity": {"m": DeviceCapacity(value="80Gi")}}, ("capacity",)),
        ({"capacity": {"m": shared_out()}}, {"capacity": {"m": shared_out(default="81920Mi", low="65536Ki")}}, ()),
        ({"capacity": {"m": shared_out()}}, {"capacity": {"m": shared_out(default="79Gi")}}, ("capacity",)),
        ({"capacity": {"m": shared_out()}}, {"capacity": {"m": shared_out(low="1Gi")}}, ("capacity",)),
        ({"capacity": {"m": shared_out(step=None)}}, {"capacity": {"m": shared_out()}}, ("capacity",)),
        ({"capacity": {"m": one_of("1", "2")}}, {"capacity": {"m": one_of("1000m", "2")}}, ()),
        ({"capacity": {"m": one_of("1", "2")}}, {"capacity": {"m": one_of("1", "3")}}, ("capacity",)),
        ({"capacity": {"m": one_of("1", "2")}}, {"capacity": {"m": one_of("1")}}, ("capacity",)),
        ({"capacity": {"m": one_of("1")}}, {"capacity": {"m": one_of()}}, ("capacity",)),
    ],
)
def test_differences_are_found_and_sameness_is_seen(
    one: dict[str, object], other: dict[str, object], differences: tuple[str, ...]
) -> None:
    some, others = (Device(**{"name": "a", **fields}) for fields in (one, other))  # type: ignore[arg-type]
    assert comparing.find_differences(some, others) == differences
    assert comparing.find_differences(others, some) == differences
    assert comparing.is_same_device(some, others) == (not differences)


def test_the_order_of_devices_and_counter_sets_matters() -> None:
    devices = [Device(name="a"), Device(name="b")]
    assert comparing.is_same_devices(devices, list(devices))
    assert not comparing.is_same_devices(devices, devices[::-1])
    assert not comparing.is_same_devices(devices, devices[:1])
    sets = [CounterSet(name=name, counters={"c": Counter(value="1k")}) for name in "ab"]
    same = [CounterSet(name=name, counters={"c": Counter(value="1000")}) for name in "ab"]
    assert comparing.is_same_counter_sets(sets, same)
    assert not comparing.is_same_counter_sets(sets, same[::-1])
    assert not comparing.is_same_counter_sets(sets, same[:1])


def test_times_are_kept_only_for_taints_that_stay() -> None:
    stored = Device(name="a", taints=(taint("2026-01-01T00:00:00Z"), taint("2026-01-02T00:00:00Z", key="gone")))
    wanted = Device(name="a", taints=(taint(), taint(key="new"), taint(value="other")))
    kept = comparing.keep_times(wanted, stored)
    assert [each.time_added for each in kept.taints] == ["2026-01-01T00:00:00Z", None, None]


def test_a_time_that_really_moved_is_sent() -> None:
    stored = Device(name="a", taints=(taint("2026-01-01T00:00:00Z"),))
    wanted = Device(name="a", taints=(taint("2026-01-01T01:00:00Z"),))
    assert comparing.keep_times(wanted, stored) == wanted
