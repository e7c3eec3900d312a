"""What the devices chosen so far cost: the objective of `best-fit`, added up device by device and undone in reverse.

Called by `best`. `docs/allocator.md` states the objective and why. Every part only grows while devices are added (the
pairs under PCIe roots excepted, which are counted at the end), so what is added up is a lower bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from driver.core.allocator.capacities import Amounts
from driver.core.allocator.layouts import UNKNOWN, Unit
from driver.core.allocator.profiles import Free
from driver.core.allocator.standings import Room, Standing
from driver.core.allocator.tracking import Taken
from driver.model.policies import Policy, Preference
from driver.model.quantities import NANO

Companion = tuple[str, frozenset[str]]
"""Driver and PCIe roots of a device that the pod has already."""


class Cost(NamedTuple):
    """What devices cost; of two sets the one with the smaller cost is better, compared part by part in this order."""

    domains: int = 0
    """Interconnect domains beyond the first, summed over claims."""
    nodes: int = 0
    """NUMA nodes beyond the first, summed over claims."""
    unpaired: int = 0
    """Devices without a device of another driver under their PCIe root."""
    memory: int = 0
    """Bytes of all devices: what is asked for is the same for all sets, so less is closer to it."""
    rest: int = 0
    """Sum of all other capacities."""
    broken: int = 0
    """Units of which nothing was taken before: whole GPUs, taken or broken up."""
    domain_loss: int = 0
    """How much the squares of the numbers of whole units shrink, summed over interconnect domains."""
    node_loss: int = 0
    """The same over NUMA nodes."""
    profile_loss: int = 0
    """Weights of the partitions that cannot be had any more."""

    def plus(self, other: Cost) -> Cost:
        """Return the sum."""
        return Cost(*map(int.__add__, self, other))

    def times(self, count: int) -> Cost:
        """Return the cost of so many."""
        return Cost(*(part * count for part in self))


class _Saved(NamedTuple):
    """What `pop` puts back."""

    position: int
    claim: int
    cost: Cost
    free: Free | None
    fresh: bool
    room: Room | None
    was_held: bool
    members: tuple[int, ...]


class Tally:
    """The cost of the devices chosen so far. Changes its standing, and gives it back as it was."""

    def __init__(self, standing: Standing, policies: Sequence[Policy], companions: Sequence[Companion] = ()) -> None:
        self.standing = standing
        self.layout = standing.layout
        self.cost = Cost()
        self._companions = companions
        self._saved: list[_Saved] = []
        self._heeds = [
            (each.interconnect is not Preference.IGNORE, each.numa is not Preference.IGNORE) for each in policies
        ]
        self._links: list[tuple[dict[int, int], dict[int, int]]] = [({}, {}) for _ in policies]
        """Devices of each claim by interconnect domain, and by NUMA node."""
        self._whole: dict[tuple[str, int], int] = {}
        """Fresh units by driver and interconnect domain or NUMA node, whose numbers never coincide."""
        for unit, is_fresh in zip(self.layout.units, standing.fresh, strict=True):
            if is_fresh:
                self._resize(unit, 1)

    @property
    def positions(self) -> tuple[int, ...]:
        """The devices chosen, in order."""
        return tuple(each.position for each in self._saved)

    def price(self, position: int, claim: int, amounts: Amounts | None) -> Cost:
        """Return what a device would add; `amounts` are those of a share."""
        index = self.layout.unit_of[position]
        unit, facts = self.layout.units[index], self.layout.facts[position]
        is_fresh = self.standing.fresh[index]
        domain, node = self._find_links(position, claim)
        domains, nodes = self._links[claim]
        return Cost(
            int(domain is not None and bool(domains) and domain not in domains),
            int(node is not None and bool(nodes) and node not in nodes),
            0,
            facts.memory if amounts is None else _measure(amounts, is_memory=True),
            facts.rest if amounts is None else _measure(amounts, is_memory=False),
            int(is_fresh),
            self._shrink(unit.domain) if is_fresh else 0,
            self._shrink(unit.numa) if is_fresh else 0,
            self._lose(position, index, unit, amounts),
        )

    def push(self, taken: Taken, position: int) -> None:
        """Add a device that the ledger has taken."""
        standing, index = self.standing, self.layout.unit_of[position]
        price = self.price(position, taken.claim, taken.consumed)
        room = standing.room.get(position)
        is_fresh, is_held = standing.fresh[index], position in standing.held
        members = standing.taken[index]
        self._saved.append(
            _Saved(position, taken.claim, self.cost, standing.free[index], is_fresh, room, is_held, members)
        )
        self.cost = self.cost.plus(price)
        self._link(position, taken.claim, 1)
        if is_fresh:
            standing.fresh[index] = False
            self._resize(self.layout.units[index], -1)
        if taken.took_counters:
            standing.free[index] = self._left(position, index)
        if taken.consumed is not None:
            standing.room[position] = self._take_room(position, taken.consumed)
        standing.held.add(position)
        standing.taken[index] = tuple(sorted((*standing.taken[index], self.layout.member_of[position])))

    def pop(self) -> None:
        """Take the last device back."""
        saved, standing = self._saved.pop(), self.standing
        index = self.layout.unit_of[saved.position]
        self.cost = saved.cost
        self._link(saved.position, saved.claim, -1)
        if saved.fresh:
            standing.fresh[index] = True
            self._resize(self.layout.units[index], 1)
        standing.free[index] = saved.free
        standing.taken[index] = saved.members
        standing.room.pop(saved.position, None)
        if saved.room is not None:
            standing.room[saved.position] = saved.room
        if not saved.was_held:
            standing.held.discard(saved.position)

    def is_free(self, position: int) -> bool:
        """Say whether a device that is given away as a whole can still be had, as far as is known here."""
        index = self.layout.unit_of[position]
        if position in self.standing.held and position not in self.standing.room:
            return False
        return not self.layout.units[index].counters or self._left(position, index) is not None

    def is_paired(self, position: int) -> bool:
        """Say whether a device chosen or given before, of another driver, is under the PCIe root of a device."""
        facts, driver = self.layout.facts, self.layout.drivers[position]
        roots = facts[position].roots
        return any(other != driver and roots & others for other, others in self._companions) or any(
            self.layout.drivers[each.position] != driver and roots & facts[each.position].roots for each in self._saved
        )

    def finish(self) -> Cost:
        """Return the cost of all devices, with those that are not paired. Of one driver alone nothing can be paired."""
        rooted = [each for each in self.positions if self.layout.facts[each].roots]
        drivers = {self.layout.drivers[each] for each in rooted} | {driver for driver, _ in self._companions}
        if len(drivers) < 2:
            return self.cost
        return self.cost._replace(unpaired=sum(not self.is_paired(each) for each in rooted))

    def _find_links(self, position: int, claim: int) -> tuple[int | None, int | None]:
        """Return the domain and the NUMA node to count; a device that has none is alone in one of its own."""
        facts = self.layout.facts[position]
        heeds_domain, heeds_node = self._heeds[claim]
        own = UNKNOWN - 1 - position
        domain = facts.domain if facts.domain != UNKNOWN else own
        node = facts.numa if facts.numa != UNKNOWN else own
        return domain if heeds_domain and facts.is_linkable else None, node if heeds_node else None

    def _link(self, position: int, claim: int, sign: int) -> None:
        for counts, value in zip(self._links[claim], self._find_links(position, claim), strict=True):
            if value is not None:
                counts[value] = counts.get(value, 0) + sign
                if not counts[value]:
                    del counts[value]

    def _resize(self, unit: Unit, sign: int) -> None:
        for key in (unit.domain, unit.numa):
            self._whole[key] = self._whole.get(key, 0) + sign

    def _shrink(self, key: tuple[str, int]) -> int:
        """Return how much the square of the number of fresh units shrinks if one goes."""
        return 0 if key[1] == UNKNOWN else 2 * self._whole[key] - 1

    def _left(self, position: int, index: int) -> Free | None:
        profiles, free = self.layout.units[index].profiles, self.standing.free[index]
        return profiles.take(self.layout.member_of[position], free) if profiles and free is not None else None

    def _lose(self, position: int, index: int, unit: Unit, amounts: Amounts | None) -> int:
        """Return how much of what can still be had of a unit is lost."""
        if amounts is not None and not unit.counters:
            room = self._take_room(position, amounts)
            now, then = (
                self.standing.headroom(position, self.standing.room.get(position)),
                self.standing.headroom(position, room),
            )
            return now**2 - then**2
        free, left = self.standing.free[index], self._left(position, index)
        if (
            unit.profiles is None
            or free is None
            or left is None
            or (amounts is not None and position in self.standing.held)
        ):
            return 0
        return unit.profiles.value(free) - unit.profiles.value(left)

    def _take_room(self, position: int, amounts: Amounts) -> Room:
        room = self.standing.room.get(position)
        shares = self.layout.facts[position].shares or ()
        return {
            each.name: (each.value.nanos if room is None else room[each.name]) - amounts[each.name].nanos
            for each in shares
        }


def _measure(amounts: Amounts, *, is_memory: bool) -> int:
    chosen = (each.nanos for name, each in amounts.items() if (name.rpartition("/")[2] == "memory") is is_memory)
    return sum(chosen) // NANO
