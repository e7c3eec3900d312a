"""What is left of the units of one node: broken GPUs, whole ones, room in shared devices. Called by `best`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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

    def find_held(self, index: int, used: PoolUsage, room: dict[int, Room]) -> Iterator[int]:
        """Yield the positions of the devices of a pool that are taken; put what is left of shared ones into `room`."""
        if not used.whole and not used.shared:
            return
        names = self._index_names()
        for name, share in used.shared.items():
            position = names.get((index, name))
            if position is not None:
                capacities = self.devices[position].capacities
                room[position] = {each.name: each.value.nanos - share.consumed.get(each.name, 0) for each in capacities}
                yield position
        for name in used.whole:
            position = names.get((index, name))
            if position is not None:
                yield position

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
    taken: list[tuple[int, ...]]
    """The same by unit: which of its members."""

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
    room: dict[int, Room] = {}
    held = {position for index, used in enumerate(usages) for position in place.find_held(index, used, room)}
    taken: list[tuple[int, ...]] = [()] * len(layout.units)
    for position in sorted(held):
        taken[layout.unit_of[position]] += (layout.member_of[position],)
    pools = [used.free(pool.generation) for used, pool in zip(usages, place.pools, strict=True)]
    free: list[Free | None] = []
    fresh: list[bool] = []
    for unit, members in zip(layout.units, taken, strict=True):
        left = None if unit.profiles is None else unit.read(pools[unit.pool])
        free.append(left)
        fresh.append(not members and (unit.profiles is None or left == unit.profiles.whole))
    return Standing(layout, free, fresh, room, held, taken)
