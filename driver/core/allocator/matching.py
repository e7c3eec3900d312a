"""Bipartite matching: can everybody have something of its own? Called by `bounds`; knows nothing of devices."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from typing import TypeVar

Thing = TypeVar("Thing", bound=Hashable)


def find_crowd(wishes: Sequence[Collection[Thing]]) -> list[int]:
    """Return some who together want fewer things than they are (Hall's theorem); nobody if all can be served.

    `wishes` says for each what would do; each gets one thing, and nothing is given twice. Augmenting paths: polynomial.
    """
    holder: dict[Thing, int] = {}
    for start, _ in enumerate(wishes):
        reached = _serve(start, wishes, holder)
        if reached:
            return reached
    return []


def _serve(start: int, wishes: Sequence[Collection[Thing]], holder: dict[Thing, int]) -> list[int]:
    """Serve one more, moving others to something else where needed. Return who was asked in vain, or nobody."""
    came_from: dict[Thing, int] = {}
    asked = [start]
    for person in asked:
        for thing in wishes[person]:
            if thing in came_from:
                continue
            came_from[thing] = person
            if thing not in holder:
                _shift(thing, start, came_from, holder)
                return []
            asked.append(holder[thing])
    return asked


def _shift(thing: Thing, start: int, came_from: dict[Thing, int], holder: dict[Thing, int]) -> None:
    """Give a free thing to who found it, what that one had to who found that, and so on back to the start."""
    held = {person: each for each, person in holder.items()}
    while True:
        person = came_from[thing]
        before = held.get(person)
        holder[thing] = person
        if person == start or before is None:
            return
        thing = before
