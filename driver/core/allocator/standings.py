"""What is left of the units of one node: broken GPUs, whole ones, room in shared devices. Called by `best`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from driver.core.allocator.devices import Device
from driver.core.allocator.layouts import Layout, Unit, find_layout
from driver.core.allocator.pools import DevicePool
from driver.core.allocator.profiles import Free
from driver.core.allocator.usage import PoolUsage, Usage

Room = dict[str, int]
"""What is left of each capacity of a shareable device, in units of 10^-9."""
Key = tuple[tuple[object, ...], ...]
"""What is taken of the pools of a place."""
_SCALE: Final = 1000


class Place:
    """A node's devices and what they are, by position. Kept by the cluster as long as the node's slices stay."""

    __slots__ = ("_names", "_positions", "devices", "layout", "pools")

    def __init__(self, pools: Sequence[DevicePool]) -> None:
        self.pools = tuple(pools)
        self.devices = tuple(device for pool in pools for device in pool.devices)
        self.layout = find_layout(pools)
        self._positions: dict[Device, int] = {}
        self._names: dict[tuple[int, str], int] = {}

    @property
    def positions(self) -> Mapping[Device, int]:
        """Device to position."""
        if len(self._positions) != len(self.devices):
            self._positions = {device: position for position, device in enumerate(self.devices)}
        return self._positions

    def find_key(self, usage: Usage) -> Key:
        """Return what is taken, without names: places of one layout and equal keys have the same standing."""
        found = []
        for index, pool in enumerate(self.pools):
            used = usage.of_pool(pool.key)
            if used.whole or used.shared:
                found.append((index, *self._find_pool_key(index, used)))
        return tuple(found)

    def _find_pool_key(self, index: int, used: PoolUsage) -> tuple[int, object, object]:
        names, generation = self._index_names(), self.pools[index].generation
        mask, are_all_known = 0, True
        for name in used.whole:
            position = names.get((index, name))
            if position is None:
                are_all_known = False
            else:
                mask |= 1 << position
        shares = tuple(
            (names.get((index, name)), tuple(sorted(share.consumed.items())), share.counted > 0)
            for name, share in sorted(used.shared.items())
        )
        is_told = are_all_known and all(position is not None for position, _, _ in shares)
        return mask, shares, None if is_told or not generation.counters else used.free(generation)

    def _index_names(self) -> Mapping[tuple[int, str], int]:
        if len(self._names) != len(self.devices):
            pairs = zip(self.layout.starts, self.pools, strict=True)
            self._names = {
                (index, device.name): position
                for index, (start, pool) in enumerate(pairs)
                for position, device in enumerate(pool.devices, start)
            }
        return self._names


@dataclass(slots=True)
class Standing:
    """What is left; a tally changes its own."""

    layout: Layout
    free: list[Free | None]
    """Counters left, by unit; None for a device that shares none."""
    fresh: list[bool]
    """True for units of which nothing is taken."""
    room: dict[int, Room]
    """Of shareable devices of which something is taken, by position."""
    held: set[int]
    """Positions of devices that are taken, wholly or in shares."""

    @property
    def left(self) -> tuple[int, int]:
        """Return how much the node has left of what only it reaches: whole units, and what can still be had of all."""
        units = [(index, unit) for index, unit in enumerate(self.layout.units) if unit.is_local]
        return sum(self.fresh[index] for index, _ in units), sum(self.value(index, unit) for index, unit in units)

    def value(self, index: int, unit: Unit) -> int:
        """Return what a unit is still worth."""
        free = self.free[index]
        if unit.profiles is not None and free is not None:
            return unit.profiles.value(free)
        (position,) = unit.members
        if self.layout.facts[position].shares is not None:
            return self.headroom(position, self.room.get(position)) ** 2
        return 0 if position in self.held else _SCALE**2

    def headroom(self, position: int, room: Room | None) -> int:
        """Return how much of the scarcest capacity of a shareable device is left, in parts of 1000."""
        if room is None:
            return _SCALE
        shares = self.layout.facts[position].shares or ()
        return min((room[each.name] * _SCALE // each.value.nanos for each in shares if each.value.nanos), default=0)


def find_standing(place: Place, usage: Usage) -> Standing:
    """Return what allocated claims leave of a node."""
    layout = place.layout
    usages = [usage.of_pool(pool.key) for pool in place.pools]
    held: set[int] = set()
    room: dict[int, Room] = {}
    for start, pool, used in zip(layout.starts, place.pools, usages, strict=True):
        _find_held(start, pool, used, held, room)
    free: list[Free | None] = []
    fresh: list[bool] = []
    for unit in layout.units:
        left = None
        is_fresh = held.isdisjoint(unit.members)
        if unit.profiles is not None:
            whole_pool = usages[unit.pool].free(place.pools[unit.pool].generation)
            left = tuple(whole_pool[index] for index in unit.counters)
            is_fresh = is_fresh and left == unit.profiles.whole
        free.append(left)
        fresh.append(is_fresh)
    return Standing(layout, free, fresh, room, held)


def _find_held(start: int, pool: DevicePool, used: PoolUsage, held: set[int], room: dict[int, Room]) -> None:
    if not used.whole and not used.shared:
        return
    for position, device in enumerate(pool.devices, start):
        share = used.shared.get(device.name)
        if share is not None:
            held.add(position)
            room[position] = {
                each.name: each.value.nanos - share.consumed.get(each.name, 0) for each in device.capacities
            }
        elif device.name in used.whole:
            held.add(position)
