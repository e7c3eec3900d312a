"""What a call costs while an expression runs. Called by evaluating, for expressions that could cost too much.

Sources: cel-go interpreter/runtimecost.go and ext/*.go; k8s.io/apiserver pkg/cel/library/cost.go, CallCost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

from driver.core.cel import values
from driver.core.cel.formats import NamedFormat
from driver.core.cel.networks import Address, Network
from driver.core.cel.values import Opaque, Optional, Value

LIMIT: Final = 1_000_000
"""CELSelectorExpressionMaxCost of the API."""
TEXT: Final = 0.1
"""A character that is looked at."""
REGEX: Final = 0.25
"""A character of a regular expression."""
LIST: Final = 10
MAP: Final = 30
MESSAGE: Final = 40
Arguments = list[Value]
Cost = Callable[[Arguments, Value], int]
FAILED: Final = object()
"""Stands for a value that is an error."""


def size_of(value: Value) -> int:
    """Return the size of a value as cost tracking sees it."""
    if isinstance(value, str | bytes | list | tuple | Mapping):
        return len(value)
    if isinstance(value, Address):
        return value.bits // 8
    if isinstance(value, Network):
        return -(-value.length // 8)
    return 1


def _unwrapped_size(value: Value) -> int:
    return _unwrapped_size(value.content) if isinstance(value, Optional) and value.present else size_of(value)


def _up(number: float) -> int:
    return math.ceil(number)


def _first(factor: float, size: Callable[[Value], int] = size_of) -> Cost:
    return lambda arguments, _: _up(size(arguments[0]) * factor)


def _constant(cost: int) -> Cost:
    return lambda _arguments, _result: cost


def _smaller(arguments: Arguments, _: Value) -> int:
    return _up(min(map(_unwrapped_size, arguments)) * TEXT)


def _both(arguments: Arguments, _: Value) -> int:
    return _up(sum(map(_unwrapped_size, arguments)) * TEXT)


def _regex(arguments: Arguments, _: Value) -> int:
    return _up((1.0 + size_of(arguments[0])) * TEXT) * _up(size_of(arguments[1]) * REGEX)


def _contains(arguments: Arguments, _: Value) -> int:
    return _up(size_of(arguments[0]) * TEXT) * _up(size_of(arguments[1]) * TEXT)


def _traversal_of_first(arguments: Arguments, _: Value) -> int:
    values.check_weight(arguments[0])
    return _traversal(arguments[0])


def _traversal(value: Value) -> int:
    if isinstance(value, str):
        return int(len(value.encode(errors="replace")) * TEXT)
    if isinstance(value, bytes):
        return int(len(value) * TEXT)
    if isinstance(value, list | tuple):
        return sum(map(_traversal, value))
    if isinstance(value, Mapping):
        return sum(_traversal(key) + _traversal(content) for key, content in value.items())
    return 1


def _contains_address(arguments: Arguments, _: Value) -> int:
    return _up(2 * size_of(arguments[0]) * TEXT)


def _contains_network(arguments: Arguments, _: Value) -> int:
    return _contains_address(arguments, _) + _up(size_of(arguments[0]) * TEXT) + 1


def _and_parsing(contains: Cost) -> Cost:
    """The text is read first. Only where the type is known before: with an attribute no overload is chosen yet."""
    return lambda arguments, result: contains(arguments, result) + _up(size_of(arguments[1]) * TEXT)


def _validate(arguments: Arguments, _: Value) -> int:
    named, text = arguments
    size = named.regex_size if isinstance(named, NamedFormat) else 4
    return _up((1.0 + size_of(text)) * TEXT) * _up(size * REGEX)


def _allocated(factor: float, size: int) -> int:
    return int(size * factor) + 1 + LIST


def _flatten(arguments: Arguments, _: Value) -> int:
    depth = arguments[1] if len(arguments) > 1 else 1
    return max(0, _allocated(float(depth) if isinstance(depth, int) else 1.0, size_of(arguments[0])))


def _self_compared(index: int) -> Cost:
    def cost(arguments: Arguments, _: Value) -> int:
        items = arguments[index]
        if not isinstance(items, list | tuple) or not items:
            return _allocated(2.0, 0)
        return _allocated(2.0 + (TEXT if isinstance(items[0], str | bytes) else 0.0), len(items) * len(items))

    return cost


def _sets(factor: float) -> Cost:
    return lambda arguments, _: 1 + int(size_of(arguments[0]) * size_of(arguments[1]) * factor)


def _equality(arguments: Arguments, result: Value) -> int:
    if isinstance(arguments[0], Opaque) and arguments[0].is_strict:
        return 1
    return _smaller(arguments, result)


_ONE: Final = _constant(1)
_OVERLOADS: Final[Mapping[str, Cost]] = {
    **dict.fromkeys(("starts_with_string", "ends_with_string", "string_to_bytes", "bytes_to_string"), _first(TEXT)),
    **dict.fromkeys(("strings_quote", "string_format"), _first(TEXT)),
    "in_list": lambda arguments, _: _unwrapped_size(arguments[1]),
    **{
        f"{name}_{kind}": _smaller
        for name in ("less", "less_equals", "greater", "greater_equals")
        for kind in ("string", "bytes")
    },
    "add_string": _both,
    "add_bytes": _both,
    "matches_string": _regex,
    "contains_string": _contains,
    "list_slice": lambda _, result: _allocated(1, size_of(result)),
    "lists_range": lambda _, result: _allocated(1, size_of(result)),
    "list_reverse": lambda _, result: _allocated(1, size_of(result)),
    "list_flatten": _flatten,
    "list_flatten_int": _flatten,
    "list_distinct": _self_compared(0),
    "list_sets_contains_list": _sets(1),
    "list_sets_intersects_list": _sets(1),
    "list_sets_equivalent_list": _sets(2),
    "cidr_ip": _ONE,
    "cidr_contains_ip_string": _and_parsing(_contains_address),
    "cidr_contains_cidr_string": _and_parsing(_contains_network),
}
_FUNCTIONS: Final[Mapping[str, Cost]] = {
    "_==_": _equality,
    "_!=_": _smaller,
    **dict.fromkeys(("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"), _traversal_of_first),
    **dict.fromkeys(("url", "lowerAscii", "upperAscii", "substring", "trim"), _first(TEXT)),
    **dict.fromkeys(("replace", "split", "ip.isCanonical"), _first(2 * TEXT)),
    "join": lambda _, result: _up(size_of(result) * 2 * TEXT),
    "find": _regex,
    "findAll": _regex,
    **dict.fromkeys(("cidr", "isIP", "isCIDR", "ip", "quantity", "isQuantity", "semver", "isSemver"), _first(TEXT)),
    "containsIP": _contains_address,
    "containsCIDR": _contains_network,
    "validate": _validate,
}
_FREE: Final = frozenset(("_&&_", "_||_", "_?_:_", "or", "orValue"))


def cost_of(function: str, overload: str) -> Cost | None:
    """Return what says the cost of a call, or None if calling costs nothing. No `overload`: several are possible."""
    if function in _FREE:
        return None
    if overload.endswith("_sort"):
        return _self_compared(0)
    if overload.endswith("_sortByAssociatedKeys"):
        return _self_compared(1)
    return _OVERLOADS.get(overload) or _FUNCTIONS.get(function, _ONE)
