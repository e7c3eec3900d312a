"""Can the partitions that are still wanted be packed into what is left of the devices? Called by `search`.

Partitions draw on the counters of the device they are part of. Devices are parted into cells, which share no counter: a
cell is one GPU with all of its partitions. For a cell it can be listed how many partitions of each kind it still holds
together; adding these up over all cells is exact, and it is quick because GPUs in the same state are looked at once.
Constraints, alternatives and requests that other devices can serve are left out: what does not fit without them does
not fit with them. So a search that asks before every request never goes far wrong.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from driver.core.allocator.devices import Device
from driver.core.allocator.generations import Generation
from driver.core.allocator.plans import Plan
from driver.core.allocator.tracking import Ledger

_MAX_CELL: Final = 64
"""Partitions of a cell; what a larger one holds would take too long to list."""
_MAX_LISTED: Final = 20_000
"""Combinations that are looked at for a cell, and for all cells together."""
_Counter = tuple[Generation, int]
"""One counter: where it is kept, and its position."""
Amounts = tuple[int, ...]
"""How many partitions of each kind."""


class TooManyError(Exception):
    """There are too many combinations to list: nothing is known then."""


@dataclass(frozen=True, slots=True)
class _Cell:
    build: int
    """Equal for cells that can change places."""
    devices: tuple[Device, ...]
    counters: tuple[_Counter, ...]
    takes: tuple[Amounts, ...]
    """Of each device, counter by counter."""
    kinds: tuple[tuple[int, ...], ...]
    """Of each device the kinds of requests that it can serve."""


class Packing:
    """What is still wanted at each slot, and what has been found out about cells."""

    def __init__(self, cells: Sequence[_Cell], wanted: Sequence[Amounts], ledger: Ledger) -> None:
        self._cells = cells
        self._wanted = wanted
        self._ledger = ledger
        self._holds: dict[Hashable, list[Amounts]] = {}
        self._answers: dict[Hashable, bool] = {}

    def fits(self, slot: int) -> bool:
        """Say whether all requests from a slot on might still be served; True where it cannot be told."""
        wanted = self._wanted[slot]
        states = [self._describe(cell) for cell in self._cells]
        key = (slot, tuple(sorted(states)))
        if key not in self._answers:
            try:
                self._answers[key] = self._fit(wanted, states)
            except TooManyError:
                self._answers[key] = True
        return self._answers[key]

    def _describe(self, cell: _Cell) -> tuple[int, Amounts, Amounts]:
        left = tuple(self._ledger.left(*counter) for counter in cell.counters)
        return cell.build, left, tuple(i for i, device in enumerate(cell.devices) if self._ledger.is_taken(device))

    def _fit(self, wanted: Amounts, states: Sequence[tuple[int, Amounts, Amounts]]) -> bool:
        """Add up what the cells hold, and keep what nothing else exceeds in every kind."""
        sums: list[Amounts] = [(0,) * len(wanted)]
        for cell, state in zip(self._cells, states, strict=True):
            held = self._hold(cell, state)
            sums = _best(
                tuple(min(a + b, most) for a, b, most in zip(one, other, wanted, strict=True))
                for one in sums
                for other in held
            )
        return wanted in sums

    def _hold(self, cell: _Cell, state: tuple[int, Amounts, Amounts]) -> list[Amounts]:
        """Return what a cell in a state still holds: combinations of kinds, the largest only."""
        if state not in self._holds:
            self._holds[state] = _best(_combine(cell, state, self._wanted[0]))
        return self._holds[state]


def find(plan: Plan, ledger: Ledger) -> Packing | None:
    """Return the packing problem of a plan; None if no request is for partitions only."""
    kinds = _find_kinds(plan)
    if not kinds:
        return None
    cells = _part(plan, kinds)
    if any(len(cell.devices) > _MAX_CELL for cell in cells):
        return None
    return Packing(cells, _add_up(plan, kinds), ledger)


def _find_kinds(plan: Plan) -> dict[frozenset[Device], int]:
    """Number the sets of candidates of requests that only partitions can serve."""
    kinds: dict[frozenset[Device], int] = {}
    for slot, alternatives in enumerate(plan.options):
        wanted, devices = alternatives[0].wanted, alternatives[0].devices
        is_plain = not (plan.slots[slot].is_list or wanted.is_all or wanted.admin_access)
        if is_plain and all(each.counters and not each.is_shareable for each in devices):
            kinds.setdefault(frozenset(devices), len(kinds))
    return kinds


def _add_up(plan: Plan, kinds: dict[frozenset[Device], int]) -> list[Amounts]:
    """Return for every slot how many of each kind are wanted from there on."""
    wanted = [0] * len(kinds)
    found: list[Amounts] = []
    for slot in reversed(range(len(plan.slots))):
        kind = kinds.get(frozenset(plan.options[slot][0].devices))
        if kind is not None and not plan.slots[slot].is_list:
            wanted[kind] += plan.options[slot][0].count
        found.append(tuple(wanted))
    return found[::-1]


def _best(found: Iterable[Amounts]) -> list[Amounts]:
    """Return those that no other one reaches in every kind. Raises `TooManyError`."""
    kept: list[Amounts] = []
    for each in sorted(set(found), reverse=True):
        if not any(all(a >= b for a, b in zip(other, each, strict=True)) for other in kept):
            kept.append(each)
        if len(kept) > _MAX_LISTED // 20:
            raise TooManyError
    return kept


def _combine(cell: _Cell, state: tuple[int, Amounts, Amounts], wanted: Amounts) -> Iterable[Amounts]:
    """Yield how many of each kind can be taken of a cell together. Raises `TooManyError`."""
    _, left, taken = state
    free = [index for index, _ in enumerate(cell.devices) if index not in taken and cell.kinds[index]]
    open_ = [(0, left, (0,) * len(wanted))]
    seen = set(open_)
    while open_:
        position, counters, counts = open_.pop()
        yield counts
        for place in range(position, len(free)):
            index = free[place]
            rest = tuple(have - takes for have, takes in zip(counters, cell.takes[index], strict=True))
            if min(rest, default=0) < 0:
                continue
            for kind in cell.kinds[index]:
                more = (*counts[:kind], counts[kind] + 1, *counts[kind + 1 :])
                following = (place + 1, rest, more)
                if more[kind] <= wanted[kind] and following not in seen:
                    seen.add(following)
                    open_.append(following)
        if len(seen) > _MAX_LISTED:
            raise TooManyError


def _part(plan: Plan, kinds: dict[frozenset[Device], int]) -> list[_Cell]:
    """Part the partitions into cells: those that share a counter, directly or over others, are in one."""
    generations = {pool.key: pool.generation for pool in plan.pools}
    partitions = dict.fromkeys(device for devices in kinds for device in sorted(devices, key=lambda each: each.id))
    cells: dict[Device, list[Device]] = {}
    place: dict[_Counter, Device] = {}
    for device in partitions:
        own = generations[device.id[:2]]
        joined = {place[own, position] for position, _ in device.counters if (own, position) in place}
        members = [*(member for each in joined for member in cells.pop(each)), device]
        cells[device] = members
        for member in members:
            place.update({(own, position): device for position, _ in member.counters})
    builds: dict[Hashable, int] = {}
    return [
        _build(generations[members[0].id[:2]], sorted(members, key=lambda each: each.id), kinds, builds)
        for members in cells.values()
    ]


def _build(
    generation: Generation,
    devices: Sequence[Device],
    kinds: dict[frozenset[Device], int],
    builds: dict[Hashable, int],
) -> _Cell:
    positions = sorted(
        {position for device in devices for position, _ in device.counters},
        key=lambda position: (generation.names[position], position),
    )
    takes = tuple(tuple(dict(device.counters).get(position, 0) for position in positions) for device in devices)
    serves = tuple(tuple(kind for members, kind in kinds.items() if device in members) for device in devices)
    build = builds.setdefault((takes, serves), len(builds))
    counters = tuple((generation, position) for position in positions)
    return _Cell(build, tuple(devices), counters, takes, serves)
