"""Keeps the inventory true: looks for changes cheaply and often, asks the hardware when it is worthwhile.

`app` starts it; the publisher and the preparer read `inventory`, a frozen value that is swapped whole. Only this class
writes it. It never holds a device: each look is one call of the vendor's `snapshot`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from driver.model.devices import Inventory
from driver.model.errors import DriverError
from driver.model.occurrences import Emit, HardwareScanned, HardwareUnavailable

Look = TypeVar("Look")
Look_co = TypeVar("Look_co", covariant=True)


class Sight(Protocol[Look_co]):
    """What is looked at: a vendor, or whatever shows more than one vendor's hardware."""

    @property
    def name(self) -> str:
        """Who answers, for messages."""

    def fingerprint(self) -> str:
        """Return a text that changes when a new look is worthwhile."""

    def snapshot(self) -> Look_co:
        """Look now. Raises `Unavailable` while the driver is not there (yet)."""


_LAST_LOOK_SECONDS: Final = 5.0
_SLOW_LOOK_SECONDS: Final = 30.0
"""After this long a look that has not ended is told: a driver that hangs says nothing by itself."""


class Scanner(Generic[Look]):
    """Watches the hardware of a node on a thread of its own, and builds an inventory of each look.

    `changed` is called after each change of `inventory`, also when it becomes None (the driver went away).
    """

    def __init__(  # noqa: PLR0913 - the two intervals and the clock are what tests set
        self,
        sight: Sight[Look],
        build: Callable[[Look], Inventory],
        emit: Emit,
        changed: Callable[[], None],
        *,
        scan_interval: float,
        rescan_interval: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sight = sight
        self._build = build
        self._emit = emit
        self._changed = changed
        self._scan_interval = scan_interval
        self._rescan_interval = rescan_interval
        self._clock = clock
        self._lock = threading.Lock()  # one builder at a time, so that an older look never replaces a newer one
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scanner", daemon=True)
        self._fingerprint: str | None = None
        self._last: Look | None = None
        self._looked_at = 0.0
        self._reason = ""
        self._failures = 0
        self.inventory: Inventory | None = None
        """The latest look, or None while the vendor's driver is not there."""
        self.scanned = threading.Event()
        """Set once the hardware was looked at for the first time, whatever the outcome."""

    def start(self) -> None:
        """Look for the first time, then keep looking."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; a look under way may finish, but a driver that hangs cannot hold up the end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_LAST_LOOK_SECONDS)

    @property
    def alive(self) -> bool:
        """True while the thread runs; only a defect ends it before `stop`."""
        return self._thread.is_alive()

    def rebuild(self) -> None:
        """Derive the inventory again from the last look: something else it depends on changed (health, mode)."""
        with self._lock:
            if self.inventory is not None and self._last is not None:
                found = self._build(self._last)
                self._tell(found, None)
                self._replace(found)

    def scan(self) -> None:
        """Look once if the fingerprint changed, the last look failed, or it is long ago."""
        fingerprint = self._read_fingerprint()
        due = self._clock() - self._looked_at >= self._rescan_interval
        if fingerprint == self._fingerprint and not due and not self._failures:
            return
        self._look(fingerprint)
        self.scanned.set()

    def _look(self, fingerprint: str) -> None:
        """Ask the hardware, outside of the lock: it may hang, and health must not wait for it."""
        self._looked_at = self._clock()
        text = f"the driver has not answered for {_SLOW_LOOK_SECONDS:.0f} s"
        slow = threading.Timer(_SLOW_LOOK_SECONDS, self._complain, [text])
        slow.daemon = True
        slow.start()
        try:
            look = self._sight.snapshot()
            with self._lock:
                found, self._last = self._build(look), look
                self._accept(found, self._clock() - self._looked_at)
        except DriverError as error:
            self._fail(str(error))
        except Exception as error:  # noqa: BLE001 - a bug in a vendor must not end the plugin; it is reported and retried
            self._fail(f"unexpected error in vendor {self._sight.name}: {error!r}")
        else:
            self._fingerprint, self._failures = fingerprint, 0
        finally:
            slow.cancel()

    def _accept(self, inventory: Inventory, seconds: float) -> None:
        """Tell what was found if it is news, also that the hardware is back unchanged, and offer it."""
        self._tell(inventory, seconds)
        self._reason = ""
        self._replace(inventory)

    def _tell(self, inventory: Inventory, seconds: float | None) -> None:
        """Tell what is offered and what not, if that is news. That a partition was made for a claim is none."""
        before = self.inventory
        is_same = (
            before is not None
            and before.omitted == inventory.omitted
            and [entry.name for entry in before.entries] == [entry.name for entry in inventory.entries]
        )
        is_back = seconds is not None and self._reason != ""
        if not is_same or is_back:
            omitted = tuple((failure.where, failure.reason) for failure in inventory.omitted)
            self._emit(HardwareScanned(seconds, len(inventory.entries), omitted))

    def _run(self) -> None:
        while not self._stop.is_set():
            self.scan()
            self._stop.wait(self._scan_interval)

    def _read_fingerprint(self) -> str:
        try:
            return self._sight.fingerprint()
        except Exception as error:  # noqa: BLE001 - as above; the look itself will say what is wrong
            return f"failed: {error}"

    def _fail(self, reason: str) -> None:
        self._failures += 1
        self._complain(reason)
        # One failed look may be a driver that is just being reloaded: devices are withdrawn after the second.
        if self._failures > 1 or self.inventory is None:
            with self._lock:
                self._replace(None)

    def _complain(self, reason: str) -> None:
        if reason != self._reason:
            self._reason = reason
            self._emit(HardwareUnavailable(reason))

    def _replace(self, inventory: Inventory | None) -> None:
        before, self.inventory = self.inventory, inventory
        if before != inventory or not self.scanned.is_set():
            self._changed()
