"""Semantic equality of devices, as Kubernetes sees it."""

from __future__ import annotations

import pytest

from driver.core import comparing
from driver.model.slices import (
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
