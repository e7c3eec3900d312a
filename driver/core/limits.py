"""What the API server accepts in a ResourceSlice, checked before it is sent: one bad device must not cost the others.

Called by `slicing`. Each fault is a sentence that names the field, the value and what is allowed.
Rules: Kubernetes v1.36 pkg/apis/resource/validation/validation.go. What the server would take but the scheduler would
choke on (a counter that no counter set has makes a whole pool invalid) is a fault here as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from driver.model import quantities
from driver.model.errors import InvalidInput
from driver.model.quantities import Quantity
from driver.model.slices import (
    MAX_ATTRIBUTES_AND_CAPACITIES,
    MAX_COUNTER_CONSUMPTIONS,
    MAX_COUNTERS_PER_SET,
    MAX_TAINTS,
    MAX_TEXT,
    MAX_VALID_VALUES,
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

EFFECTS: Final = ("None", "NoSchedule", "NoExecute")

_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,31}")
_LABEL_VALUE: Final = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_SEMVER: Final = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-(0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(\.(0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*)?"
    r"(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?",
    re.ASCII,
)
_INT64: Final = range(-(2**63), 2**63)
_SHOWN: Final = 80


def check_names(driver: str, node: str, pool: str) -> None:
    """Check the names that every slice of a node carries. Raises `InvalidInput`."""
    if len(driver) > 63 or not _SUBDOMAIN.fullmatch(driver):
        raise InvalidInput("driver name", driver, "a DNS subdomain in lower case with at most 63 characters")
    if len(node) > 253 or not _SUBDOMAIN.fullmatch(node):
        raise InvalidInput("node name", node, "the name of a Node: a DNS subdomain with at most 253 characters")
    if len(pool) > 253 or not all(_SUBDOMAIN.fullmatch(part) for part in pool.split("/")):
        raise InvalidInput("pool name", pool, "DNS subdomains separated by '/', at most 253 characters")


def find_device_faults(device: Device, counter_sets: Mapping[str, CounterSet]) -> tuple[str, ...]:
    """Return why the API server or the scheduler would not take a device; nothing if they would.

    `counter_sets` are those of the pool, by name.
    """
    return tuple(
        fault
        for faults in (
            _check_device_name(device.name),
            _check_entries(device),
            _check_consumptions(device.consumes_counters, counter_sets),
            _check_taints(device.taints),
        )
        for fault in faults
    )


def find_counter_set_faults(counter_set: CounterSet) -> tuple[str, ...]:
    """Return why the API server would not take a counter set; nothing if it would."""
    name = counter_set.name
    faults = [] if _LABEL.fullmatch(name) else [f"counter set name {_show(name)} is not a DNS label"]
    return (*faults, *_check_counters(f"counter set {name}", counter_set.counters))


def _check_device_name(name: str) -> Iterator[str]:
    if not _LABEL.fullmatch(name):
        yield f"device name {_show(name)} is not a DNS label of at most 63 characters"


def _check_entries(device: Device) -> Iterator[str]:
    count = len(device.attributes) + len(device.capacity)
    if count > MAX_ATTRIBUTES_AND_CAPACITIES:
        yield f"{count} attributes and capacities; at most {MAX_ATTRIBUTES_AND_CAPACITIES} are allowed"
    for name, attribute in device.attributes.items():
        yield from _check_qualified_name(f"attribute name {_show(name)}", name)
        yield from _check_attribute(f"attribute {name}", attribute)
    for name, capacity in device.capacity.items():
        yield from _check_qualified_name(f"capacity name {_show(name)}", name)
        yield from _check_capacity(f"capacity {name}", capacity, shared=device.allow_multiple_allocations)


def _check_capacity(what: str, capacity: DeviceCapacity, *, shared: bool) -> Iterator[str]:
    policy = capacity.request_policy
    span = (policy and policy.valid_range) or CapacityRange()
    texts = [capacity.value] if policy is None else [capacity.value, policy.default, *policy.valid_values]
    bad = [
        fault
        for text in (*texts, span.min, span.max, span.step)
        if text is not None
        for fault in _check_quantity(what, text)
    ]
    if bad or policy is None:
        yield from bad
    elif not shared:
        yield f"{what} has a request policy; only a device that allows multiple allocations may have one"
    elif policy.valid_values and policy.valid_range is not None:
        yield f"{what}: its request policy has valid values and a valid range; one of them is allowed"
    elif (policy.valid_values or policy.valid_range is not None) and policy.default is None:
        yield f"{what}: its request policy has no default, which valid values and a valid range need"
    elif policy.valid_values:
        yield from _check_valid_values(what, policy, quantities.parse(capacity.value))
    elif policy.valid_range is not None:
        yield from _check_valid_range(what, policy, quantities.parse(capacity.value))


def _check_valid_values(what: str, policy: CapacityPolicy, value: Quantity) -> Iterator[str]:
    """Values are told apart as whole numbers, as the API does it: `100m` and `200m` are both 1."""
    allowed = [quantities.parse(text) for text in policy.valid_values]
    if len(allowed) > MAX_VALID_VALUES:
        yield f"{what} has {len(allowed)} valid values; at most {MAX_VALID_VALUES} are allowed"
    if allowed != sorted(allowed) or len({each.rounded_up for each in allowed}) < len(allowed):
        yield f"{what}: its valid values are not ascending whole numbers"
    if max(allowed) > value:
        yield f"{what}: valid value {max(allowed)} is more than there is: {value}"
    if _parse(policy.default) not in allowed:
        yield f"{what}: default {policy.default} is not one of its valid values"


def _check_valid_range(what: str, policy: CapacityPolicy, value: Quantity) -> Iterator[str]:
    """Steps are counted in whole numbers. A step of 0 would make the server divide by it."""
    span = policy.valid_range or CapacityRange()
    default, low = _parse(policy.default), _parse(span.min)
    if default is None or low is None:
        yield f"{what}: its valid range has no min, which is required"
        return
    high, step = _parse(span.max), _parse(span.step)
    if not low <= default <= (value if high is None else high) or (high or default) > value:
        yield f"{what}: min {low}, default {default}, max {high or value} and value {value} are not in ascending order"
    if step is None:
        return
    if step.rounded_up <= 0 or low + step > value:
        yield f"{what}: step {step} is not above 0, or too large for one step above min {low}"
    elif any((point.rounded_up - low.rounded_up) % step.rounded_up for point in (default, high) if point is not None):
        yield f"{what}: default {default} or max {high or value} is not a whole number of steps {step} above min {low}"


def _parse(text: str | None) -> Quantity | None:
    return None if text is None else quantities.parse(text)


def _check_qualified_name(what: str, name: str) -> Iterator[str]:
    domain, slash, identifier = name.rpartition("/")
    if not _IDENTIFIER.fullmatch(identifier):
        yield f"{what}: what follows the domain is not an identifier of at most 32 characters"
    if slash and (len(domain) > 63 or not _SUBDOMAIN.fullmatch(domain)):
        yield f"{what}: the domain is not a DNS subdomain of at most 63 characters"


def _check_attribute(what: str, attribute: DeviceAttribute) -> Iterator[str]:
    values = (attribute.int_, attribute.bool_, attribute.string, attribute.version)
    count = sum(value is not None for value in values)
    if count != 1:
        yield f"{what} has {count} values; exactly one is allowed"
    if attribute.int_ is not None and attribute.int_ not in _INT64:
        yield f"{what}: {attribute.int_} does not fit into 64 bits"
    for text in (attribute.string, attribute.version):
        if text is not None and len(text.encode(errors="replace")) > MAX_TEXT:
            yield f"{what}: {_show(text)} has {len(text.encode())} bytes; at most {MAX_TEXT} are allowed"
    if attribute.version is not None and not _SEMVER.fullmatch(attribute.version):
        yield f"{what}: {_show(attribute.version)} is not a version of semver.org 2.0.0 such as 1.2.3"


def _check_consumptions(
    consumptions: tuple[CounterConsumption, ...], counter_sets: Mapping[str, CounterSet]
) -> Iterator[str]:
    if len(consumptions) > MAX_COUNTER_CONSUMPTIONS:
        yield f"consumes from {len(consumptions)} counter sets; at most {MAX_COUNTER_CONSUMPTIONS} are allowed"
    names = [consumption.counter_set for consumption in consumptions]
    for consumption in consumptions:
        what = f"consumption from counter set {consumption.counter_set}"
        if names.count(consumption.counter_set) > 1:
            yield f"{what} is listed twice"
        known = counter_sets.get(consumption.counter_set)
        if known is None:
            yield f"{what}: the pool has no such counter set"
            continue
        yield from _check_counters(what, consumption.counters)
        for counter in consumption.counters:
            if counter not in known.counters:
                yield f"{what}: it has no counter {_show(counter)}"


def _check_counters(what: str, counters: Mapping[str, Counter]) -> Iterator[str]:
    if not 1 <= len(counters) <= MAX_COUNTERS_PER_SET:
        yield f"{what} has {len(counters)} counters; 1 to {MAX_COUNTERS_PER_SET} are allowed"
    for name, counter in counters.items():
        if not _LABEL.fullmatch(name):
            yield f"{what}: counter name {_show(name)} is not a DNS label"
        yield from _check_quantity(f"{what}: counter {name}", counter.value)


def _check_taints(taints: tuple[DeviceTaint, ...]) -> Iterator[str]:
    if len(taints) > MAX_TAINTS:
        yield f"{len(taints)} taints; at most {MAX_TAINTS} are allowed"
    for taint in taints:
        prefix, slash, name = taint.key.rpartition("/")
        if not name or len(name) > 63 or not _LABEL_VALUE.fullmatch(name):
            yield f"taint key {_show(taint.key)} is not a label key"
        elif slash and (len(prefix) > 253 or not _SUBDOMAIN.fullmatch(prefix)):
            yield f"taint key {_show(taint.key)}: the prefix is not a DNS subdomain"
        if len(taint.value) > 63 or not _LABEL_VALUE.fullmatch(taint.value):
            yield f"taint {taint.key}: value {_show(taint.value)} is not a label value of at most 63 characters"
        if taint.effect not in EFFECTS:
            yield f"taint {taint.key}: effect {_show(taint.effect)} is not one of {', '.join(EFFECTS)}"


def _check_quantity(what: str, text: str) -> Iterator[str]:
    try:
        quantities.parse(text)
    except InvalidInput:
        yield f"{what}: {_show(text)} is not a quantity such as 16Gi or 2"


def _show(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
