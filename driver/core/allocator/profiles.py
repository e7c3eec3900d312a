"""Devices that share counters, such as all partitions of one GPU: what taking one of them leaves for the others.

Called by `layouts` and `tallies`. GPUs of one model are equal here, so what is found out for one holds for all: objects
are shared by all nodes, and values are remembered by what is left of the counters.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from driver.core.allocator.devices import Consumption

Free = tuple[int, ...]
"""What is left of each counter."""
_MAX_KNOWN: Final = 1 << 16
"""Values remembered for one model; then all are forgotten."""
_SCALE: Final = 1000


class Profiles:
    """What devices take of the counters that they share; positions are those of `whole`."""

    def __init__(self, whole: Free, members: Sequence[Consumption]) -> None:
        self.whole = whole
        self.members = members
        self.weights = tuple(_weigh(each, whole) for each in members)
        """What each device is worth while it can still be had: its share of the counters, in parts of 1000."""
        self._values: dict[Free, int] = {}
        self._left: dict[tuple[int, Free], Free | None] = {}

    def value(self, free: Free) -> int:
        """Return the sum of the weights of all devices that can still be had."""
        found = self._values.get(free)
        if found is None:
            if len(self._values) >= _MAX_KNOWN:
                self._values.clear()
            found = sum(
                weight
                for weight, member in zip(self.weights, self.members, strict=True)
                if all(free[position] >= amount for position, amount in member)
            )
            self._values[free] = found
        return found

    def take(self, member: int, free: Free) -> Free | None:
        """Return what a device leaves; None if it cannot be had any more."""
        key = (member, free)
        if key not in self._left:
            if len(self._left) >= _MAX_KNOWN:
                self._left.clear()
            self._left[key] = self._take(member, free)
        return self._left[key]

    def _take(self, member: int, free: Free) -> Free | None:
        left = list(free)
        for position, amount in self.members[member]:
            left[position] -= amount
            if left[position] < 0:
                return None
        return tuple(left)

    def largest(self, free: Free) -> int | None:
        """Return the device of the largest weight that can still be had; None if none can."""
        order = sorted(range(len(self.members)), key=lambda member: -self.weights[member])
        return next((member for member in order if self.take(member, free) is not None), None)


def _weigh(taken: Consumption, whole: Free) -> int:
    """Return the mean share of the counters, at least 1."""
    share = sum(amount * _SCALE // whole[position] for position, amount in taken if whole[position])
    return max(1, share // len(whole))


@lru_cache(maxsize=1024)
def make_profiles(whole: Free, members: tuple[Consumption, ...]) -> Profiles:
    """Return the profiles of one model: the same object for equal ones."""
    return Profiles(whole, members)
