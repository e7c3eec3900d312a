"""When the next round is: soon after something that claims wait for, at leisure after the rest, never all the time.

The caches wake it from their threads; the leader waits in it. Many changes become one round, and a round that took long
is followed by a pause as long, so that a busy cluster costs at most half a core.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

_GATHER_SECONDS: Final = 0.005
"""After the first change: those that belong to it come within this time."""
_LEISURE_SECONDS: Final = 1.0
"""How long changes wait that no claim may be waiting for."""


class Pulse:
    """Wakes one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._due: float | None = None
        self._not_before = 0.0
        self._stopped = False

    def wake(self, urgent: bool = True) -> None:  # noqa: FBT001, FBT002 - the shape of `caches.Wake`
        """Ask for a round."""
        due = self._clock() + (_GATHER_SECONDS if urgent else _LEISURE_SECONDS)
        with self._changed:
            if self._due is None or due < self._due:
                self._due = due
                self._changed.notify()

    def stop(self) -> None:
        """End the waiting, now and for ever."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    @property
    def stopped(self) -> bool:
        """True after `stop`."""
        return self._stopped

    def rest(self, seconds: float) -> None:
        """Do not wake again before this time has passed."""
        self._not_before = self._clock() + seconds

    def wait(self, at_most: float | None) -> None:
        """Return when a round is due, at the latest after `at_most` seconds."""
        limit = None if at_most is None else self._clock() + at_most
        with self._changed:
            while not self._stopped:
                moments = [each for each in (self._due, limit) if each is not None]
                due = max(min(moments), self._not_before) if moments else None
                if due is not None and due <= self._clock():
                    break
                self._changed.wait(None if due is None else max(0.001, due - self._clock()))
            self._due = None
