"""Constraints of a claim while its devices are chosen: matchAttribute and distinctAttribute. Called by `tracking`.

Each keeps the devices it has accepted as a stack, so that the last one can be taken back. A refusal names the choices
that cause it, as a set of bits, for the search to know where to go back to.
"""

from __future__ import annotations

from typing import Final

from driver.core.allocator.devices import Device
from driver.core.allocator.requests import Rule
from driver.model.published import Attribute

Values = frozenset[tuple[str, int | bool | str]]
"""Values with their kinds; equal text of a string and of a version is not the same."""
_SCALARS: Final = (("string", "string"), ("int", "int_"), ("bool", "bool_"), ("version", "version"))
_LISTS: Final = (("string", "strings"), ("int", "ints"), ("bool", "bools"), ("version", "versions"))


def read_values(attribute: Attribute, *, with_lists: bool) -> Values:
    """Return the values of an attribute; empty if its kind is unknown (a list, where lists are not understood)."""
    for kind, field in _SCALARS:
        value = getattr(attribute, field)
        if value is not None:
            return frozenset({(kind, value)})
    for kind, field in _LISTS if with_lists else ():
        values = getattr(attribute, field)
        if values is not None:
            return frozenset((kind, value) for value in values)
    return frozenset()


class Constraint:
    """One constraint and the devices that it has accepted."""

    def __init__(self, rule: Rule, *, with_lists: bool) -> None:
        self.rule = rule
        self._with_lists = with_lists
        self._accepted: list[tuple[Values, int]] = []
        self._known: dict[Device, Values | None] = {}

    def add(self, device: Device, bit: int) -> int | None:
        """Accept a device that the choice `bit` takes; or return the choices because of which it cannot be."""
        values = self.values(device)
        if values is None or (self._with_lists and not values):
            return 0
        if self._accepted:
            refusal = self._match(values) if self.rule.is_match else self._differ(values)
            if refusal is not None:
                return refusal
            if self.rule.is_match:
                values &= self._accepted[-1][0]
        self._accepted.append((values, bit))
        return None

    def remove(self) -> None:
        """Take back the device that was accepted last."""
        self._accepted.pop()

    def values(self, device: Device) -> Values | None:
        """Return a device's values of the attribute; None if it does not have it."""
        if device not in self._known:
            attribute = device.find_attribute(self.rule.attribute)
            values = None if attribute is None else read_values(attribute, with_lists=self._with_lists)
            self._known[device] = values
        return self._known[device]

    def _match(self, values: Values) -> int | None:
        """All devices share a value: what they have in common so far is on top of the stack."""
        return None if values & self._accepted[-1][0] else self._everything()

    def _differ(self, values: Values) -> int | None:
        """No two devices share a value."""
        if not values:
            return self._everything()
        clashes = [bit for known, bit in self._accepted if known & values]
        return sum({*clashes}) if clashes else None

    def _everything(self) -> int:
        return sum({bit for _, bit in self._accepted})
