"""Whether two devices, or the contents of two slices, mean the same to Kubernetes.

Called by `slicing` and `adopting`. Follows apimachinery's Semantic.DeepEqual as the DRA helper library uses it: nothing
and empty are the same, quantities compare by value (`1024Mi` is `1Gi`), the order of lists matters, and the time at
which a taint was added is the server's business: not given equals anything, a second either way is the same moment.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from driver.model import quantities
from driver.model.errors import InvalidInput
from driver.model.slices import (
    CapacityPolicy,
    CapacityRange,
    Counter,
    CounterConsumption,
    CounterSet,
    Device,
    DeviceCapacity,
    DeviceTaint,
)

_TOLERANCE: Final = dt.timedelta(seconds=1)

Amounts = Mapping[str, Counter] | Mapping[str, DeviceCapacity]


def is_same_devices(some: Sequence[Device], others: Sequence[Device]) -> bool:
    """Tell whether two lists hold the same devices in the same order."""
    return len(some) == len(others) and all(map(is_same_device, some, others))


def is_same_counter_sets(some: Sequence[CounterSet], others: Sequence[CounterSet]) -> bool:
    """Tell whether two lists hold the same counter sets in the same order."""
    return len(some) == len(others) and all(
        one.name == other.name and is_same_amounts(one.counters, other.counters)
        for one, other in zip(some, others, strict=True)
    )


def is_same_device(one: Device, other: Device) -> bool:
    """Tell whether two devices are the same to Kubernetes."""
    return not find_differences(one, other)


def find_differences(one: Device, other: Device) -> tuple[str, ...]:
    """Return the fields, by their API names, in which two devices differ."""
    same = {
        "name": one.name == other.name,
        "attributes": one.attributes == other.attributes,
        "capacity": is_same_capacity(one.capacity, other.capacity),
        "consumesCounters": _is_same_consumption(one.consumes_counters, other.consumes_counters),
        "taints": is_same_taints(one.taints, other.taints),
        "allowMultipleAllocations": one.allow_multiple_allocations == other.allow_multiple_allocations,
    }
    return tuple(field for field, is_same in same.items() if not is_same)


def is_same_amounts(some: Amounts, others: Amounts) -> bool:
    """Tell whether two maps hold the same amounts under the same names."""
    return some.keys() == others.keys() and all(
        _is_same_quantity(amount.value, others[name].value) for name, amount in some.items()
    )


def is_same_capacity(some: Mapping[str, DeviceCapacity], others: Mapping[str, DeviceCapacity]) -> bool:
    """Tell whether two maps hold the same amounts under the same names, to be shared out in the same way."""
    return is_same_amounts(some, others) and all(
        _is_same_policy(capacity.request_policy, others[name].request_policy) for name, capacity in some.items()
    )


def is_same_taints(some: Sequence[DeviceTaint], others: Sequence[DeviceTaint]) -> bool:
    """Tell whether two lists hold the same taints in the same order, give or take a second."""
    return len(some) == len(others) and all(
        is_same_kind(one, other) and _is_same_time(one.time_added, other.time_added)
        for one, other in zip(some, others, strict=True)
    )


def is_same_kind(one: DeviceTaint, other: DeviceTaint) -> bool:
    """Tell whether two taints have the same key, value and effect."""
    return (one.key, one.value, one.effect) == (other.key, other.value, other.effect)


def keep_times(wanted: Device, stored: Device) -> Device:
    """Return the wanted device with the times that the server gave to taints which stay."""
    taints = tuple(_keep_time(taint, stored.taints) for taint in wanted.taints)
    return wanted if taints == wanted.taints else msgspec.structs.replace(wanted, taints=taints)


def _keep_time(taint: DeviceTaint, stored: Sequence[DeviceTaint]) -> DeviceTaint:
    known = next((other for other in stored if is_same_taints((taint,), (other,))), None)
    return known or taint


def _is_same_consumption(some: Sequence[CounterConsumption], others: Sequence[CounterConsumption]) -> bool:
    return len(some) == len(others) and all(
        one.counter_set == other.counter_set and is_same_amounts(one.counters, other.counters)
        for one, other in zip(some, others, strict=True)
    )


def _is_same_policy(one: CapacityPolicy | None, other: CapacityPolicy | None) -> bool:
    if one == other or one is None or other is None:
        return one == other
    here, there = one.valid_range or CapacityRange(), other.valid_range or CapacityRange()
    return (
        len(one.valid_values) == len(other.valid_values)
        and (one.valid_range is None) == (other.valid_range is None)
        and all(map(_is_same_quantity, (one.default, *one.valid_values), (other.default, *other.valid_values)))
        and all(map(_is_same_quantity, (here.min, here.max, here.step), (there.min, there.max, there.step)))
    )


def _is_same_quantity(one: str | None, other: str | None) -> bool:
    if one == other or one is None or other is None:
        return one == other
    try:
        return quantities.parse(one) == quantities.parse(other)
    except InvalidInput:
        return False


def _is_same_time(one: str | None, other: str | None) -> bool:
    if one is None or other is None or one == other:
        return True
    try:
        return abs(_to_second(one) - _to_second(other)) <= _TOLERANCE
    except (ValueError, TypeError):
        return False


def _to_second(text: str) -> dt.datetime:
    """Return an RFC 3339 time without its fraction, which the server cuts off."""
    return dt.datetime.fromisoformat(text).replace(microsecond=0)
