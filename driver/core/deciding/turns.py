"""Whose turn it is when a round has no time for all units: who was not looked at comes before who was, in vain.

Kept by `memory` from round to round. Rounds that are cut short go on where the one before ended until every unit was
looked at once; then the first in line is the first again. Units that are new are looked at in their place in the line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from driver.core.deciding.world import Failed, Unit

Key = tuple[str, ...]
"""The claims of a unit, by UID."""


@dataclass(slots=True)
class Turn:
    """One round."""

    passed: Mapping[Key, Failed] = field(default_factory=dict)
    """Units that an earlier round of this pass looked at in vain."""
    older: Mapping[Key, Failed] = field(default_factory=dict)
    """What was last found out about the others."""
    found: dict[Key, Failed] = field(default_factory=dict)
    late: dict[Key, Failed | None] = field(default_factory=dict)

    def recall(self, unit: Unit) -> Failed | None:
        """Return why a unit cannot be placed if this pass has found it out already."""
        return self.passed.get(identify(unit))

    def postpone(self, unit: Unit) -> Failed | None:
        """Leave a unit to a later round; return why it could not be placed when it was last looked at."""
        key = identify(unit)
        self.late[key] = self.older.get(key)
        return self.late[key]

    def note(self, unit: Unit, failed: Failed) -> None:
        """Remember why a unit cannot be placed."""
        key = identify(unit)
        if key not in self.late:
            self.found[key] = failed

    @property
    def is_cut_short(self) -> bool:
        """True if there was no time for all."""
        return bool(self.late)


def identify(unit: Unit) -> Key:
    """Return what stands for a unit from round to round."""
    return tuple(claim.metadata.uid for member in unit.members for claim in member.claims)


def begin(before: Turn, units: Iterable[Unit]) -> Turn:
    """Return the turn after another one: it goes on if that was cut short, else it begins anew."""
    if not before.is_cut_short:
        return Turn(older=before.found)
    there = {identify(unit) for unit in units}
    passed = {key: failed for key, failed in before.found.items() if key in there}
    older = {key: failed for key, failed in before.late.items() if failed is not None and key in there}
    return Turn(passed, older)
