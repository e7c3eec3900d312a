"""List and watch: a copy of one kind of object in memory that follows the API server. One writer, many readers.

Called by the simulated components. Survives restarts of the server, broken streams and expired versions. A component
that has just written an object may `put` the answer, so that its next decision knows it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Generic

import msgspec

from driver.kube.client import Stream
from driver.model.errors import DriverError, Gone
from driver.model.objects import Api
from driver.simulation.access import Kind, Objects, ObjectT

RETRY_SECONDS: Final = 0.1
_IDLE_SECONDS: Final = 60.0


class _Event(Api, frozen=True):
    """One line of a watch."""

    type: str
    object: msgspec.Raw


_events: Final = msgspec.json.Decoder(_Event)


class _ExpiredError(Exception):
    """The watch cannot go on from where it is: list again."""


class Cache(Generic[ObjectT]):
    """All objects of a kind (of those a field selector chooses), by namespace and name."""

    def __init__(
        self, objects: Objects, kind: Kind[ObjectT], on_change: Callable[[], None], *, fields: str = ""
    ) -> None:
        self._objects = objects
        self._kind = kind
        self._on_change = on_change
        self._fields = fields
        self._items: dict[tuple[str, str], ObjectT] = {}
        self._lock = threading.Lock()
        self._synced = threading.Event()
        self._stopping = threading.Event()
        self._stream: Stream | None = None
        self._thread = threading.Thread(target=self._run, name=f"watch-{kind.plural}", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for the thread."""
        self._stopping.set()
        with self._lock:
            if self._stream is not None:
                self._stream.abort()
        self._thread.join()

    def wait_synced(self, timeout: float) -> bool:
        """Wait for the first complete list; False if there was none in time."""
        return self._synced.wait(timeout)

    @property
    def is_synced(self) -> bool:
        """True once there was a complete list."""
        return self._synced.is_set()

    def items(self) -> list[ObjectT]:
        """Return all objects, ordered by namespace and name."""
        with self._lock:
            return [self._items[key] for key in sorted(self._items)]

    def get(self, name: str, namespace: str = "") -> ObjectT | None:
        """Return one object, or None."""
        with self._lock:
            return self._items.get((namespace, name))

    def put(self, item: ObjectT) -> None:
        """Take in an object that a write returned, unless a newer state is here already."""
        with self._lock:
            known = self._items.get(item.key)
            if known is None or _version(known) < _version(item):
                self._items[item.key] = item

    def _run(self) -> None:
        version = ""
        while not self._stopping.is_set():
            try:
                version = self._follow(version or self._relist())
            except (_ExpiredError, Gone):
                version = ""
            except DriverError:
                self._stopping.wait(RETRY_SECONDS)

    def _relist(self) -> str:
        items, version = self._objects.list_at(self._kind, fields=self._fields)
        with self._lock:
            self._items = {item.key: item for item in items}
        self._synced.set()
        self._on_change()
        return version

    def _follow(self, version: str) -> str:
        """Take in changes until the stream ends; return the version to go on from."""
        params = {"watch": "1", "resourceVersion": version}
        if self._fields:
            params["fieldSelector"] = self._fields
        with self._objects.client.stream(self._kind.path(), params, idle_timeout=_IDLE_SECONDS) as stream:
            with self._lock:
                self._stream = stream
                if self._stopping.is_set():
                    return version
            try:
                for line in stream:
                    version = self._take(line)
                    self._on_change()
            except DriverError:
                return version
            finally:
                with self._lock:
                    self._stream = None
        return version

    def _take(self, line: bytes) -> str:
        event = _events.decode(line)
        if event.type == "ERROR":
            raise _ExpiredError
        item = self._kind.decoder.decode(event.object)
        with self._lock:
            if event.type == "DELETED":
                self._items.pop(item.key, None)
            elif (known := self._items.get(item.key)) is None or _version(known) <= _version(item):
                self._items[item.key] = item
        return item.metadata.resource_version


def _version(item: ObjectT) -> int:
    return int(item.metadata.resource_version or 0)
