"""Which of the reasons why claims wait are told now: each once, again when it is another, and from time to time.

Called by the controller after each round. Promises: no object gets more than one Event a minute for messages that only
differ in their numbers, nor many for reasons that come and go; a short wait is not told at all; all together are told
at a bounded rate, and those who were not have their turn later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from driver.core.deciding.world import Waiting

_REWORD_SECONDS: Final = 60.0
_MOST: Final = 100.0
"""Notices at once."""
_PER_SECOND: Final = 20.0
"""Notices in the long run: 5,000 claims that begin to wait together are told of within five minutes."""
_FEW: Final = 20.0
"""Notices for which it pays to do a round."""
_FIRST_GAP: Final = 5.0
_LONGEST_GAP: Final = 300.0


@dataclass(slots=True)
class _Told:
    """What is known of one object."""

    since: float
    reason: str = ""
    message: str = ""
    at: float = float("-inf")
    looked: float = 0.0
    gap: float = 0.0
    """Seconds after `at` before another reason is told; longer and longer while reasons come and go."""


class Notices:
    """One writer: the leader's thread. Times are those of one monotonic clock, in seconds."""

    def __init__(self, after: float, again: float) -> None:
        """`after` this time of waiting it is told, and every `again` seconds while it stays true."""
        self._after = after
        self._again = again
        self._told: dict[str, _Told] = {}
        self._left = _MOST
        self._left_at = float("-inf")

    def choose(
        self, waiting: Iterable[Waiting], now: float, has_time: Callable[[], bool] = lambda: True
    ) -> list[Waiting]:
        """Return what to tell. Claims that do not wait any more are forgotten.

        `has_time` says whether another sentence may be made now; those that were not have their turn next.
        """
        self._refill(now)
        known: dict[str, _Told] = {}
        chosen: list[Waiting] = []
        for each in waiting:
            uid = each.claim.metadata.uid
            told = known[uid] = self._told.get(uid) or _Told(now)
            if self._left >= 1 and self._is_due(each, told, now) and has_time():
                told.looked = now
                if each.reason.value != told.reason or each.text != told.message or now >= told.at + self._again:
                    _note(told, each, now)
                    self._left -= 1
                    chosen.append(each)
        self._told = known
        return chosen

    def next_in(self, now: float) -> float | None:
        """Return the seconds until a claim has waited long enough to be told of; None if there is no such claim."""
        pauses = [told.since + self._after - now for told in self._told.values() if not told.reason]
        return max(0.0, min(pauses), (_FEW - self._left) / _PER_SECOND) if pauses else None

    def _refill(self, now: float) -> None:
        self._left = min(_MOST, self._left + max(0.0, now - self._left_at) * _PER_SECOND)
        self._left_at = now

    def _is_due(self, waiting: Waiting, told: _Told, now: float) -> bool:
        """Say whether it is time to look at what it says: soon if the reason is another, else now and then."""
        if now < told.since + self._after:
            return False
        if waiting.reason.value != told.reason:
            return now >= told.at + told.gap
        return now >= told.looked + min(_REWORD_SECONDS, self._again)


def _note(told: _Told, waiting: Waiting, now: float) -> None:
    if told.reason and waiting.reason.value != told.reason:
        was_steady = now >= told.at + 2 * _LONGEST_GAP
        told.gap = _FIRST_GAP if was_steady or not told.gap else min(2 * told.gap, _LONGEST_GAP)
    told.reason, told.message, told.at = waiting.reason.value, waiting.text, now
