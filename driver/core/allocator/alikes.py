"""Which devices are alike at a point of the search, so that only one of them is tried. Called by `best`.

Alike are devices that every request of the claims sees in the same way, whose attributes compare alike in every
constraint, and whose units (the GPU that they are part of) have the same devices and the same left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from driver.core.allocator.constraints import Values, read_values
from driver.core.allocator.devices import Device
from driver.core.allocator.plans import Plan
from driver.core.allocator.standings import Place, Standing

_UNIQUE = "unique"


class Alikes:
    """The classes of the devices of one node for claims."""

    def __init__(
        self, plan: Plan, place: Place, standing: Standing, positions: Mapping[Device, int], *, with_roots: bool
    ) -> None:
        self._layout = place.layout
        self._standing = standing
        kinds: Sequence[object] = place.layout.kinds
        if with_roots:
            kinds = [(kind, facts.roots) for kind, facts in zip(kinds, place.layout.facts, strict=True)]
        names = sorted({rule.attribute for claim in plan.claims for rule in claim.rules})
        columns = [kinds, _find_uses(plan, len(kinds), positions), *(_compare(place.devices, name) for name in names)]
        numbers: dict[object, int] = {}
        self._static = [numbers.setdefault(key, len(numbers)) for key in zip(*columns, strict=True)]
        self._units = [
            numbers.setdefault(tuple(self._static[each] for each in unit.members), len(numbers))
            for unit in place.layout.units
        ]

    def find(self, position: int) -> object:
        """Return the class of a device as things stand."""
        standing = self._standing
        index = self._layout.unit_of[position]
        unit = self._layout.units[index]
        if unit.profiles is not None:
            held = () if standing.fresh[index] else tuple(each for each in unit.members if each in standing.held)
            member = self._layout.member_of[position]
            places = tuple(self._layout.member_of[each] for each in held)
            return self._units[index], member, standing.free[index], places
        if position in standing.held:
            return "held", position
        return self._static[position]


def _find_uses(plan: Plan, count: int, positions: Mapping[Device, int]) -> list[int]:
    """Return for every position the alternatives that may get it, as a set of bits."""
    uses = [0] * count
    for bit, options in enumerate(each for alternatives in plan.options for each in alternatives):
        for device in options.devices:
            uses[positions[device]] |= 1 << bit
    return uses


def _compare(devices: Sequence[Device], name: str) -> list[object]:
    """Return the values of an attribute; those that only one device has are all alike to a constraint."""
    found: list[Values | None] = []
    for device in devices:
        attribute = device.find_attribute(name)
        found.append(None if attribute is None else read_values(attribute, with_lists=True))
    counts = Counter(value for values in found for value in values or ())
    return [_UNIQUE if values and all(counts[each] == 1 for each in values) else values for values in found]
