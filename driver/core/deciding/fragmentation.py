"""What is left in one piece: free devices by interconnect domain, and the largest device that a node can still give.

Called by the controller for its metrics, now and then. A device can be had if no claim holds it and the shared counters
of its pool suffice for it, so that a GPU of which a partition is taken counts as broken up. Taints are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from driver.model import quantities, vocabulary
from driver.model.errors import InvalidInput
from driver.model.published import PublishedDevice, PublishedSlice
from driver.model.slices import CounterConsumption
from driver.model.wanted import Claim

PoolKey = tuple[str, str]
"""Driver and pool name."""
Counters = dict[tuple[str, str], int]
"""What is left, by counter set and counter, in units of 10^-9."""


@dataclass(slots=True)
class Measure:
    """Of all nodes."""

    free: dict[tuple[str, str], int] = field(default_factory=dict)
    """Whole devices that can be had, by node and interconnect domain (empty: devices without links)."""
    largest: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Profile of a partition, or type of a device, and its bytes of memory, by node."""


def measure(slices: Iterable[PublishedSlice], claims: Iterable[Claim]) -> Measure:
    """Measure the pools of these slices, all of one generation a pool."""
    held: dict[PoolKey, set[str]] = {}
    for claim in claims:
        for result in claim.status.allocation.devices.results if claim.status.allocation else ():
            if not result.admin_access:
                held.setdefault((result.driver, result.pool), set()).add(result.device)
    pools: dict[PoolKey, list[PublishedSlice]] = {}
    for each in slices:
        pools.setdefault((each.spec.driver, each.spec.pool.name), []).append(each)
    found = Measure()
    for key, own in pools.items():
        _measure_pool(own, held.get(key, set()), found)
    return found


def _measure_pool(slices: Sequence[PublishedSlice], held: set[str], found: Measure) -> None:
    left = _count_left(slices, held)
    for published, device in _list_devices(slices):
        node = device.node_name or published.spec.node_name
        if not node or (device.name in held and not device.allow_multiple_allocations):
            continue
        if any(left.get(counter, 0) < amount for counter, amount in _consume(device.consumes_counters)):
            continue
        kind = _read(device, vocabulary.PROFILE) or _read(device, vocabulary.TYPE) or "device"
        size = _read_memory(device)
        if size > found.largest.get(node, ("", -1))[1]:
            found.largest[node] = kind, size
        if not _read(device, vocabulary.PROFILE):
            place = node, _read(device, vocabulary.INTERCONNECT_DOMAIN)
            found.free[place] = found.free.get(place, 0) + 1


def _count_left(slices: Sequence[PublishedSlice], held: set[str]) -> Counters:
    left = {
        (counters.name, name): _parse(counter.value)
        for published in slices
        for counters in published.spec.shared_counters
        for name, counter in counters.counters.items()
    }
    for _, device in _list_devices(slices):
        if device.name in held:
            for counter, amount in _consume(device.consumes_counters):
                left[counter] = left.get(counter, 0) - amount
    return left


def _list_devices(slices: Iterable[PublishedSlice]) -> Iterator[tuple[PublishedSlice, PublishedDevice]]:
    for published in slices:
        for device in published.spec.devices:
            yield published, device


def _consume(entries: Iterable[CounterConsumption]) -> Iterator[tuple[tuple[str, str], int]]:
    for entry in entries:
        for name, counter in entry.counters.items():
            yield (entry.counter_set, name), _parse(counter.value)


def _read(device: PublishedDevice, name: str) -> str:
    attribute = device.attributes.get(name)
    return attribute.string or "" if attribute is not None else ""


def _read_memory(device: PublishedDevice) -> int:
    capacity = device.capacity.get(vocabulary.MEMORY)
    return _parse(capacity.value) // quantities.NANO if capacity is not None else 0


def _parse(text: str) -> int:
    try:
        return quantities.parse(text).nanos
    except InvalidInput:
        return 0
