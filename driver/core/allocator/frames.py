"""What holds of claims on all nodes that are alike, whatever is taken of them. Called by `best`; kept by `surveys`.

Above all, which devices are alike at a point of the search, so that only one of them is tried: devices that every
request of the claims sees in the same way, whose attributes compare alike in every constraint, and whose units (the GPU
that they are part of) have the same devices and the same left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from driver.core.allocator import candidates
from driver.core.allocator.constraints import Values, read_values
from driver.core.allocator.devices import Device
from driver.core.allocator.layouts import Facts
from driver.core.allocator.requests import CompiledClaim, Wanted
from driver.core.allocator.selectors import Evaluate
from driver.core.allocator.standings import Place, Standing
from driver.core.allocator.tallies import Cost

_UNIQUE = "unique"


class Frame:
    """Claims and a layout."""

    def __init__(
        self, claims: Sequence[CompiledClaim], place: Place, evaluate: Evaluate, *, with_roots: bool = False
    ) -> None:
        """`with_roots`: PCIe roots matter, whatever the claims ask for."""
        self._layout = layout = place.layout
        slots = [slot.alternatives for claim in claims for slot in claim.slots]
        found = [[_find_positions(place, each, evaluate) for each in alternatives] for alternatives in slots]
        uses = [0] * len(place.devices)
        for bit, positions in enumerate(each for alternatives in found for each in alternatives):
            for position in positions:
                uses[position] |= 1 << bit
        rooted = {layout.drivers[at] for at, use in enumerate(uses) if use and layout.facts[at].roots}
        self.has_pairs = with_roots or len(rooted) > 1
        """True if devices of two drivers with PCIe roots may come together."""
        shared = any(use and layout.facts[at].shares is not None for at, use in enumerate(uses))
        self.is_plain = not self.has_pairs and not shared
        """True if what a device costs is known before it is taken."""
        self.least = [
            [
                _find_least([layout.facts[at] for at in positions], wanted)
                for positions, wanted in zip(*both, strict=True)
            ]
            for both in zip(found, slots, strict=True)
        ]
        """For every request and alternative the least that one device costs."""
        self._classify(claims, place, uses)

    def _classify(self, claims: Sequence[CompiledClaim], place: Place, uses: Sequence[int]) -> None:
        names = sorted({rule.attribute for claim in claims for rule in claim.rules})
        columns: list[Sequence[object]] = [self._layout.kinds, uses, *(_compare(place.devices, name) for name in names)]
        if self.has_pairs:
            columns.append([facts.roots for facts in self._layout.facts])
        numbers: dict[object, int] = {}
        self._static = [numbers.setdefault(key, len(numbers)) for key in zip(*columns, strict=True)]
        self._units = [
            numbers.setdefault(tuple(self._static[each] for each in unit.members), len(numbers))
            for unit in self._layout.units
        ]

    def find_class(self, position: int, standing: Standing) -> object:
        """Return the class of a device as things stand: those of one class are alike."""
        index = self._layout.unit_of[position]
        free = standing.free[index]
        if free is not None:
            return self._units[index], self._layout.member_of[position], free, standing.taken[index]
        return ("held", position) if standing.taken[index] else self._static[position]


def _find_positions(place: Place, wanted: Wanted, evaluate: Evaluate) -> list[int]:
    """Return the devices that a request may get, if they are free."""
    found = [candidates.find(pool, wanted.shape, evaluate) for pool in place.pools]
    devices = (device for each in found for device in (each.selected if wanted.is_all else each.usable))
    return [place.positions[device] for device in devices]


def _find_least(facts: Sequence[Facts], wanted: Wanted) -> Cost:
    if not facts or any(each.shares is not None for each in facts):
        return Cost()
    return Cost(
        memory=min(each.memory for each in facts),
        rest=min(each.rest for each in facts),
        broken=0 if wanted.admin_access or any(each.counters for each in facts) else 1,
    )


def _compare(devices: Sequence[Device], name: str) -> list[object]:
    """Return the values of an attribute; those that only one device has are all alike to a constraint."""
    found: list[Values | None] = []
    for device in devices:
        attribute = device.find_attribute(name)
        found.append(None if attribute is None else read_values(attribute, with_lists=True))
    counts = Counter(value for values in found for value in values or ())
    return [_UNIQUE if values and all(counts[each] == 1 for each in values) else values for values in found]
