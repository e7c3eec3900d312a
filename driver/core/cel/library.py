"""The functions of the language: tables from name and argument types to a function of values.

Called by compiling, which looks a name up once and the types at every call. A name that is in neither table is a
compile error, so an expression that uses what is not built yet never reaches a device.
Covered: CEL's standard functions without time, Kubernetes' quantity, semver, list, regex functions, and the string,
list, set and optional extensions of cel-go. Not covered: time, ip, cidr, url, format, two-variable macros.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from driver.core.cel import collections, conversions, texts
from driver.core.cel.conversions import Overloads
from driver.core.cel.errors import CompileError, EvaluationError, no_such_overload
from driver.core.cel.operators import checked_int
from driver.core.cel.values import MAX_INT, MIN_INT, NONE, Optional, Value, kind_of
from driver.model.quantities import Quantity, of_integer


def _wrap(number: int) -> int:
    """Convert uint64 to int64 as Go does."""
    return number if number <= MAX_INT else number + 2 * MIN_INT


def _compare(left: Quantity, right: Quantity) -> int:
    return (left > right) - (left < right)


def _as_integer(quantity: Quantity) -> int:
    if not quantity.is_whole or abs(quantity.rounded_up) >= MAX_INT:
        raise EvaluationError("cannot convert value to integer")
    return checked_int(quantity.rounded_up)


def _is_integer(quantity: Quantity) -> bool:
    return quantity.is_whole and abs(quantity.rounded_up) < MAX_INT


def _as_float(quantity: Quantity) -> float:
    try:
        return float(quantity)
    except OverflowError:
        return math.inf if quantity.nanos > 0 else -math.inf


def _value(optional: Optional) -> Value:
    if not optional.present:
        raise EvaluationError("optional.none() dereference")
    return optional.content


def _of_non_zero(value: Value) -> Optional:
    empty = value is None or (
        kind_of(value) in ("bool", "int", "uint", "double", "string", "bytes", "list", "map") and not value
    )
    return NONE if empty else Optional(True, value)


GLOBAL: Final[Mapping[str, Overloads]] = {
    **conversions.FUNCTIONS,
    "size": collections.SIZE,
    "matches": texts.MATCHES,
    "sign": {("quantity",): lambda quantity: (quantity.nanos > 0) - (quantity.nanos < 0)},
    "optional.of": {("any",): lambda value: Optional(True, value)},
    "optional.none": {(): lambda: NONE},
    "optional.ofNonZeroValue": {("any",): _of_non_zero},
    "optional.unwrap": {("list",): lambda items: [item.content for item in items if item.present]},
    **texts.FUNCTIONS,
    **collections.FUNCTIONS,
}

_COMPARISONS: Final[Mapping[str, Overloads]] = {
    "compareTo": {("quantity", "quantity"): _compare, ("semver", "semver"): lambda one, two: (one > two) - (one < two)},
    "isGreaterThan": {
        ("quantity", "quantity"): lambda one, other: one > other,
        ("semver", "semver"): lambda one, other: one > other,
    },
    "isLessThan": {
        ("quantity", "quantity"): lambda one, other: one < other,
        ("semver", "semver"): lambda one, other: one < other,
    },
}

METHODS: Final[Mapping[str, Overloads]] = {
    **texts.METHODS,
    **collections.METHODS,
    **_COMPARISONS,
    "size": collections.SIZE,
    "matches": texts.MATCHES,
    "indexOf": {**texts.INDEX_OF, **collections.INDEX_OF},
    "lastIndexOf": {**texts.LAST_INDEX_OF, **collections.LAST_INDEX_OF},
    "asApproximateFloat": {("quantity",): _as_float},
    "asInteger": {("quantity",): _as_integer},
    "isInteger": {("quantity",): _is_integer},
    "add": {
        ("quantity", "quantity"): lambda one, other: one + other,
        ("quantity", "int"): lambda one, number: one + of_integer(number),
    },
    "sub": {
        ("quantity", "quantity"): lambda one, other: one - other,
        ("quantity", "int"): lambda one, number: one - of_integer(number),
    },
    "major": {("semver",): lambda version: _wrap(version.major)},
    "minor": {("semver",): lambda version: _wrap(version.minor)},
    "patch": {("semver",): lambda version: _wrap(version.patch)},
    "hasValue": {("optional",): lambda optional: optional.present},
    "value": {("optional",): _value},
    "orValue": {("optional", "any"): lambda optional, other: optional.content if optional.present else other},
    "or": {("optional", "optional"): lambda optional, other: optional if optional.present else other},
}


def look_up(name: str, count: int, *, method: bool, position: int) -> Overloads:
    """Return the overloads of a function that take `count` arguments. Raises `CompileError` if there are none."""
    found = (METHODS if method else GLOBAL).get(name)
    if found is None:
        raise CompileError(f"undeclared reference to {name!r}: no such function here", position)
    fitting = {kinds: function for kinds, function in found.items() if len(kinds) == count}
    if not fitting:
        raise CompileError(f"found no matching overload for {name!r} with {count} arguments", position)
    return fitting


def call(name: str, overloads: Overloads, arguments: list[Value]) -> Value:
    """Call the overload for these arguments. Raises `EvaluationError` if there is none."""
    kinds = tuple(map(kind_of, arguments))
    function = overloads.get(kinds)
    if function is None:
        function = next((each for types, each in overloads.items() if _fits(kinds, types)), None)
        if function is None:
            raise no_such_overload(name, *kinds)
    return function(*arguments)


def _fits(kinds: tuple[str, ...], types: tuple[str, ...]) -> bool:
    return all(wanted in (kind, "any") for kind, wanted in zip(kinds, types, strict=True))
