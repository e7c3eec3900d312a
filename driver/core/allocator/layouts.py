"""What a node has, as far as it matters for choosing well: sizes, links, and which devices are parts of one thing.

Called by `best` and `nodes_index`. Names are left out, so nodes with the same hardware have the same `Layout` object,
and what is found out for one of them holds for all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from driver.core.allocator.capacities import Capacity
from driver.core.allocator.devices import Consumption, Device
from driver.core.allocator.pools import DevicePool
from driver.core.allocator.profiles import Free, Profiles, make_profiles
from driver.model import quantities, vocabulary
from driver.model.errors import InvalidInput
from driver.model.quantities import NANO

UNKNOWN: Final = -1
"""No interconnect domain, or no NUMA node, is published."""
ACCELERATORS: Final = frozenset({vocabulary.TYPE_GPU, vocabulary.TYPE_PARTITION, vocabulary.TYPE_VFIO})


class Facts(NamedTuple):
    """What matters of one device. Values that are only compared are replaced by numbers in order of appearance."""

    memory: int
    """Bytes (capacity `memory` of any domain)."""
    rest: int
    """Sum of all other capacities."""
    domain: int
    numa: int
    roots: frozenset[str]
    """PCIe roots; a list for devices that span several."""
    is_linkable: bool
    """It has an interconnect domain, or it is an accelerator and could have one."""
    is_local: bool
    """Only one node reaches it."""
    shares: tuple[Capacity, ...] | None
    """What is shared out of it; None if it is only given away as a whole."""
    counters: Consumption


PoolFacts = tuple[str, bool, Free, tuple[Facts, ...]]
"""Driver, whether it is unfit, its counters, its devices in order."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What is broken up or taken as one thing: a GPU with its partitions, or a device on its own."""

    members: tuple[int, ...]
    """Positions of its devices on the node."""
    pool: int
    counters: tuple[int, ...]
    """Positions among the counters of the pool."""
    profiles: Profiles | None
    """None for a device that shares no counters."""
    domain: tuple[str, int]
    """Driver and interconnect domain."""
    numa: tuple[str, int]
    is_local: bool

    def read(self, free: Free) -> Free:
        """Return what is left of its counters; `free` are all of the pool. They mostly stand side by side."""
        first, last = self.counters[0], self.counters[-1]
        if last - first + 1 == len(self.counters):
            return free[first : last + 1]
        return tuple(free[index] for index in self.counters)


@dataclass(frozen=True, eq=False, slots=True)
class Layout:
    """The devices of a node by position: pools in their order, devices in theirs."""

    facts: tuple[Facts, ...]
    drivers: tuple[str, ...]
    units: tuple[Unit, ...]
    unit_of: tuple[int, ...]
    """Position to unit."""
    member_of: tuple[int, ...]
    """Position to place among the members of its unit."""
    kinds: tuple[int, ...]
    """Equal for positions whose devices are alike, but for their PCIe roots and what their units have left."""
    starts: tuple[int, ...]
    """Position of the first device of each pool."""


def find_layout(pools: Sequence[DevicePool]) -> Layout:
    """Return the layout of a node: the same object for nodes that differ in names only."""
    return _make_layout(tuple(_Reading().read(pools)))


class _Reading:
    """Numbers for the values of one node, in order of appearance."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, object], int] = {}

    def read(self, pools: Sequence[DevicePool]) -> Iterable[PoolFacts]:
        for pool in pools:
            devices = tuple(self._read_device(each) for each in pool.devices)
            yield pool.key[0], pool.fault is not None, pool.generation.counters if devices else (), devices

    def _read_device(self, device: Device) -> Facts:
        domain = self._number(device, vocabulary.INTERCONNECT_DOMAIN)
        kind = device.find_attribute(vocabulary.TYPE)
        memory, rest = _measure(device)
        return Facts(
            memory=memory,
            rest=rest,
            domain=domain,
            numa=self._number(device, vocabulary.NUMA_NODE),
            roots=read_roots(device),
            is_linkable=domain != UNKNOWN or (kind is not None and kind.string in ACCELERATORS),
            is_local=bool(device.node_name),
            shares=device.capacities if device.is_shareable else None,
            counters=device.counters,
        )

    def _number(self, device: Device, name: str) -> int:
        attribute = device.find_attribute(name)
        if attribute is None:
            return UNKNOWN
        value = attribute.string if attribute.int_ is None else attribute.int_
        return UNKNOWN if value is None else self._numbers.setdefault((name, value), len(self._numbers))


def read_roots(device: Device) -> frozenset[str]:
    """Return the PCIe roots of a device."""
    attribute = device.find_attribute(vocabulary.PCIE_ROOT)
    if attribute is None:
        return frozenset()
    return frozenset(attribute.strings or ((attribute.string,) if attribute.string else ()))


def _measure(device: Device) -> tuple[int, int]:
    """Return the memory of a device and the sum of its other capacities; 0 for what cannot be read."""
    memory = rest = 0
    for name, capacity in device.published.capacity.items():
        try:
            amount = quantities.parse(capacity.value).nanos
        except InvalidInput:
            continue
        if name.rpartition("/")[2] == "memory":
            memory += amount // NANO
        else:
            rest += amount // NANO
    return memory, rest


@lru_cache(maxsize=4096)
def _make_layout(pools: tuple[PoolFacts, ...]) -> Layout:
    facts: list[Facts] = []
    drivers: list[str] = []
    units: list[Unit] = []
    starts: list[int] = []
    for index, (driver, _, counters, devices) in enumerate(pools):
        starts.append(len(facts))
        pool = _PoolUnits(index, driver, counters, devices)
        units.extend(pool.make(members, len(facts)) for members in _group(devices))
        facts.extend(devices)
        drivers.extend([driver] * len(devices))
    kinds: dict[object, int] = {}
    places = {position: (unit, at) for unit, each in enumerate(units) for at, position in enumerate(each.members)}
    return Layout(
        facts=tuple(facts),
        drivers=tuple(drivers),
        units=tuple(units),
        unit_of=tuple(places[position][0] for position in range(len(facts))),
        member_of=tuple(places[position][1] for position in range(len(facts))),
        kinds=tuple(
            kinds.setdefault(
                _kind(each, drivers[position], units[places[position][0]], places[position][1]), len(kinds)
            )
            for position, each in enumerate(facts)
        ),
        starts=tuple(starts),
    )


def _kind(facts: Facts, driver: str, unit: Unit, member: int) -> tuple[object, ...]:
    return (*facts._replace(roots=frozenset(), counters=()), driver, id(unit.profiles), member)


def _group(devices: Sequence[Facts]) -> list[list[int]]:
    """Return the positions of devices that belong together, because each shares a counter with another of them."""
    leaders = list(range(len(devices)))

    def lead(position: int) -> int:
        while leaders[position] != position:
            position = leaders[position]
        return position

    takers: dict[int, int] = {}
    for position, facts in enumerate(devices):
        for counter, _ in facts.counters:
            one, other = sorted((lead(position), lead(takers.setdefault(counter, position))))
            leaders[other] = one
    groups: dict[int, list[int]] = {}
    for position in range(len(devices)):
        groups.setdefault(lead(position), []).append(position)
    return list(groups.values())


@dataclass(frozen=True, slots=True)
class _PoolUnits:
    """Makes the units of one pool."""

    pool: int
    driver: str
    counters: Free
    devices: Sequence[Facts]

    def make(self, members: Sequence[int], start: int) -> Unit:
        """Return the unit of some devices of the pool, whose first device is at position `start` of the node."""
        taken = [self.devices[each].counters for each in members]
        counters = tuple(sorted({index for each in taken for index, _ in each}))
        domains = (self.devices[each].domain for each in members)
        nodes = (self.devices[each].numa for each in members)
        return Unit(
            members=tuple(start + each for each in members),
            pool=self.pool,
            counters=counters,
            profiles=self._find_profiles(counters, taken),
            domain=(self.driver, next((each for each in domains if each != UNKNOWN), UNKNOWN)),
            numa=(self.driver, next((each for each in nodes if each != UNKNOWN), UNKNOWN)),
            is_local=all(self.devices[each].is_local for each in members),
        )

    def _find_profiles(self, counters: Sequence[int], taken: Sequence[Consumption]) -> Profiles | None:
        if not counters:
            return None
        places = {index: place for place, index in enumerate(counters)}
        whole = tuple(self.counters[index] for index in counters)
        members = tuple(tuple((places[index], amount) for index, amount in each) for each in taken)
        return make_profiles(whole, members)
