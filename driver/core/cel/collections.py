"""List, map, set and optional functions. Part of the library.

Sources: cel-go ext/lists.go version 3, ext/sets.go, cel/library.go; k8s.io/apiserver pkg/cel/library/lists.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cmp_to_key
from itertools import pairwise
from typing import Final

from driver.core.cel import operators, values
from driver.core.cel.errors import Cancelled, EvaluationError, no_such_overload
from driver.core.cel.operators import MAX_ELEMENTS
from driver.core.cel.times import Duration
from driver.core.cel.values import NONE, Growing, GrowingMap, Optional, Uint, Value, kind_of

Items = list[Value] | tuple[Value, ...]
_MAX_INCLUDED: Final = 48
"""ResourceSliceMaxAttributeValuesPerDevice."""
_ZERO: Final[Mapping[str, Value]] = {"int": 0, "uint": Uint(0), "double": 0.0, "duration": Duration(0)}
_SORTABLE: Final = ("int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes")
_ORDERED: Final = frozenset(
    ("bool", "int", "uint", "double", "string", "bytes", "google.protobuf.Duration", "google.protobuf.Timestamp")
)


def size(value: Value) -> int:
    """Return the size of a string, bytes, a list or a map. Raises `EvaluationError`."""
    if isinstance(value, str | bytes | list | tuple | Mapping):
        return len(value)
    raise no_such_overload("size", kind_of(value))


def _compare(one: Value, other: Value) -> int:
    """Compare elements; those that do not compare count as equal, as in Kubernetes' list functions."""
    try:
        return operators.compare(one, other)
    except EvaluationError:
        return 0


def _check_ordered(items: Items) -> None:
    for item in items:
        if kind_of(item) not in _ORDERED:
            raise no_such_overload("compare", kind_of(item))


def _is_sorted(items: Items) -> bool:
    _check_ordered(items)
    return all(_compare(one, other) <= 0 for one, other in pairwise(items))


def _sum(kind: str) -> Callable[[Items], Value]:
    def add_up(items: Items) -> Value:
        total = _ZERO[kind]
        for item in items:
            total = operators.add(total, item)
        return total

    return add_up


def _extreme(name: str, sign: int) -> Callable[[Items], Value]:
    def choose(items: Items) -> Value:
        _check_ordered(items)
        if not items:
            raise EvaluationError(f"{name} called on empty list")
        best = items[0]
        for item in items[1:]:
            if _compare(best, item) == sign:
                best = item
        return best

    return choose


def _sort(items: Items) -> Value:
    return _sort_by(items, items)


def _sort_by(items: Items, ranks: Items) -> Value:
    if len(items) != len(ranks):
        raise EvaluationError(f"@sortByAssociatedKeys() expected {len(items)} keys but got {len(ranks)}")
    if not items:
        return items
    kinds = set(map(kind_of, ranks))
    if len(kinds) > 1 and len(items) > 1:
        raise EvaluationError("list elements must have the same type")
    if not kinds <= _ORDERED:
        raise EvaluationError("list elements must be comparable")
    order = cmp_to_key(_compare)
    return [items[index] for index in sorted(range(len(items)), key=lambda index: order(ranks[index]))]


def _index_of(items: Items, item: Value) -> int:
    return next((index for index, each in enumerate(items) if values.matches(each, item)), -1)


def _last_index_of(items: Items, item: Value) -> int:
    return next((index for index in range(len(items) - 1, -1, -1) if values.matches(items[index], item)), -1)


def _slice(items: Items, start: int, end: int) -> Items:
    if start < 0 or end < 0:
        raise EvaluationError(f"cannot slice({start}, {end}), negative indexes not supported")
    if start > end:
        raise EvaluationError(f"cannot slice({start}, {end}), start index must be less than or equal to end index")
    if end > len(items):
        raise EvaluationError(f"cannot slice({start}, {end}), list is length {len(items)}")
    return items[start:end]


def _flatten(items: Items, level: int = 1) -> Value:
    if level < 0:
        raise EvaluationError("level must be non-negative")
    if level > 1:
        values.check_weight(items)
    flat: list[Value] = []
    pending: list[tuple[Value, int]] = [(item, level) for item in reversed(values.elements(items))]
    while pending:
        item, depth = pending.pop()
        if isinstance(item, list | tuple) and depth:
            pending.extend((each, depth - 1) for each in reversed(item))
        else:
            flat.append(item)
        if len(flat) + len(pending) > MAX_ELEMENTS:
            raise Cancelled
    return flat


def _distinct(items: Items) -> Value:
    if len(items) * len(items) > MAX_ELEMENTS:
        raise Cancelled
    kept: list[Value] = []
    for item in items:
        if not any(values.matches(item, each) for each in kept):
            kept.append(item)
    return kept


def _range(count: int) -> Value:
    if count > MAX_ELEMENTS:
        raise Cancelled
    return list(range(count))


def _contains(items: Items, wanted: Items) -> bool:
    return all(operators.contained(item, items) for item in wanted)


def _insert(target: Mapping[Value, Value], key: Value, value: Value) -> Value:
    wrapped = values.key_of(key)
    if wrapped in target:
        raise EvaluationError(f"insert failed: key {key} already exists")
    if isinstance(target, GrowingMap):
        target[wrapped] = value
        return target
    return {**target, wrapped: value}


def _merge(target: Mapping[Value, Value], update: Mapping[Value, Value]) -> Value:
    merged: Value = target
    for key, value in update.items():
        plain = key.value if isinstance(key, values.BoolKey | values.LoneKey) else key
        merged = _insert(values.entries(merged), plain, value)
    return merged


def _value(optional: Optional) -> Value:
    if not optional.present:
        raise EvaluationError("optional.none() dereference")
    return optional.content


def _of_non_zero(value: Value) -> Optional:
    plain = value is None or isinstance(value, bool | int | float | str | bytes | list | tuple | Mapping)
    if isinstance(value, Duration):
        return Optional(True, value) if value.nanos else NONE
    return NONE if plain and not value else Optional(True, value)


def _unwrap(items: Items) -> Value:
    found: list[Value] = []
    for item in items:
        if not isinstance(item, Optional):
            raise EvaluationError("value is not optional")
        if item.present:
            found.append(item.content)
    return found


def _includes(target: Value, item: Value) -> bool:
    if not isinstance(target, list | tuple):
        return values.matches(target, item)
    for index, each in enumerate(target):
        if index >= _MAX_INCLUDED:
            raise EvaluationError(f"'includes' function cannot be applied to lists longer than {_MAX_INCLUDED} values")
        if values.matches(each, item):
            return True
    return False


def plain(value: Value) -> Value:
    """Return a result that does not grow any more."""
    if isinstance(value, Growing):
        return list(value)
    return dict(value) if isinstance(value, GrowingMap) else value


FUNCTIONS: Final[Mapping[str, Callable[..., Value]]] = {
    **dict.fromkeys(
        ["size_bytes", "bytes_size", "size_list", "list_size", "size_map", "map_size", "size_string", "string_size"],
        size,
    ),
    **{f"list_{kind}_is_sorted_bool": _is_sorted for kind in _SORTABLE},
    **{f"list_{kind}_max_{kind}": _extreme("max", -1) for kind in _SORTABLE},
    **{f"list_{kind}_min_{kind}": _extreme("min", 1) for kind in _SORTABLE},
    **{f"list_{kind}_sum_{kind}": _sum(kind) for kind in _ZERO},
    **{f"list_{kind}_sort": _sort for kind in _ORDERED},
    **{f"list_{kind}_sortByAssociatedKeys": _sort_by for kind in _ORDERED},
    "list_a_index_of_int": _index_of,
    "list_a_last_index_of_int": _last_index_of,
    "list_slice": _slice,
    "list_flatten": _flatten,
    "list_flatten_int": _flatten,
    "list_reverse": lambda items: items[::-1],
    "list_distinct": _distinct,
    "list_first": lambda items: Optional(True, items[0]) if items else NONE,
    "list_last": lambda items: Optional(True, items[-1]) if items else NONE,
    "lists_range": _range,
    "list_sets_contains_list": _contains,
    "list_sets_equivalent_list": lambda one, other: _contains(one, other) and _contains(other, one),
    "list_sets_intersects_list": lambda one, other: any(operators.contained(item, other) for item in one),
    "@mapInsert_map_key_value": _insert,
    "@mapInsert_map_map": _merge,
    "optional_of": lambda value: Optional(True, value),
    "optional_ofNonZeroValue": _of_non_zero,
    "optional_none": lambda: NONE,
    "optional_unwrap": _unwrap,
    "optional_unwrapOpt": _unwrap,
    "optional_value": _value,
    "optional_hasValue": lambda optional: optional.present,
    "dra_includes_dyn_dyn": _includes,
}
"""Functions by the ids of their overloads."""
