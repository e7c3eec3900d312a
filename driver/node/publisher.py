"""Keeps the slices of this node published: one worker that publishes whenever something may have changed.

`app` composes and starts it. It wakes up because the inventory changed (`wake`), because others touched our slices (the
kubelet deletes them when it restarts, a second instance writes them during an upgrade), because a round failed, or
once in a while. Reasons that come together are one round; a reason that comes during a round is another one.
Promises: the first round runs at once; it never gives up; slices are left in place at the end, because the next
instance of the plugin takes them over. Must not know the kubelet, vendors or records.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from driver.kube import slices
from driver.kube.client import Client
from driver.kube.watching import Change, Pace, Source, Watch, What
from driver.model.devices import Inventory
from driver.model.errors import Conflict, DriverError, Unavailable
from driver.model.occurrences import Emit, PublishFailed, WatchFailed
from driver.model.slices import ResourceSlice
from driver.node.publishing import Place, Rounds, Stock, take_stock

_JOIN: Final = 15.0
_UNHEARD: Final = 1.0
"""Seconds between rounds until the watch has begun."""
_QUIET_CONFLICTS: Final = 3
"""Conflicts in a row that are not worth a word: somebody else was faster, the next round sees what it did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When the publisher does what. Seconds."""

    first_retry: float = 0.5
    longest_retry: float = 30.0
    resync: float = 1800.0
    """Between rounds when nothing happens; features that the server lacked are tried again then."""
    absence: float = 30.0
    """How long an inventory may be unknown at start before that is published as "no devices"."""
    clock: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random
    """0 to 1, for the jitter of retries."""
    watch: Pace | None = None


class Publisher:
    """Publishes what `inventory` returns. None means that the hardware could not be looked at.

    At start that leaves alone what an earlier instance published, for a while; later it withdraws all devices.
    """

    def __init__(
        self,
        client: Client,
        place: Place,
        inventory: Callable[[], Inventory | None],
        emit: Emit,
        timing: Timing | None = None,
    ) -> None:
        self._inventory = inventory
        self._emit = emit
        self._timing = timing or Timing()
        self._rounds = Rounds(slices.Slices(client, place.driver, place.node), place, emit, self._timing.clock)
        source = Source(slices.PATH, ResourceSlice, slices.select(place.driver, place.node))
        self._watch = Watch(client, source, self._hear, self._complain, self._timing.watch)
        self._condition = threading.Condition()
        self._due: float | None = None
        self._heard_due: float | None = None
        self._heard: list[Change[ResourceSlice]] = []
        self._stopped = False
        self._failures = 0
        self._saw_inventory = False
        self._started_at = 0.0
        self._resync_at = 0.0
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self.published = threading.Event()
        """Set once the API server holds what this node offers."""

    def start(self) -> None:
        """Publish for the first time, then keep it so."""
        self._started_at = self._timing.clock()
        self._resync_at = self._started_at + self._timing.resync
        self.wake()
        self._thread.start()
        self._watch.start()

    def stop(self) -> None:
        """End both threads; a request under way is finished first."""
        with self._condition:
            self._stopped = True
            self._condition.notify()
        self._watch.stop()
        if self._thread.is_alive():
            self._thread.join(_JOIN)

    @property
    def alive(self) -> bool:
        """True while the worker runs; only a defect ends it before `stop`."""
        return self._thread.is_alive()

    def wake(self) -> None:
        """Publish soon: something that slices depend on may have changed. Never waits."""
        with self._condition:
            self._due = self._timing.clock()
            self._condition.notify()

    def _run(self) -> None:
        while True:
            provoked = self._wait()
            if provoked is None:
                return
            self._round(provoked=provoked)

    def _wait(self) -> bool | None:
        """Wait until a round is due. Return whether others provoked it; None at the end."""
        with self._condition:
            while not self._stopped:
                now = self._timing.clock()
                if self._is_provoked(now):
                    return True
                if self._due is not None and self._due <= now:
                    self._due = None
                    return False
                due = [time for time in (self._due, self._heard_due) if time is not None]
                self._condition.wait(min(due) - now if due else None)
        return None

    def _is_provoked(self, now: float) -> bool:
        """Look at what was heard of others, once its time has come; our own echoes are no news."""
        if self._heard_due is None or self._heard_due > now:
            return False
        news = [change for change in self._heard if self._rounds.is_news(change)]
        self._heard, self._heard_due = [], None
        if any(change.what is What.DELETED for change in news):
            self._rounds.forget_node()
        return bool(news)

    def _round(self, *, provoked: bool) -> None:
        try:
            self._try_round(provoked=provoked)
        except DriverError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - a bug must not silence the publisher for good; it is reported
            self._fail(error)

    def _try_round(self, *, provoked: bool) -> None:
        now = self._timing.clock()
        if now >= self._resync_at:
            self._rounds.forget_server()
            self._resync_at = now + self._timing.resync * (0.75 + self._timing.random() / 2)
        stock = self._read_stock(now)
        if stock is None:
            self._schedule(self._started_at + self._timing.absence)
            self._rounds.warm_up()
            return
        synced = self._watch.has_synced
        again = self._rounds.publish(stock, provoked=provoked)
        self._failures = 0
        if again is None:
            self.published.set()
            # What others do before the watch has begun is not heard: look again once it has.
            self._schedule(self._resync_at if synced else self._timing.clock() + _UNHEARD)
        else:
            self._schedule(self._timing.clock() + again)

    def _read_stock(self, now: float) -> Stock | None:
        """Return what to publish; None if that is not known yet."""
        inventory = self._inventory()
        if inventory is not None:
            self._saw_inventory = True
            return take_stock(inventory)
        if self._saw_inventory or now - self._started_at >= self._timing.absence:
            return Stock()
        return None

    def _fail(self, error: Exception) -> None:
        """Plan the next attempt, later each time, and tell."""
        timing = self._timing
        self._failures += 1
        pause = min(timing.first_retry * 2 ** min(self._failures - 1, 16), timing.longest_retry)
        pause *= 0.5 + timing.random() / 2
        if isinstance(error, Unavailable) and error.retry_after is not None:
            pause = max(pause, error.retry_after)
        if not isinstance(error, Conflict) or self._failures > _QUIET_CONFLICTS:
            self._emit(PublishFailed(type(error).__name__, str(error), pause))
        self._schedule(timing.clock() + pause)

    def _schedule(self, time: float) -> None:
        with self._condition:
            self._due = time if self._due is None else min(self._due, time)

    def _hear(self, change: Change[ResourceSlice]) -> None:
        """Note a change of our slices (on the watch's thread)."""
        with self._condition:
            self._heard.append(change)
            if self._heard_due is None:
                self._heard_due = self._timing.clock() + self._rounds.delay_reaction()
            self._condition.notify()

    def _complain(self, error: Exception) -> None:
        self._emit(WatchFailed(type(error).__name__, str(error)))
