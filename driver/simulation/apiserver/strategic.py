"""Strategic merge patch: lists merge by the keys the schemas name, directives delete and replace.

Called by the patch verb on plain trees (kept bytes already encoded again). Semantics: apimachinery
util/strategicpatch (v1.36): `$patch: replace|delete`, `$retainKeys`,
 `$setElementOrder/…`, `$deleteFromPrimitiveList/…`.
"""

from __future__ import annotations

from typing import Final

from driver.simulation.apiserver.schemas import Field, ListOf, MapOf, Scalar, Struct, Type
from driver.simulation.apiserver.statuses import bad_request
from driver.simulation.apiserver.values import Json, JsonObject, copy, items, text

_DIRECTIVE: Final = "$patch"
_RETAIN: Final = "$retainKeys"
_ORDER: Final = "$setElementOrder/"
_DELETE_PLAIN: Final = "$deleteFromPrimitiveList/"
_ANY: Final = Field("", Scalar("any"))


def merge_strategic(struct: Struct, target: JsonObject, patch: JsonObject) -> JsonObject:
    """Applies the patch to an object of `struct`."""
    return _merge_object(struct, target, patch)


def _merge_object(of: Type, target: JsonObject, patch: JsonObject) -> JsonObject:
    directive = patch.get(_DIRECTIVE)
    if directive == "replace":
        return {key: copy(item) for key, item in patch.items() if key != _DIRECTIVE}
    if directive == "delete":
        return {}
    if directive not in {None, "merge"}:
        raise bad_request(f"unknown patch type found: {text(directive)}")
    merged = dict(target)
    if isinstance(patch.get(_RETAIN), list):
        retained = items(patch[_RETAIN])
        merged = {key: item for key, item in merged.items() if key in retained}
    for key, item in patch.items():
        if key.startswith(_DELETE_PLAIN):
            name = key.removeprefix(_DELETE_PLAIN)
            merged[name] = [one for one in items(merged.get(name)) if one not in items(item)]
        elif not key.startswith("$"):
            _merge_field(of, merged, key, item, patch)
    return merged


def _field_of(of: Type, key: str) -> Field:
    if isinstance(of, Struct):
        return of.fields.get(key, _ANY)
    return Field(key, of.value) if isinstance(of, MapOf) else _ANY


def _merge_field(of: Type, merged: JsonObject, key: str, item: Json, patch: JsonObject) -> None:
    if item is None:
        merged.pop(key, None)
        return
    field = _field_of(of, key)
    current = merged.get(key)
    if isinstance(item, dict):
        merged[key] = _merge_object(field.type, current if isinstance(current, dict) else {}, item)
    elif isinstance(item, list) and field.merge is not None:
        order = patch.get(_ORDER + key)
        merged[key] = _merge_list(field, items(current), item, items(order) if order is not None else None)
    else:
        merged[key] = copy(item)


def _merge_list(field: Field, current: list[Json], patch: list[Json], order: list[Json] | None) -> list[Json]:
    if not field.merge:
        added = [one for one in patch if one not in current]
        return _ordered(current + added, patch if order is None else order, current)
    item_type = field.type.item if isinstance(field.type, ListOf) else Scalar("any")
    if any(isinstance(one, dict) and one.get(_DIRECTIVE) == "replace" and len(one) == 1 for one in patch):
        return [copy(one) for one in patch if not (isinstance(one, dict) and _DIRECTIVE in one)]
    merged = list(current)
    for one in patch:
        if isinstance(one, dict):
            merged = _merge_entry(field.merge, item_type, merged, one)
    wanted = [_key(field.merge, one) for one in (patch if order is None else order)]
    before = [_key(field.merge, one) for one in current]
    by_key = {str(_key(field.merge, one)): one for one in merged}
    return [by_key[str(key)] for key in _ordered([_key(field.merge, one) for one in merged], wanted, before)]


def _key(name: str, entry: Json) -> Json:
    return entry.get(name) if isinstance(entry, dict) else None


def _merge_entry(key: str, item_type: Type, current: list[Json], entry: JsonObject) -> list[Json]:
    if key not in entry:
        raise bad_request(f"map: {entry} does not contain declared merge key: {key}")
    same = [index for index, one in enumerate(current) if _key(key, one) == entry[key]]
    if entry.get(_DIRECTIVE) == "delete":
        return [one for index, one in enumerate(current) if index not in same]
    if not same:
        added = {name: copy(item) for name, item in entry.items() if not name.startswith("$")}
        return [*current, added]
    merged = list(current)
    found = merged[same[0]]
    merged[same[0]] = _merge_object(item_type, found if isinstance(found, dict) else {}, entry)
    return merged


def _ordered(merged: list[Json], wanted: list[Json], before: list[Json]) -> list[Json]:
    """Entries the patch names in its order, the others put in where they stood relative to those."""
    named = [one for one in wanted if one in merged]
    others = [one for one in merged if one not in named]
    others.sort(key=lambda one: before.index(one) if one in before else len(before))
    out: list[Json] = []
    while named and others:
        ahead = others[0] in before and named[0] in before and before.index(others[0]) < before.index(named[0])
        out.append((others if ahead else named).pop(0))
    return out + named + others
