"""The thread that leads: opens a term when the elector wins, does rounds while it lasts, tells what came of them.

Made by `app`. It survives every failure: a term that cannot be opened or a round that fails is tried again after a
growing pause, and a term that ended is dropped with all that it knew.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from driver.controller.allocation import Devices
from driver.controller.caches import Caches
from driver.controller.pulses import Pulse
from driver.controller.telling import Teller
from driver.controller.terms import Outcome, Report, Term, TermEnded
from driver.core.deciding import demands
from driver.core.deciding.notices import Notices
from driver.core.deciding.world import Waiting, World
from driver.model.occurrences import (
    AllocationFailed,
    AllocationReturned,
    ClaimAllocated,
)
from driver.telemetry.controller_metrics import ControllerMetrics

_LOOK_SECONDS: Final = 0.05
_STANDBY_SECONDS: Final = 5.0
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 30.0
_FOREIGN_LIMIT: Final = 0.5
"""Seconds that one such look may take; who is not reached has the next turn."""
_TELLING_LIMIT: Final = 0.5
"""Seconds of a round in which sentences about waiting claims may be begun."""
_MEASURE_SECONDS: Final = 15.0
"""Between two measurements of what is left in one piece."""
_JOIN: Final = 5.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What the leader works with."""

    caches: Caches
    devices: Devices
    pulse: Pulse
    teller: Teller
    metrics: ControllerMetrics
    term: Callable[[], int | None]
    """The number of the term, None while somebody else leads."""
    open_term: Callable[[int], Term]
    make_notices: Callable[[], Notices]
    explain_every: float
    """Seconds between two looks at claims that kube-scheduler allocates."""


class Leader:
    """Runs on a thread of its own until it is stopped."""

    def __init__(self, parts: Parts, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._parts = parts
        self._clock = clock
        self._failures = 0
        self._lead: _Lead | None = None
        self._thread = threading.Thread(target=self._run, name="controller", daemon=True)

    def start(self) -> None:
        """Begin to wait for a term."""
        self._thread.start()

    def stop(self) -> None:
        """End after the write under way; nothing is written after this has returned."""
        self._parts.pulse.stop()
        if self._thread.is_alive():
            self._thread.join(_JOIN)

    @property
    def alive(self) -> bool:
        """True while the thread runs; only a defect ends it before `stop`."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._parts.pulse.stopped:
            try:
                pause = self._turn()
                self._failures = 0
            except TermEnded:
                self._drop()
                pause = 0.0
            except Exception as error:  # noqa: BLE001 - the leader must not end: it tells and tries again
                self._failures += 1
                self._parts.teller.tell_failure(error)
                pause = min(_FIRST_PAUSE * 2.0 ** min(self._failures, 16), _LONGEST_PAUSE)
                self._parts.pulse.rest(pause)
            self._parts.pulse.wait(pause)
        self._drop()

    def _turn(self) -> float | None:
        """Do what is next; return the seconds after which to do so again even if nothing changes."""
        number = self._parts.term()
        if number is None:
            self._drop()
            return _STANDBY_SECONDS
        if self._lead is None or self._lead.number != number:
            self._drop()
            self._lead = _Lead(self._parts, number, self._clock)
        return self._lead.turn()

    def _drop(self) -> None:
        lead, self._lead = self._lead, None
        if lead is not None:
            lead.close()


class _Lead:
    """One term, with everything that is only known in it."""

    def __init__(self, parts: Parts, number: int, clock: Callable[[], float]) -> None:
        self.number = number
        self._parts = parts
        self._clock = clock
        self._term = parts.open_term(number)
        self._is_open = False
        self._notices = parts.make_notices()
        self._foreign: dict[str, Waiting] = {}
        self._foreign_at = float("-inf")
        self._measured_at = float("-inf")

    def close(self) -> None:
        """Forget what was followed for this term."""
        self._parts.caches.close_claims()
        self._parts.metrics.forget()

    def turn(self) -> float | None:
        """Open the term, wait for the caches, or do a round."""
        caches = self._parts.caches
        if not self._is_open:
            self._term.open()
            caches.open_claims()
            self._is_open = True
        synced = not caches.missing
        self._parts.metrics.note_caches(dataclasses.asdict(caches.sizes), synced=synced)
        return self._do_round() if synced else _LOOK_SECONDS

    def _do_round(self) -> float | None:
        parts, began = self._parts, self._clock()
        parts.devices.refresh()
        report = self._term.step(parts.caches.world(), parts.devices.stock, parts.devices.ask)
        self._tell_outcomes(report)
        waiting = [*report.decision.waiting, *self._explain_foreign(report)]
        deadline = self._clock() + _TELLING_LIMIT
        for notice in self._notices.choose(waiting, self._clock(), lambda: self._clock() < deadline):
            parts.teller.tell_waiting(notice, report.decision.consumers.get(demands.key(notice.claim), ()))
        self._measure(report.world)
        now = self._clock()
        parts.metrics.note_round(now - began, Counter(each.reason.value for each in waiting))
        parts.pulse.rest(now - began)
        if report.allocated or report.returned:
            parts.pulse.wake()
        look_again = self._next_look(report, now)
        pauses = (report.retry_in, self._notices.next_in(now), parts.devices.again_in, look_again)
        return _earliest(*pauses, _LONGEST_PAUSE)

    def _measure(self, world: World) -> None:
        if self._clock() >= self._measured_at + _MEASURE_SECONDS:
            found = self._parts.devices.measure(world)
            self._parts.metrics.note_devices(found.free, found.largest)
            self._measured_at = self._clock()

    def _tell_outcomes(self, report: Report) -> None:
        teller = self._parts.teller
        now = self._clock()
        for outcome in report.allocated:
            if outcome.error is None:
                waited = now - (self._parts.caches.arrival(outcome.claim) or now)
                teller.tell(ClaimAllocated(str(outcome.claim), outcome.node, outcome.devices, waited))
                teller.tell_allocated(outcome.claim, outcome.node, outcome.devices)
            else:
                teller.tell(_describe_failure(outcome))
        for outcome, why in report.returned:
            returned = AllocationReturned(str(outcome.claim), why)
            teller.tell(_describe_failure(outcome) if outcome.error else returned)

    def _explain_foreign(self, report: Report) -> Iterable[Waiting]:
        """Return why claims wait that kube-scheduler allocates; looked at from time to time, told as it was then."""
        now, foreign = self._clock(), report.decision.foreign
        if now >= self._foreign_at + self._parts.explain_every:
            found = self._parts.devices.explain_foreign(report.world, foreign, self._clock, now + _FOREIGN_LIMIT)
            self._foreign.update((each.claim.metadata.uid, each) for each in found)
            self._foreign_at = self._clock()
        uids = {claim.metadata.uid for claim, _ in foreign}
        self._foreign = {uid: each for uid, each in self._foreign.items() if uid in uids}
        return (*self._foreign.values(), *report.decision.idle)

    def _next_look(self, report: Report, now: float) -> float | None:
        """Return the seconds until claims are looked at of which nobody can say yet why they wait; None without any."""
        is_unexplained = any(claim.metadata.uid not in self._foreign for claim, _ in report.decision.foreign)
        return max(0.0, self._foreign_at + self._parts.explain_every - now) if is_unexplained else None


def _describe_failure(outcome: Outcome) -> AllocationFailed:
    return AllocationFailed(str(outcome.claim), type(outcome.error).__name__, str(outcome.error))


def _earliest(*pauses: float | None) -> float | None:
    return min((each for each in pauses if each is not None), default=None)
