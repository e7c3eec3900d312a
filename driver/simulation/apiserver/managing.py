"""managedFields: who owns which field, and server-side apply on top of it.

Called by the registry for every write. An entry is identified by manager, operation, apiVersion and subresource
(apimachinery util/managedfields, v1.36). Pure: the current time is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from driver.simulation.apiserver.field_sets import (
    EMPTY,
    Comparison,
    FieldSet,
    Path,
    compare,
    fields_of,
    from_fields_v1,
    in_set_order,
    merged,
    show_path,
    to_fields_v1,
    without,
)
from driver.simulation.apiserver.schemas import Struct
from driver.simulation.apiserver.statuses import ApiError, Cause, failure
from driver.simulation.apiserver.values import Json, JsonObject, items, metadata, obj, text

_META: Final = "f:metadata"
STRIPPED: Final[FieldSet] = frozenset(
    {
        ("f:apiVersion",),
        ("f:kind",),
        (_META,),
        *(
            (_META, f"f:{name}")
            for name in (
                "name",
                "namespace",
                "creationTimestamp",
                "selfLink",
                "uid",
                "clusterName",
                "generation",
                "managedFields",
                "resourceVersion",
            )
        ),
    }
)
"""Fields nobody owns."""


@dataclass(frozen=True)
class Manager:
    """Who writes, as an entry identifies it. `operation` is Apply or Update."""

    name: str
    operation: str
    api_version: str
    subresource: str = ""


@dataclass
class _Entry:
    fields: FieldSet
    time: str


Entries = dict[Manager, _Entry]


def _read(value: JsonObject) -> Entries:
    found: Entries = {}
    for entry in items(metadata(value).get("managedFields")):
        one = obj(entry)
        manager = Manager(
            text(one.get("manager")),
            text(one.get("operation")),
            text(one.get("apiVersion")),
            text(one.get("subresource")),
        )
        found[manager] = _Entry(from_fields_v1(one.get("fieldsV1")), text(one.get("time")))
    return found


def _order(entry: tuple[Manager, _Entry]) -> tuple[str, str, str, str, str]:
    manager, state = entry
    return manager.operation, state.time, manager.name, manager.api_version, manager.subresource


def _write(value: JsonObject, entries: Entries) -> None:
    shown: list[Json] = []
    for manager, entry in sorted(entries.items(), key=_order):
        if not entry.fields:
            continue
        one: JsonObject = {
            "manager": manager.name,
            "operation": manager.operation,
            "apiVersion": manager.api_version,
            "time": entry.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": to_fields_v1(entry.fields),
        }
        if manager.subresource:
            one["subresource"] = manager.subresource
        shown.append(one)
    meta = metadata(value)
    meta.pop("managedFields", None)
    if shown:
        meta["managedFields"] = shown


def _bare(value: JsonObject) -> JsonObject:
    """The object without what managers never own."""
    meta = {key: item for key, item in metadata(value).items() if key != "managedFields"}
    return {**value, "metadata": meta}


def track_update(struct: Struct, old: JsonObject, new: JsonObject, manager: Manager, now: str) -> None:
    """Records in `new` that `manager` changed what differs from `old`; others lose those fields."""
    changes = compare(struct, _bare(old), _bare(new))
    entries = _read(old)
    taken = frozenset(changes.added | changes.modified) - STRIPPED
    gone = frozenset(changes.removed)
    for entry in entries.values():
        entry.fields = entry.fields - taken - gone
    if taken:
        previous = entries.get(manager)
        entries[manager] = _Entry((previous.fields if previous else EMPTY) | taken, now)
    _write(new, entries)


class Applier:
    """One server-side apply of `config` by `manager`. `reset` are the top fields this endpoint ignores."""

    def __init__(self, struct: Struct, manager: Manager, now: str, reset: frozenset[str]) -> None:
        self._struct = struct
        self._manager = manager
        self._now = now
        self._reset = reset

    def apply(self, live: JsonObject, config: JsonObject, *, force: bool) -> JsonObject:
        """The new object with its managedFields; ApiError 409 names every conflict unless forced."""
        config = {key: item for key, item in config.items() if key not in self._reset}
        entries = _read(live)
        before = entries[self._manager].fields if self._manager in entries else EMPTY
        bare_live, bare_config = _bare(live), _bare(config)
        owned = fields_of(self._struct, bare_config) - STRIPPED
        new = merged(self._struct, bare_live, bare_config)
        new = self._prune(new, entries, before, owned)
        changes = compare(self._struct, bare_live, new)
        self._resolve(entries, changes, force=force)
        previous = entries.get(self._manager)
        same = previous is not None and previous.fields == owned and not _differs(changes)
        entries[self._manager] = _Entry(owned, previous.time if previous is not None and same else self._now)
        new["metadata"] = dict(metadata(new))
        _write(new, entries)
        return new

    def _prune(self, new: JsonObject, entries: Entries, before: FieldSet, owned: FieldSet) -> JsonObject:
        """Removes what this manager applied before, applies no longer, and nobody else owns."""
        others: set[Path] = set()
        for manager, entry in entries.items():
            if manager != self._manager:
                others |= entry.fields
        kept = _with_parents(owned | others)
        dropped = [path for path in before if path not in kept]
        return without(self._struct, new, dropped)

    def _resolve(self, entries: Entries, changes: Comparison, *, force: bool) -> None:
        touched = changes.modified | changes.added
        conflicts: list[tuple[Manager, _Entry, Path]] = []
        for manager, entry in sorted(entries.items(), key=_order):
            if manager == self._manager:
                continue
            clash = entry.fields & touched
            conflicts += [(manager, entry, path) for path in in_set_order(clash)]
            if force:
                entry.fields -= clash
            entry.fields -= changes.removed
        if conflicts and not force:
            raise _conflict(conflicts)


def _with_parents(fields: FieldSet | set[Path]) -> set[Path]:
    return {path[:length] for path in fields for length in range(1, len(path) + 1)}


def _differs(changes: Comparison) -> bool:
    return bool(changes.added or changes.removed or changes.modified)


def _show_manager(manager: Manager, entry: _Entry) -> str:
    shown = f'"{manager.name}"'
    if manager.subresource:
        shown += f' with subresource "{manager.subresource}"'
    if manager.operation == "Update":
        shown += f" using {manager.api_version} at {entry.time}"
    return shown


def _conflict(conflicts: list[tuple[Manager, _Entry, Path]]) -> ApiError:
    causes: list[Json] = []
    by_manager: dict[str, list[str]] = {}
    for manager, entry, path in conflicts:
        shown, at = _show_manager(manager, entry), show_path(path)
        causes.append(Cause("FieldManagerConflict", f"conflict with {shown}", at).as_json())
        by_manager.setdefault(shown, []).append(at)
    if len(conflicts) == 1:
        ((shown, paths),) = by_manager.items()
        message = f"Apply failed with 1 conflict: conflict with {shown}: {paths[0]}"
    else:
        parts = [
            f"conflicts with {shown}:\n" + "\n".join(f"- {at}" for at in by_manager[shown])
            for shown in sorted(by_manager)
        ]
        message = f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(parts)
    return failure(409, "Conflict", message, {"causes": causes})
