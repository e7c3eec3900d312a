"""One node as claims see it: its devices in a scope, what of them is taken, and which of them claims may get.

Called by `cluster`. Two spots with equal keys have the same best set of devices, position by position.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from driver.core.allocator import candidates
from driver.core.allocator.constraints import read_values
from driver.core.allocator.contents import Contents
from driver.core.allocator.nodes import NodeView
from driver.core.allocator.pools import DevicePool
from driver.core.allocator.requests import CompiledClaim, Wanted
from driver.core.allocator.scopes import Scope
from driver.core.allocator.standings import Key, Place
from driver.core.allocator.usage import Usage


@dataclass(slots=True)
class Spot:
    """A node in one scope."""

    place: Place
    key: Key | None = None
    """What is taken; None if that is not known any more."""

    def find_key(self, usage: Usage) -> Key:
        """Return what is taken."""
        if self.key is None:
            self.key = self.place.find_key(usage)
        return self.key


class Node:
    """A node of the cluster and its pools."""

    __slots__ = ("pools", "spots", "view")

    def __init__(self, view: NodeView, pools: tuple[DevicePool, ...]) -> None:
        self.view = view
        self.pools = pools
        self.spots: dict[Scope, Spot] = {}

    def find_spot(self, scope: Scope) -> Spot:
        """Return the node in a scope."""
        found = self.spots.get(scope)
        if found is None:
            found = self.spots[scope] = Spot(Place(scope.narrow(self.pools, self.view)))
        return found

    def forget_usage(self) -> None:
        """Something was taken or given back."""
        for spot in self.spots.values():
            spot.key = None


def find_candidates(place: Place, claims: Sequence[CompiledClaim], contents: Contents) -> Hashable:
    """Return which devices every request may get and how they compare in constraints, without names."""
    wanted = {each.shape: each for claim in claims for slot in claim.slots for each in slot.alternatives}
    parts: list[Hashable] = [tuple(_list_positions(place, each, contents)) for each in wanted.values()]
    names = sorted({rule.attribute for claim in claims for rule in claim.rules})
    parts.extend(_list_values(place, name) for name in names)
    return tuple(parts)


def keep_candidates(place: Place, claims: Sequence[CompiledClaim], contents: Contents) -> None:
    """Keep the candidates with the pools of a node that is going to be searched."""
    for claim in claims:
        for wanted in (each for slot in claim.slots for each in slot.alternatives):
            for pool in place.pools:
                candidates.keep(pool, wanted.shape, contents.find)


def _list_positions(place: Place, wanted: Wanted, contents: Contents) -> Iterator[Hashable]:
    """Yield for each pool the positions of candidates; in short if they are all or none."""
    for pool in place.pools:
        found = contents.find(pool, wanted.shape)
        if found.faults or len(found.selected) != len(found.usable):
            yield tuple((place.positions[each], each in found.usable, each in found.faults) for each in found.selected)
        elif len(found.usable) in (0, len(pool.devices)):
            yield bool(found.usable)
        else:
            yield tuple(place.positions[each] for each in found.usable)


def _list_values(place: Place, name: str) -> Hashable:
    """Return a number for each device: equal ones for equal values of an attribute."""
    numbers: dict[Hashable, int] = {}
    found = []
    for device in place.devices:
        attribute = device.find_attribute(name)
        values = None if attribute is None else read_values(attribute, with_lists=True)
        found.append(numbers.setdefault(values, len(numbers)) if values is None or len(values) == 1 else values)
    return tuple(found)
