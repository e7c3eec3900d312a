"""List and watch: a copy of one collection that follows the API server.

Called by whoever needs to know of changes (the publisher for its slices). One thread writes, any may read. Promises:

- a deletion is never lost: after any gap the collection is listed again and compared, object by object;
- it never hammers the server: every failure, and every stream that ends at once, is followed by a growing, jittered
  pause, and a Retry-After is kept;
- a stream that has fallen silent is opened again from where it was; bookmarks keep that place fresh;
- one object that cannot be read is reported and left out, the others are kept;
- lists are read in pages, and `stop` ends a stream that waits for data.

`notify` is called on the writer's thread, after the copy was changed; it must not block for long.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Generic, Protocol, TypeVar

import msgspec

from driver.kube import decoding, replies
from driver.kube.client import Client, Stream
from driver.model.errors import DriverError, InvalidInput, Unavailable
from driver.model.objects import Api, ObjectMeta

_JOIN: Final = 5.0


class Described(Protocol):
    """Any API object."""

    @property
    def metadata(self) -> ObjectMeta:
        """Name, uid, resourceVersion."""


T = TypeVar("T", bound=Described)


class What(Enum):
    """What happened to an object."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


_KINDS: Final = {what.value: what for what in What}
"""Bookmarks carry a version only, and so may whatever later servers send."""


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """One change of the collection. `object` is the last known state of one that was deleted."""

    what: What
    object: T
    before: T | None = None
    """What was known of it until now, without what is trimmed."""


@dataclass(frozen=True, slots=True)
class Source(Generic[T]):
    """What is watched: a collection's path, the type of its objects, and which of them."""

    path: str
    item: type[T]
    field_selector: str = ""
    label_selector: str = ""
    trim: Callable[[T], T] | None = None
    """Returns an object without what nobody reads of it, so that it takes less memory.

    Raises `InvalidInput` for one that cannot be used; it counts as one that cannot be read.
    """
    salvage: Callable[[msgspec.Raw], T | None] | None = None
    """Returns what matters most of an object that cannot be read as a whole; without it the object is left out."""

    def parameters(self, **more: str | int) -> dict[str, str | int]:
        """Return the query of a list or watch."""
        selectors = {"fieldSelector": self.field_selector, "labelSelector": self.label_selector}
        return {name: value for name, value in selectors.items() if value} | more


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How patient a watch is. Seconds."""

    first_pause: float = 0.5
    longest_pause: float = 30.0
    steady: float = 10.0
    """How long a stream has to live to count as healthy, so that its end is answered at once."""
    idle: float = 120.0
    """Silence after which a stream is opened again; bookmarks come about once a minute."""
    watch: int = 300
    """After this and a random part of the same again the server shall end a stream, which spreads reconnects."""
    page: int = 500
    """Objects a page."""
    clock: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random
    """0 to 1."""


class _Event(Api, frozen=True):
    type: str
    object: msgspec.Raw


class _Named(Api, frozen=True):
    metadata: ObjectMeta = ObjectMeta()


_events: Final = msgspec.json.Decoder(_Event)
_named: Final = msgspec.json.Decoder(_Named)


class Watch(Generic[T]):
    """Follows one collection on a thread of its own.

    `notify` gets every change, `complain` every failure and every object that cannot be read.
    """

    def __init__(
        self,
        client: Client,
        source: Source[T],
        notify: Callable[[Change[T]], None],
        complain: Callable[[Exception], None],
        pace: Pace | None = None,
    ) -> None:
        self._client = client
        self._source = source
        self._notify = notify
        self._complain = complain
        self._pace = pace or Pace()
        self._decoder = decoding.Decoder(source.item)
        self._lock = threading.Lock()
        self._objects: dict[str, T] = {}
        self._version: str | None = None
        self._failures = 0
        self._stream: Stream | None = None
        self._stop = threading.Event()
        self._synced = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch {source.path.rpartition('/')[2]}", daemon=True)

    def start(self) -> None:
        """Begin to list and watch."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, also while it waits for the server."""
        with self._lock:
            self._stop.set()
            if self._stream is not None:
                self._stream.abort()
        if self._thread.is_alive():
            self._thread.join(_JOIN)

    @property
    def has_synced(self) -> bool:
        """True once the whole collection was read."""
        return self._synced.is_set()

    @property
    def size(self) -> int:
        """How many objects are known."""
        return len(self._objects)

    def wait_until_synced(self, timeout: float) -> bool:
        """Wait for the first complete list; False if it did not arrive in `timeout` seconds."""
        return self._synced.wait(timeout)

    def snapshot(self) -> dict[str, T]:
        """Return the objects as they are known now, by `namespace/name` (`name` without a namespace)."""
        with self._lock:
            return dict(self._objects)

    def _run(self) -> None:
        while not self._stop.is_set():
            pause = 0.0
            opened = self._pace.clock()
            try:
                self._follow_once()
            except DriverError as error:
                if not self._stop.is_set():
                    pause = self._record_failure(error, opened)
            except Exception as error:  # noqa: BLE001 - a fault in a callback must not end the watch; it is reported
                self._complain(error)
                pause = self._record_failure(None, opened)
            else:
                pause = self._record_end(opened)
            self._stop.wait(pause)

    def _follow_once(self) -> None:
        """List if the place in the stream is lost, then follow one stream until it ends."""
        if self._version is None:
            self._list()
        heard = 0
        try:
            with self._open() as stream:
                for line in stream:
                    heard += 1
                    self._take(line)
        except Unavailable:
            # A place that the server never reached (restored from a backup) is silent for ever: list again.
            self._version = self._version if heard else None
            raise
        except DriverError:
            self._version = None
            raise
        finally:
            self._stream = None

    def _record_failure(self, error: DriverError | None, opened: float) -> float:
        """Return the pause after a failure. A healthy stream that fell silent or broke is no news."""
        lived = self._pace.clock() - opened
        if lived >= self._pace.steady:
            self._failures = 0
        self._failures += 1
        if error is not None and (self._failures > 1 or self._version is None):
            self._complain(error)
        wanted = error.retry_after if isinstance(error, Unavailable) else None
        return max(self._pause(), wanted or 0.0)

    def _record_end(self, opened: float) -> float:
        """Return the pause after a stream that the server ended in good order."""
        if self._pace.clock() - opened >= self._pace.steady:
            self._failures = 0
            return 0.0
        self._failures += 1
        return self._pause()

    def _pause(self) -> float:
        pace = self._pace
        pause: float = min(pace.first_pause * 2 ** min(self._failures - 1, 16), pace.longest_pause)
        return pause * (0.5 + pace.random() / 2)

    def _open(self) -> Stream:
        length = int(self._pace.watch * (1 + self._pace.random()))
        params = self._source.parameters(
            watch="true", allowWatchBookmarks="true", resourceVersion=self._version or "", timeoutSeconds=length
        )
        stream = self._client.stream(self._source.path, params, idle_timeout=self._pace.idle)
        with self._lock:
            self._stream = stream
            if self._stop.is_set():
                stream.abort()
        return stream

    def _list(self) -> None:
        params = self._source.parameters(limit=self._pace.page)
        found: dict[str, T] = {}
        while not self._stop.is_set():
            page = decoding.read_page(self._client.get(self._source.path, params), self._source.path)
            for raw in page.items or ():
                item = self._read(raw)
                if item is not None:
                    found[_key(item.metadata)] = item
            if not page.metadata.continue_:
                self._replace(found)
                self._version = page.metadata.resource_version
                self._synced.set()
                return
            params["continue"] = page.metadata.continue_

    def _read(self, raw: msgspec.Raw) -> T | None:
        try:
            item = self._decoder.decode(raw, self._source.path)
            return self._source.trim(item) if self._source.trim else item
        except (Unavailable, InvalidInput) as error:
            self._complain(error)
            return self._source.salvage(raw) if self._source.salvage else None

    def _replace(self, found: dict[str, T]) -> None:
        """Take over a complete list and tell what is different."""
        before = self.snapshot()
        for key, item in before.items():
            if key not in found or found[key].metadata.uid != item.metadata.uid:
                self._put(key, None, Change(What.DELETED, item))
        for key, item in found.items():
            known = before.get(key)
            if known is None or known.metadata.uid != item.metadata.uid:
                self._put(key, item, Change(What.ADDED, item))
            elif known.metadata.resource_version != item.metadata.resource_version:
                self._put(key, item, Change(What.MODIFIED, item, known))

    def _take(self, line: bytes) -> None:
        """Apply one line of the stream."""
        try:
            event = decoding.read(_events, line)
            meta = _named.decode(event.object).metadata
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._version = None
            raise Unavailable(f"watch of {self._source.path}: a line cannot be read: {error}") from error
        if event.type == "ERROR":
            status = replies.read_status(bytes(event.object))
            raise replies.make_error(status.code or 500, status, f"watch of {self._source.path}")
        if event.type in _KINDS:
            self._change(_KINDS[event.type], meta, event.object)
        self._version = meta.resource_version

    def _change(self, what: What, meta: ObjectMeta, raw: msgspec.Raw) -> None:
        key = _key(meta)
        known = self._objects.get(key)
        item = None if what is What.DELETED else self._read(raw)
        if item is not None:
            what = What.ADDED if known is None else What.MODIFIED
            self._put(key, item, Change(what, item, known))
        elif known is not None:
            self._put(key, None, Change(What.DELETED, known))

    def _put(self, key: str, item: T | None, change: Change[T]) -> None:
        with self._lock:
            if item is None:
                self._objects.pop(key, None)
            else:
                self._objects[key] = item
        self._notify(change)


def _key(meta: ObjectMeta) -> str:
    return f"{meta.namespace}/{meta.name}" if meta.namespace else meta.name
