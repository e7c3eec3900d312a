"""What the webhook knows of the cluster: a copy of its slices and classes, for warnings. Works without any.

Made by `app`. Classes and slices are followed by a watch each; what selectors are tried on is made of them when the
next request comes, and at most once a second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from driver.core import soundness
from driver.core.reviewing import selecting
from driver.core.reviewing.selecting import Stage
from driver.kube import replies
from driver.kube.client import Client
from driver.kube.watching import Change, Pace, Source, Watch
from driver.model.errors import DriverError
from driver.model.objects import ObjectMeta
from driver.model.published import PublishedSlice
from driver.model.requests import DeviceClass

_DRA: Final = "/apis/resource.k8s.io/v1"
_SECONDS: Final = 1.0
"""For which what was made is good enough, even if something has changed."""


class Surroundings:
    """Gives the stage on which selectors are tried. `client`: None to know nothing of any cluster."""

    def __init__(
        self,
        client: Client | None,
        driver: str,
        complain: Callable[[Exception], None],
        clock: Callable[[], float] = time.monotonic,
        pace: Pace | None = None,
    ) -> None:
        self._driver = driver
        self._clock = clock
        self._complain = complain
        self._lock = threading.Lock()
        self._changes = {"slices": 0, "classes": 0}
        self._made = -1
        self._made_at = float("-inf")
        self._stage = selecting.open_stage(driver)
        self._slices: Watch[PublishedSlice] | None = None
        self._classes: Watch[DeviceClass] | None = None
        if client is not None:
            slices = Source(f"{_DRA}/resourceslices", PublishedSlice, trim=_trim)
            self._slices = Watch(client, slices, self._note_slice, self._complain_of_api, pace)
            classes = Source(f"{_DRA}/deviceclasses", DeviceClass)
            self._classes = Watch(client, classes, self._note_class, self._complain_of_api, pace)

    def start(self) -> None:
        """Begin to follow slices and classes."""
        if self._slices is not None and self._classes is not None:
            self._slices.start()
            self._classes.start()

    def stop(self) -> None:
        """End the watches. Safe without `start`."""
        if self._slices is not None and self._classes is not None:
            self._slices.stop()
            self._classes.stop()

    @property
    def missing(self) -> tuple[str, ...]:
        """What has not been read yet, or is not followed at all."""
        watches = {"slices": self._slices, "classes": self._classes}
        return tuple(name for name, watch in watches.items() if watch is None or not watch.has_synced)

    @property
    def sizes(self) -> dict[str, int]:
        """How many objects are known."""
        watches = {"slices": self._slices, "classes": self._classes}
        return {name: watch.size for name, watch in watches.items() if watch is not None}

    def stage(self) -> Stage:
        """Return what selectors are tried on now."""
        with self._lock:
            changes = sum(self._changes.values()) + 2 - len(self.missing)
            if changes != self._made and self._clock() - self._made_at >= _SECONDS:
                self._stage = self._make()
                self._made, self._made_at = changes, self._clock()
            return self._stage

    def _make(self) -> Stage:
        has_slices = self._slices is not None and self._slices.has_synced
        has_classes = self._classes is not None and self._classes.has_synced
        return selecting.open_stage(
            self._driver,
            self._classes.snapshot() if self._classes is not None else None,
            list(self._slices.snapshot().values()) if self._slices is not None and has_slices else None,
            has_all_classes=has_classes,
        )

    def _note_slice(self, _: Change[PublishedSlice]) -> None:
        self._changes["slices"] += 1

    def _note_class(self, _: Change[DeviceClass]) -> None:
        self._changes["classes"] += 1

    def _complain_of_api(self, error: Exception) -> None:
        self._complain(replies.name_missing_api(error) if isinstance(error, DriverError) else error)


def _trim(published: PublishedSlice) -> PublishedSlice:
    """Return what is read of a slice. Raises `InvalidInput` for one that nobody could use."""
    soundness.check(published)
    return PublishedSlice(metadata=ObjectMeta(name=published.metadata.name), spec=published.spec)
