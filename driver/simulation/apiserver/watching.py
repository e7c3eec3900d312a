"""Watches: what one stream has to send next, as plain values.

The HTTP edge opens a `Watch`, asks `take()` whenever the storage changed, and writes the lines out. Selector
transitions become ADDED and DELETED, bookmarks carry only a version, a forgotten start is one ERROR event (410).
Knows no sockets and no event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from driver.simulation.apiserver.checking import unsupported
from driver.simulation.apiserver.filtering import Filter
from driver.simulation.apiserver.listing import key_of, parse_version
from driver.simulation.apiserver.requests import is_true
from driver.simulation.apiserver.schemas import struct_of
from driver.simulation.apiserver.statuses import Cause, expired, internal, invalid
from driver.simulation.apiserver.storage import Change, Expired, Item, Storage
from driver.simulation.apiserver.tidying import tidy
from driver.simulation.apiserver.values import JsonObject, encode

Render = Callable[[Item], bytes]
"""How an object is shown in this stream (its served version, a table, metadata only)."""


@dataclass(frozen=True)
class WatchOptions:
    """The part of ListOptions a watch honours; `timeout` in seconds, 0 for none."""

    version: str = ""
    bookmarks: bool = False
    timeout: float = 0
    initial: bool | None = None


def read_watch_options(query: Mapping[str, str]) -> WatchOptions:
    """Options from a query; the combinations upstream forbids are a 422."""
    match = query.get("resourceVersionMatch", "")
    options = WatchOptions(
        query.get("resourceVersion", ""),
        is_true(query, "allowWatchBookmarks"),
        float(query.get("timeoutSeconds", "") or 0),
        is_true(query, "sendInitialEvents") if "sendInitialEvents" in query else None,
    )
    faults = _faults(options, match)
    if faults:
        raise invalid("meta.k8s.io", "ListOptions", "", faults)
    if options.version:
        try:
            parse_version(options.version)
        except ValueError as error:
            raise internal(str(error)) from None
    return options


def _faults(options: WatchOptions, match: str) -> list[Cause]:
    forbidden = "FieldValueForbidden"
    if options.initial is None:
        why = "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        return [Cause(forbidden, why, "resourceVersionMatch")] if match else []
    faults = []
    if match != "NotOlderThan":
        why = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        faults.append(Cause(forbidden, why, "resourceVersionMatch"))
    if match not in {"", "NotOlderThan"}:
        faults.append(unsupported("resourceVersionMatch", match, ("NotOlderThan",)))
    return faults


class Watch:
    """One stream: where it stands and what it still has to say."""

    def __init__(self, storage: Storage, chosen: Filter, options: WatchOptions, render: Render) -> None:
        self._storage = storage
        self._chosen = chosen
        self._options = options
        self._render = render
        self._ended = False
        self.content_type = "application/json"
        self._first: list[bytes] = []
        with storage.lock:
            self._version = self._start()

    def ended(self) -> bool:
        """Whether nothing will ever come again."""
        return self._ended

    @property
    def timeout(self) -> float:
        """Seconds after which the server ends the stream; 0 for never."""
        return self._options.timeout

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Calls `listener` after each change of the resource; returns how to stop that."""
        return self._storage.listen(self._chosen.resource.stored, listener)

    def _start(self) -> int:
        wanted = int(self._options.version or 0)
        initial = self._options.initial
        if initial if initial is not None else wanted == 0:
            self._first = [self._line("ADDED", item) for item in self._present()]
            if initial and self._options.bookmarks:
                self._first.append(self._bookmark(self._storage.version, initial_end=True))
            return self._storage.version
        return wanted or self._storage.version

    def _present(self) -> list[Item]:
        found = self._storage.items(self._chosen.resource.stored, self._chosen.namespace)
        return [item for item in found if self._chosen.matches(key_of(item), item.value)]

    def take(self) -> list[bytes]:
        """The lines due now, in order; `ended()` says whether the stream must be closed then."""
        lines, self._first = self._first, []
        try:
            changes = self._storage.changes(self._chosen.resource.stored, self._version)
        except Expired:
            self._ended = True
            floor = self._storage.floor(self._chosen.resource.stored)
            error = expired(f"too old resource version: {self._version} ({floor})")
            lines.append(encode({"type": "ERROR", "object": error.body}) + b"\n")
            return lines
        for change in changes:
            line = self._event(change)
            if line:
                lines.append(line)
            self._version = change.rv
        return lines

    def _event(self, change: Change) -> bytes:
        was = change.before is not None and self._chosen.matches(change.key, change.before.value)
        if change.deleted:
            return self._line("DELETED", change.after) if was else b""
        now = self._chosen.matches(change.key, change.after.value)
        if now:
            return self._line("MODIFIED" if was else "ADDED", change.after)
        return self._left(change) if was and change.before else b""

    def _left(self, change: Change) -> bytes:
        """An object that no longer fits the selector: DELETED with its last fitting state and the new version."""
        before = change.before
        if before is None:
            return b""
        meta = {**_meta(before.value), "resourceVersion": str(change.rv)}
        return self._line("DELETED", Item({**before.value, "metadata": meta}, change.rv))

    def _line(self, kind: str, item: Item) -> bytes:
        return b'{"type":"%b","object":%b}\n' % (kind.encode(), self._render(item))

    def bookmark(self) -> list[bytes]:
        """A bookmark with the newest version, if the client asked for bookmarks."""
        if not self._options.bookmarks:
            return []
        self._version = max(self._version, self._storage.version)
        return [self._bookmark(self._version)]

    def _bookmark(self, version: int, *, initial_end: bool = False) -> bytes:
        meta: JsonObject = {"resourceVersion": str(version)}
        if initial_end:
            meta["annotations"] = {"k8s.io/initial-events-end": "true"}
        stored = self._chosen.resource.stored
        bare = tidy(struct_of(stored.group, stored.kind), {"kind": stored.kind, "metadata": meta})
        bare["apiVersion"] = stored.group_version
        return self._line("BOOKMARK", Item(bare, version))


def _meta(value: JsonObject) -> JsonObject:
    meta = value.get("metadata")
    return meta if isinstance(meta, dict) else {}
