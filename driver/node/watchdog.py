"""Listens to a vendor's health events and keeps the health of the node, a frozen value that is swapped whole.

`app` starts it for vendors that implement `contract.Health`; the scanner asks `health` when it builds the inventory.
Only this class writes it. A vendor whose event stream fails is listened to again after a pause.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from driver.contract import Health
from driver.core import health
from driver.core.health import HealthState, Place
from driver.model.devices import Snapshot
from driver.model.health import HealthEvent
from driver.model.occurrences import Emit, HealthReported, HealthUnavailable
from driver.model.slices import Device

PAUSE_SECONDS: Final = 5.0
"""Between two attempts to listen to a vendor whose stream failed: never a busy loop."""
_TICK_SECONDS: Final = 1.0
_STOP_SECONDS: Final = 3.0


class Watchdog:
    """Folds events into health on one thread and settles recovered faults on another.

    `changed` is called after each change of `health`.
    """

    def __init__(
        self, vendor: Health, changed: Callable[[], None], emit: Emit, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._vendor = vendor
        self._changed = changed
        self._emit = emit
        self._clock = clock
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._early: list[HealthEvent] | None = []
        self._since: float | None = None
        self._looked: Snapshot | None = None
        self._missing: frozenset[Place] = frozenset()
        """Whose faults are known and which the last look did not see."""
        self._threads = (
            threading.Thread(target=self._listen, name="health", daemon=True),
            threading.Thread(target=self._settle, name="health-settling", daemon=True),
        )
        self.health = HealthState()
        """All faults that hold now."""

    def start(self) -> None:
        """Begin to listen."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End both threads; a vendor looks at the stop sign at least once a second, or is left behind."""
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(_STOP_SECONDS)

    def restore(self, published: Iterable[Device], snapshot: Snapshot) -> None:
        """Take over the faults that an earlier process published, as if they had come before what has been heard since.

        So the end of such a fault counts, too, if its vendor told it before it was known here.
        """
        restored = health.restore(published, snapshot)
        with self._lock:
            early, self._early = self._early or [], None
        self._replace(
            lambda before: dataclasses.replace(functools.reduce(health.fold, early, restored), deaf=before.deaf)
        )

    def look(self, snapshot: Snapshot) -> HealthState:
        """Return the health of this hardware, without the faults of partitions that are gone. Tells nobody.

        Gone is what two looks have not seen: a fault may be heard of a partition that is newer than the last look.
        """
        with self._lock:
            if snapshot is not self._looked:
                kept = health.prune(self.health, snapshot)
                missing = self.health.faults.keys() - kept.faults.keys()
                lasting = {place: found for place, found in self.health.faults.items() if place not in self._missing}
                self.health = dataclasses.replace(self.health, faults={**lasting, **kept.faults})
                self._looked, self._missing = snapshot, frozenset(missing)
            return self.health

    def fold(self, event: HealthEvent) -> None:
        """Take one event into account."""
        self._emit(HealthReported(event.pci_address, event.cause, event.severity.name.lower(), event.message))
        with self._lock:
            if self._early is not None:
                self._early.append(event)
        self._replace(lambda before: health.fold(before, event))

    def settle(self) -> None:
        """Drop the faults that have been over for long enough."""
        self._replace(lambda before: health.settle(before, self._clock()))

    def _replace(self, change: Callable[[HealthState], HealthState]) -> None:
        with self._lock:
            before = self.health
            self.health = change(before)
            changed = before != self.health
        if changed:
            self._changed()

    def _listen(self) -> None:
        while not self._stop.is_set():
            self._since = self._clock()
            try:
                for event in self._vendor.watch_health(self._stop.is_set):
                    self.fold(event)
            except Exception as error:  # noqa: BLE001 - whatever a vendor raises, the others' devices are still served
                self._since = None
                self._go_deaf(str(error))
            self._stop.wait(PAUSE_SECONDS)

    def _go_deaf(self, reason: str) -> None:
        """Say that faults are not heard, once for each reason as long as it lasts."""
        reason = reason or "its event stream failed"
        if self.health.deaf != reason:
            self._emit(HealthUnavailable(reason))
            self._replace(lambda before: dataclasses.replace(before, deaf=reason))

    def hear(self) -> None:
        """Take it that faults are heard again, once listening has gone well for a while."""
        if self._since is not None and self._clock() - self._since >= PAUSE_SECONDS:
            self._replace(lambda before: dataclasses.replace(before, deaf=""))

    def _settle(self) -> None:
        while not self._stop.wait(_TICK_SECONDS):
            self.hear()
            if health.next_settling(self.health) is not None:
                self.settle()
