"""All members of a group on nodes, or none: whoever finds no place gets that of another one that finds another.

Called by `domains` for each domain. Members that can run on the fewest nodes go first, then those that need the most
devices. If one finds no place, a member of another kind makes room and is placed elsewhere, which may make a third one
move, and so on (augmenting paths, as Kuhn finds matchings). For members that each fill a node this finds a way wherever
there is one; members alike never make room for each other, so a group of equals that does not fit is refused at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from driver.core.deciding.placement import Placed, Placement
from driver.core.deciding.world import Failed, Member
from driver.model.requests import Request
from driver.model.wanted import Claim

_MOVES: Final = 5000
"""Members that are asked to make room in one domain, after which the group counts as not fitting there."""
_DEPTH: Final = 50
"""Members that move for one."""


def hold_all(
    placement: Placement, members: Sequence[Member], allowed: AbstractSet[str] | None
) -> list[Placed] | Failed:
    """Place all members or none. What is placed comes in the order of the members."""
    if len(members) == 1:
        answer = placement.place(members[0], allowed)
        return [answer] if isinstance(answer, Placed) else answer
    order = sorted(
        range(len(members)),
        key=lambda index: (placement.count_nodes(members[index], allowed), -_size(members[index]), index),
    )
    gathering = _Gathering(placement, members, allowed)
    for index in order:
        failed = gathering.add(index)
        if failed is not None:
            gathering.drop()
            return failed
    return [gathering.placed[index] for index in range(len(members))]


class _Gathering:
    """A group while it is placed."""

    def __init__(self, placement: Placement, members: Sequence[Member], allowed: AbstractSet[str] | None) -> None:
        self.placed: dict[int, Placed] = {}
        """By number of the member."""
        self._placement = placement
        self._members = members
        self._allowed = allowed
        self._kinds = [placement.kind(member) for member in members]
        self._moves = _MOVES

    def add(self, index: int) -> Failed | None:
        """Place one more member, or say why not."""
        answer = self._placement.place(self._members[index], self._allowed)
        if isinstance(answer, Placed):
            self.placed[index] = answer
            return None
        return None if self._make_room(index, set(), 0) else answer

    def drop(self) -> None:
        """Hold nothing any more."""
        for each in reversed(self.placed.values()):
            self._placement.undo(each)
        self.placed.clear()

    def _make_room(self, index: int, asked: set[int], depth: int) -> bool:
        """Place a member where another one is, which goes elsewhere."""
        asked.add(index)
        for other in list(reversed(self.placed)):
            if other in asked or self._kinds[other] == self._kinds[index]:
                continue
            if self._moves <= 0 or depth > _DEPTH:
                return False
            self._moves -= 1
            if self._swap(index, other, asked, depth):
                return True
        return False

    def _swap(self, index: int, other: int, asked: set[int], depth: int) -> bool:
        before = self.placed.pop(other)
        self._placement.undo(before)
        answer = self._placement.place(self._members[index], frozenset({before.chosen.node}))
        if isinstance(answer, Placed):
            asked.add(other)
            self.placed[index] = answer
            elsewhere = self._placement.place(self._members[other], self._allowed)
            if isinstance(elsewhere, Placed):
                self.placed[other] = elsewhere
                return True
            if self._make_room(other, asked, depth + 1):
                return True
            self._placement.undo(self.placed.pop(index))
        self._placement.redo(before)
        self.placed[other] = before
        return False


def _size(member: Member) -> int:
    return sum(count_devices(claim) for claim in member.claims)


def count_devices(claim: Claim) -> int:
    """Return the fewest free devices that satisfy a claim; access for administrators needs none that is free."""
    return sum(_least(request) for request in claim.spec.devices.requests)


def _least(request: Request) -> int:
    if request.exactly is not None and request.exactly.admin_access:
        return 0
    wishes = (request.exactly,) if request.exactly is not None else request.first_available
    return min((wish.count if wish.allocation_mode == "ExactCount" else 1 for wish in wishes), default=0)
