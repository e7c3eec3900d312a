"""What etcd is upstream: objects by key, one growing resourceVersion, a history that watches and old lists read.

Used by the registry (writes) and by lists and watches (reads); tests reach it as `ApiServer.storage`. Knows nothing
of kinds beyond where an object's metadata lies. Every method takes the lock, so any thread may call; a value handed
out is shared and must not be changed in place. History is bounded: what is forgotten is answered with 410.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from driver.simulation.apiserver.kinds import Resource
from driver.simulation.apiserver.values import JsonObject, encode, obj

Key = tuple[str, str]
"""Namespace (empty for cluster-scoped objects) and name."""


_BEFORE_VERSION: Final = ("name", "generateName", "namespace", "selfLink", "uid")


class Item:
    """One stored state of an object, with its JSON encoded at most once."""

    __slots__ = ("_json", "_render", "rv", "value")

    def __init__(self, value: JsonObject, rv: int, render: Callable[[JsonObject], bytes] = encode) -> None:
        self.value = value
        self.rv = rv
        self._json: bytes | None = None
        self._render = render

    @property
    def json(self) -> bytes:
        """The object as JSON, kind and apiVersion first."""
        if self._json is None:
            self._json = self._render(self.value)
        return self._json


@dataclass(frozen=True, slots=True)
class Change:
    """One write: the states before and after; `after` of a deletion is the last state with the deletion's version."""

    rv: int
    key: Key
    before: Item | None
    after: Item
    deleted: bool = False


@dataclass
class _Table:
    render: Callable[[JsonObject], bytes] = encode
    items: dict[Key, Item] = field(default_factory=dict)
    order: list[Key] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    floor: int = 0
    """Changes up to this version are forgotten."""
    listeners: set[Callable[[], None]] = field(default_factory=set)


class Expired(Exception):  # noqa: N818 - a state of the history, not a fault
    """The wanted version is older than the history reaches."""


class Storage:
    """Tables of items, one a resource, under one lock and one version counter.

    `history` is how many changes a table remembers at least (twice as many at most); `renderer` says how the
    objects of a resource become JSON.
    """

    def __init__(
        self, history: int = 4096, renderer: Callable[[Resource], Callable[[JsonObject], bytes]] = lambda _: encode
    ) -> None:
        self.lock = threading.RLock()
        self.version = 1
        self._history = history
        self._compacted = 0
        self._tables: dict[Resource, _Table] = {}
        self._renderer = renderer

    def renderer(self, resource: Resource) -> Callable[[JsonObject], bytes]:
        """How objects of the resource become JSON."""
        return self._renderer(resource)

    def _table(self, resource: Resource) -> _Table:
        table = self._tables.get(resource)
        if table is None:
            table = self._tables[resource] = _Table(self._renderer(resource))
        return table

    def get(self, resource: Resource, key: Key) -> Item | None:
        """The current state of one object."""
        return self._table(resource).items.get(key)

    def items(self, resource: Resource, namespace: str = "") -> list[Item]:
        """Current states in key order, of one namespace or all."""
        with self.lock:
            table = self._table(resource)
            return [table.items[key] for key in _in_namespace(table.order, namespace)]

    def put(self, resource: Resource, key: Key, value: JsonObject) -> Item:
        """Writes an object; gives it the next resourceVersion and tells the listeners."""
        with self.lock:
            table = self._table(resource)
            self.version += 1
            item = Item(_stamped(value, self.version), self.version, table.render)
            before = table.items.get(key)
            if before is None:
                insort(table.order, key)
            table.items[key] = item
            self._record(table, Change(self.version, key, before, item))
            return item

    def remove(self, resource: Resource, key: Key, last: JsonObject | None = None) -> Item:
        """Removes an object; `last` is its last state where that differs from the stored one. KeyError if absent."""
        with self.lock:
            table = self._table(resource)
            before = table.items.pop(key)
            del table.order[bisect_left(table.order, key)]
            self.version += 1
            final = _stamped(last if last is not None else before.value, self.version)
            item = Item(final, self.version, table.render)
            self._record(table, Change(self.version, key, before, item, deleted=True))
            return item

    def _record(self, table: _Table, change: Change) -> None:
        table.changes.append(change)
        if len(table.changes) > 2 * self._history:
            self._forget(table, table.changes[-self._history - 1].rv)
        for listener in tuple(table.listeners):
            listener()

    @staticmethod
    def _forget(table: _Table, upto: int) -> None:
        del table.changes[: bisect_right(table.changes, upto, key=_change_rv)]
        table.floor = max(table.floor, upto)

    def compact(self, upto: int | None = None) -> None:
        """Forgets the history up to a version (all of it by default), as etcd's compaction does every five minutes."""
        with self.lock:
            self._compacted = max(self._compacted, self.version if upto is None else upto)
            for table in self._tables.values():
                self._forget(table, self._compacted)

    def floor(self, resource: Resource) -> int:
        """The newest forgotten version: reading the history from before it is refused."""
        return max(self._compacted, self._table(resource).floor)

    def changes(self, resource: Resource, after: int) -> list[Change]:
        """Changes later than `after`, oldest first.

        Raises:
            Expired: some of them are forgotten.

        """
        with self.lock:
            table = self._table(resource)
            if after < max(self._compacted, table.floor):
                raise Expired
            return table.changes[bisect_right(table.changes, after, key=_change_rv) :]

    def items_at(self, resource: Resource, version: int, namespace: str = "") -> list[Item]:
        """States as they were at `version`, in key order.

        Raises:
            Expired: that version is forgotten.

        """
        with self.lock:
            states = dict(self._table(resource).items)
            for change in reversed(self.changes(resource, version)):
                if change.before is None:
                    states.pop(change.key, None)
                else:
                    states[change.key] = change.before
            return [states[key] for key in _in_namespace(sorted(states), namespace)]

    def listen(self, resource: Resource, listener: Callable[[], None]) -> Callable[[], None]:
        """Calls `listener` (under the lock, in the writer's thread) after each change; returns how to stop that."""
        listeners = self._table(resource).listeners
        listeners.add(listener)
        return lambda: listeners.discard(listener)


def _in_namespace(order: list[Key], namespace: str) -> Iterator[Key]:
    if not namespace:
        return iter(order)
    start = bisect_left(order, (namespace, ""))
    return iter(order[start : bisect_left(order, (namespace + "\0", ""))])


def _change_rv(change: Change) -> int:
    return change.rv


def _stamped(value: JsonObject, version: int) -> JsonObject:
    """A shallow copy with the version where the API shows it: behind the uid."""
    before = obj(value.get("metadata"))
    meta: JsonObject = {key: before[key] for key in _BEFORE_VERSION if key in before}
    meta["resourceVersion"] = str(version)
    meta.update({key: item for key, item in before.items() if key not in meta})
    return {**value, "metadata": meta}
