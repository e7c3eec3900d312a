"""What is left of devices that several claims share: who has how much, and what the next one could have.

Called by `accel-dra explain` (through `answering`) with what the API server knows, and by `accel-dra inventory` with
what this node has prepared. Amounts are those of the published capacities; what nobody takes of is not told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from driver.core.allocator import Snapshot
from driver.model import quantities
from driver.model.claims import Allocation, AllocationResult
from driver.model.prepared import PreparedDevice
from driver.model.quantities import Quantity

Amounts = Mapping[str, Quantity]
"""By capacity name."""


class Capacity(Protocol):
    """A capacity of any driver's device, as far as it is looked at here."""

    @property
    def value(self) -> str:
        """All of it, as a quantity."""


def describe_share(result: AllocationResult) -> str:
    """Return what a result has of its device: `memory 20Gi, share 25`; empty if it has the device for itself."""
    return spell({name: amount for name, amount in _read(result.consumed_capacity).items() if amount.nanos})


def find_left(allocation: Allocation, snapshot: Snapshot, *, is_counted: bool) -> dict[str, str]:
    """Return in words, by `device of pool`, what is left of the devices of which an allocation has shares.

    `is_counted` tells whether the snapshot's claims contain this allocation.
    """
    capacities = {
        (each.spec.driver, each.spec.pool.name, device.name): device.capacity
        for each in snapshot.slices
        for device in each.spec.devices
        if device.allow_multiple_allocations
    }
    shares = [each for each in allocation.devices.results if each.share_id is not None]
    own: dict[tuple[str, str, str], list[Amounts]] = {}
    for each in shares:
        amounts = {} if is_counted else _read(each.consumed_capacity)
        own.setdefault((each.driver, each.pool, each.device), []).append(amounts)
    return {
        f"{place[2]} of {place[1]}": spell(subtract(capacities[place], [_sum_up(snapshot, place), *taken]))
        for place, taken in own.items()
        if place in capacities
    }


def find_unprepared(capacity: Mapping[str, Capacity], held: Iterable[PreparedDevice]) -> dict[str, Quantity]:
    """Return what is left of a device on its node beside the shares that are prepared; nothing if there are none."""
    return subtract(capacity, [_read(each.consumed_capacity) for each in held if not each.admin_access])


def subtract(capacity: Mapping[str, Capacity], taken: Iterable[Amounts]) -> dict[str, Quantity]:
    """Return what is left of each capacity that is taken of at all."""
    left: dict[str, Quantity] = {}
    for amounts in taken:
        for name, amount in amounts.items():
            if name in capacity and amount.nanos:
                left[name] = left.get(name, quantities.parse(capacity[name].value)) - amount
    return left


def spell(amounts: Amounts) -> str:
    """Return amounts in words: `memory 61079Mi, share 75`."""
    return ", ".join(f"{name.rpartition('/')[2]} {amount}" for name, amount in sorted(amounts.items()))


def _sum_up(snapshot: Snapshot, place: tuple[str, str, str]) -> Amounts:
    driver, pool, device = place
    share = snapshot.usage.of_pool((driver, pool)).shared.get(device)
    return {} if share is None else {name: Quantity(nanos) for name, nanos in share.consumed.items()}


def _read(consumed: Mapping[str, str]) -> dict[str, Quantity]:
    return {name: quantities.parse(text) for name, text in consumed.items()}
