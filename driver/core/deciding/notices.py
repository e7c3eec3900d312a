"""Which of the reasons why claims wait are told now: each once, again when it is another, and from time to time.

Called by the controller after each round. Promises: no object gets more than one Event a minute for messages that only
differ in their numbers, a short wait is not told at all, and a round tells a bounded number; the others have their turn
in later rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from driver.core.deciding.world import Waiting

_REWORD_SECONDS: Final = 60.0
_MOST: Final = 100
"""Notices a round."""


@dataclass(slots=True)
class _Told:
    """What is known of one object."""

    since: float
    reason: str = ""
    message: str = ""
    at: float = 0.0
    looked: float = 0.0


class Notices:
    """One writer: the leader's thread. Times are those of one monotonic clock, in seconds."""

    def __init__(self, after: float, again: float) -> None:
        """`after` this time of waiting it is told, and every `again` seconds while it stays true."""
        self._after = after
        self._again = again
        self._told: dict[str, _Told] = {}

    def choose(
        self, waiting: Iterable[Waiting], now: float, has_time: Callable[[], bool] = lambda: True
    ) -> list[Waiting]:
        """Return what to tell. Claims that do not wait any more are forgotten.

        `has_time` says whether another sentence may be made now; those that were not have their turn next.
        """
        known: dict[str, _Told] = {}
        chosen: list[Waiting] = []
        for each in waiting:
            uid = each.claim.metadata.uid
            told = known[uid] = self._told.get(uid) or _Told(now)
            if len(chosen) < _MOST and self._is_due(each, told, now) and has_time():
                told.looked = now
                if each.reason.value != told.reason or each.text != told.message or now >= told.at + self._again:
                    told.reason, told.message, told.at = each.reason.value, each.text, now
                    chosen.append(each)
        self._told = known
        return chosen

    def next_in(self, now: float) -> float | None:
        """Return the seconds until a claim has waited long enough to be told of; None if there is no such claim."""
        pauses = [told.since + self._after - now for told in self._told.values() if not told.reason]
        return max(0.0, min(pauses)) if pauses else None

    def _is_due(self, waiting: Waiting, told: _Told, now: float) -> bool:
        """Say whether it is time to look at what it says: at once if the reason is another, else now and then."""
        if now < told.since + self._after:
            return False
        return waiting.reason.value != told.reason or now >= told.looked + min(_REWORD_SECONDS, self._again)
