"""List, map and set functions: CEL's size, Kubernetes' list library, cel-go ext/lists and ext/sets.

Part of the library's tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cmp_to_key
from itertools import pairwise
from typing import Final

from driver.core.cel import operators
from driver.core.cel.conversions import Overloads
from driver.core.cel.errors import EvaluationError
from driver.core.cel.semvers import Semver
from driver.core.cel.values import Optional, Value, equal
from driver.model.quantities import Quantity

Items = list[Value] | tuple[Value, ...]
_LONGEST_RANGE: Final = 1_000_000


def order(left: Value, right: Value) -> int:
    """Compare two elements; quantities and versions have an order here, though no `<` of the language."""
    if isinstance(left, Quantity) and isinstance(right, Quantity):
        return (left > right) - (left < right)
    if isinstance(left, Semver) and isinstance(right, Semver):
        return (left > right) - (left < right)
    return operators.compare(left, right, "compare")


def _is_sorted(items: Items) -> bool:
    return all(order(one, other) <= 0 for one, other in pairwise(items))


def _sum(items: Items) -> Value:
    total: Value = 0
    for position, item in enumerate(items):
        if isinstance(item, Quantity):
            total = item + total if isinstance(total, Quantity) else item
        else:
            total = operators.add(total, item) if position else item
    return total


def _least(items: Items) -> Value:
    if not items:
        raise EvaluationError("min called on empty list")
    return min(items, key=cmp_to_key(order))


def _greatest(items: Items) -> Value:
    if not items:
        raise EvaluationError("max called on empty list")
    return max(items, key=cmp_to_key(order))


def sort(items: Items) -> list[Value]:
    """Return the elements in ascending order. Raises `EvaluationError` for types without an order."""
    return sorted(items, key=cmp_to_key(order))


def _index_of(items: Items, item: Value) -> int:
    return next((index for index, each in enumerate(items) if equal(each, item)), -1)


def _last_index_of(items: Items, item: Value) -> int:
    return next((index for index in range(len(items) - 1, -1, -1) if equal(items[index], item)), -1)


def _slice(items: Items, start: int, end: int) -> Items:
    if start < 0 or end < 0:
        raise EvaluationError(f"cannot slice({start}, {end}), negative indexes not supported")
    if start > end:
        raise EvaluationError(f"cannot slice({start}, {end}), start index must be less than or equal to end index")
    if end > len(items):
        raise EvaluationError(f"cannot slice({start}, {end}), list is length {len(items)}")
    return items[start:end]


def _flatten(items: Items, level: int = 1) -> list[Value]:
    if level < 0:
        raise EvaluationError("level must be non-negative")
    flat: list[Value] = []
    for item in items:
        if isinstance(item, list | tuple) and level:
            flat += _flatten(item, level - 1)
        else:
            flat.append(item)
    return flat


def _distinct(items: Items) -> list[Value]:
    kept: list[Value] = []
    for item in items:
        if not any(equal(item, each) for each in kept):
            kept.append(item)
    return kept


def _range(count: int) -> list[Value]:
    if count > _LONGEST_RANGE:
        raise EvaluationError(f"lists.range({count}): more than {_LONGEST_RANGE} elements")
    return list(range(count))


def _contains(items: Items, wanted: Items) -> bool:
    return all(_index_of(items, item) >= 0 for item in wanted)


def _intersects(items: Items, others: Items) -> bool:
    return any(_index_of(items, item) >= 0 for item in others)


_LIST: Final = ("list",)
SIZE: Final[Overloads] = {_LIST: len, ("map",): len, ("string",): len, ("bytes",): len}
INDEX_OF: Final[Overloads] = {("list", "any"): _index_of}
LAST_INDEX_OF: Final[Overloads] = {("list", "any"): _last_index_of}
FUNCTIONS: Final[Mapping[str, Overloads]] = {
    "lists.range": {("int",): _range},
    "sets.contains": {("list", "list"): _contains},
    "sets.equivalent": {("list", "list"): lambda one, other: _contains(one, other) and _contains(other, one)},
    "sets.intersects": {("list", "list"): _intersects},
}
METHODS: Final[Mapping[str, Overloads]] = {
    "isSorted": {_LIST: _is_sorted},
    "sum": {_LIST: _sum},
    "min": {_LIST: _least},
    "max": {_LIST: _greatest},
    "sort": {_LIST: sort},
    "slice": {("list", "int", "int"): _slice},
    "flatten": {_LIST: _flatten, ("list", "int"): _flatten},
    "distinct": {_LIST: _distinct},
    "reverse": {_LIST: lambda items: items[::-1]},
    "first": {_LIST: lambda items: Optional(bool(items), items[0] if items else None)},
    "last": {_LIST: lambda items: Optional(bool(items), items[-1] if items else None)},
}
