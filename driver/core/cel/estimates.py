"""What a call costs at most, and how large its result is: one function for each kind of call. Called by costing alone.

Sizes are ranges, costs upper bounds; both stop at 2^64 - 1 as in Go. Sources: cel-go checker/cost.go, ext/lists.go,
ext/sets.go; k8s.io/apiserver pkg/cel/library/cost.go, EstimateCallCost. What looks odd there is odd here, because the
API server refuses expressions by these numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from driver.core.cel import tracking
from driver.core.cel.syntax import Literal, Node
from driver.core.cel.typesystem import Type

MAX: Final = 2**64 - 1
_TWO_TO_64: Final = 2.0**64
TEXT: Final = tracking.TEXT
REGEX: Final = tracking.REGEX
_FORMAT_REGEX: Final = 128
_MAX_FORMAT: Final = 64

Size = tuple[int, int]
"""The smallest and the largest size of a text, a list or a map."""
UNKNOWN: Final[Size] = (0, MAX)


def add(*numbers: int) -> int:
    """Add, stopping at the largest number."""
    return min(sum(numbers), MAX)


def times(one: int, other: int) -> int:
    """Multiply, stopping at the largest number."""
    return min(one * other, MAX)


def scaled(number: int, factor: float) -> int:
    """Multiply by a fraction and round up."""
    result = math.ceil(float(number) * factor)
    return MAX if result >= _TWO_TO_64 else result


def add_sizes(one: Size, other: Size) -> Size:
    """Add ranges."""
    return add(one[0], other[0]), add(one[1], other[1])


def multiply_sizes(one: Size, other: Size) -> Size:
    """Multiply ranges."""
    return times(one[0], other[0]), times(one[1], other[1])


def union(one: Size, other: Size) -> Size:
    """Return the range that holds both."""
    return min(one[0], other[0]), max(one[1], other[1])


@dataclass(frozen=True, slots=True)
class Operand:
    """An argument: its node, its type, its size if that is known, and the size of the elements of a list."""

    node: Node
    type: Type
    known: Size | None
    element: Size

    @property
    def size(self) -> Size:
        """Its size, or the largest range."""
        return self.known or UNKNOWN


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a call costs at most, without its arguments, and the size of its result if it has one."""

    cost: int
    size: Size | None = None


Estimator = Callable[[tuple[Operand, ...]], Estimate]


def _constant(cost: int) -> Estimator:
    return lambda _: Estimate(cost)


ONE: Final = _constant(1)


def _traversed(index: int = 0, factor: float = TEXT, *, kept: bool = False) -> Estimator:
    """A text is looked at once; with `kept` the result may be as large."""

    def estimate(operands: tuple[Operand, ...]) -> Estimate:
        size = operands[index].size
        return Estimate(scaled(size[1], factor), size if kept else None)

    return estimate


def _regex(operands: tuple[Operand, ...], *, sized: bool) -> Estimate:
    text, regex = operands[0].size, operands[1].size
    cost = times(scaled(add(text[1], 1), TEXT), scaled(regex[1], REGEX))
    return Estimate(cost, (0, text[1]) if sized else None)


def _contains(operands: tuple[Operand, ...]) -> Estimate:
    return Estimate(times(scaled(operands[0].size[1], TEXT), scaled(operands[1].size[1], TEXT)))


def _concatenated(operands: tuple[Operand, ...]) -> Estimate:
    size = add_sizes(operands[0].size, operands[1].size)
    return Estimate(scaled(size[1], TEXT), size)


def _lists_joined(operands: tuple[Operand, ...]) -> Estimate:
    return Estimate(1, add_sizes(operands[0].size, operands[1].size))


def _compared(operands: tuple[Operand, ...]) -> Estimate:
    return Estimate(scaled(min(operands[0].size[1], operands[1].size[1]), TEXT))


def _equals(operands: tuple[Operand, ...]) -> Estimate:
    one, other = operands
    if one.type.kind == other.type.kind and one.type.name == other.type.name and not one.type.is_optional:
        if one.type.kind == "opaque" or one.type.name in {"kubernetes.Quantity", "kubernetes.Semver"}:
            return Estimate(1)
        if one.type.name == "kubernetes.NamedFormat":
            return Estimate(scaled(_MAX_FORMAT, TEXT))
        if one.type.name == "kubernetes.URL":
            return Estimate(scaled(max(1, (other.known or (1, 1))[1]), TEXT))
    return _compared(operands)


def _elements(operands: tuple[Operand, ...]) -> Estimate:
    """`isSorted`, `sum`, `max`, `min`, `indexOf`, `lastIndexOf`."""
    target = operands[0]
    if not target.type.parameters:
        return Estimate(scaled(target.size[1], TEXT))
    cost = 1
    if target.type.parameters[0].kind in {"string", "bytes"}:
        cost = add(cost, scaled(target.element[1], TEXT))
    return Estimate(times(target.size[1], cost))


def _replace(operands: tuple[Operand, ...]) -> Estimate:
    size, old, new = (operand.size for operand in operands[:3])
    if old[0] == 0:
        most, kept_most = add(size[1], 1), size[1]
    elif new[1] <= old[0]:
        most, kept_most = 0, size[1]
    else:
        most, kept_most = scaled_quotient(size[1], old[0]), 0
    if old[1] == 0:
        least, kept_least = add(size[0], 1), size[0]
    elif old[1] <= new[0]:
        least, kept_least = 0, size[0]
    else:
        least, kept_least = scaled_quotient(size[0], old[1]), 0
    result = add_sizes(multiply_sizes((least, most), new), (kept_least, kept_most))
    return Estimate(scaled(size[1], 2 * TEXT), result)


def scaled_quotient(number: int, divisor: int) -> int:
    """Divide as doubles and round up, as Go converts the result."""
    result = math.ceil(float(number) / float(divisor))
    return MAX if result >= _TWO_TO_64 else result


def _split(operands: tuple[Operand, ...]) -> Estimate:
    size = operands[0].size
    most = size[1]
    if len(operands) > 2 and isinstance(operands[2].node, Literal) and type(operands[2].node.value) is int:
        most = operands[2].node.value & MAX
    return Estimate(scaled(size[1], 2 * TEXT), (0, most))


def _join(operands: tuple[Operand, ...]) -> Estimate:
    target = operands[0]
    size: Size = multiply_sizes(target.size, target.element) if target.type.parameters else (0, 0)
    if len(operands) > 1:
        between = max(0, target.size[0] - 1), max(0, target.size[1] - 1)
        size = add_sizes(size, multiply_sizes(operands[1].size, between))
    return Estimate(scaled(size[1], TEXT), size)


def _contains_address(*, text: bool, network: bool) -> Estimator:
    def estimate(operands: tuple[Operand, ...]) -> Estimate:
        cost = scaled(32, TEXT) + (scaled(16, TEXT) + 1 if network else 0)
        return Estimate(add(cost, scaled(operands[1].size[1], TEXT)) if text else cost)

    return estimate


def _validate(operands: tuple[Operand, ...]) -> Estimate:
    return Estimate(scaled(scaled(operands[1].size[1], TEXT), _FORMAT_REGEX * REGEX))


def _allocated(factor: float, size: Size) -> Estimate:
    return Estimate(add(scaled(size[1], factor), 1, tracking.LIST), size)


def _integer(node: Node, default: int) -> int:
    if isinstance(node, Literal) and type(node.value) is int:
        return max(0, node.value)
    return default


def _slice(operands: tuple[Operand, ...]) -> Estimate:
    start, end = _integer(operands[1].node, 0), _integer(operands[2].node, operands[0].size[1])
    length = (end - start) & MAX
    return _allocated(1, (length, length))


def _range(operands: tuple[Operand, ...]) -> Estimate:
    length = _integer(operands[0].node, MAX)
    return _allocated(1, (length, length))


def _flatten(operands: tuple[Operand, ...]) -> Estimate:
    depth = _integer(operands[1].node, MAX) if len(operands) > 1 else 1
    return _allocated(float(depth), operands[0].size)


def _self_compared(index: int, factor: float) -> Estimator:
    return lambda operands: _allocated(factor, multiply_sizes(operands[index].size, operands[index].size))


def _sets(factor: float) -> Estimator:
    return lambda operands: Estimate(add(scaled(times(operands[0].size[1], operands[1].size[1]), factor), 1))


def _bytes_of_text(operands: tuple[Operand, ...]) -> Estimate:
    size = operands[0].size
    return Estimate(scaled(size[1], TEXT), (size[0], size[1] * 4 & MAX))


def _text_of_bytes(operands: tuple[Operand, ...]) -> Estimate:
    size = operands[0].size
    return Estimate(scaled(size[1], TEXT), (size[0] // 4, size[1]))


def _quote(operands: tuple[Operand, ...]) -> Estimate:
    size = operands[0].size
    return Estimate(scaled(size[1], TEXT), (size[0] + 2 & MAX, size[1] * 2 + 2 & MAX))


def _sorted_kind(overload: str) -> float:
    return 2.0 + TEXT if overload.startswith(("list_string_", "list_bytes_")) else 2.0


_OVERLOADS: Final[Mapping[str, Estimator]] = {
    "list_slice": _slice,
    "list_flatten": _flatten,
    "list_flatten_int": _flatten,
    "lists_range": _range,
    "list_reverse": lambda operands: _allocated(1, operands[0].size),
    "list_distinct": _self_compared(0, 2.0),
    "list_sets_contains_list": _sets(1),
    "list_sets_intersects_list": _sets(1),
    "list_sets_equivalent_list": _sets(2),
    "string_format": _traversed(),
    "string_to_bytes": _bytes_of_text,
    "bytes_to_string": _text_of_bytes,
    "strings_quote": _quote,
    "starts_with_string": _traversed(1),
    "ends_with_string": _traversed(1),
    "in_list": _traversed(1, 1),
    "matches_string": lambda operands: _regex(operands, sized=False),
    "contains_string": _contains,
    "add_string": _concatenated,
    "add_bytes": _concatenated,
    "add_list": _lists_joined,
    **{
        f"{name}_{kind}": _compared
        for name in ("less", "less_equals", "greater", "greater_equals")
        for kind in ("string", "bytes")
    },
    "not_equals": _compared,
    "equals": _equals,
    "cidr_ip": ONE,
    "cidr_contains_ip_string": _contains_address(text=True, network=False),
    "cidr_contains_ip_ip": _contains_address(text=False, network=False),
    "cidr_contains_cidr_string": _contains_address(text=True, network=True),
    "cidr_contains_cidr": _contains_address(text=False, network=True),
    "dra_includes_dyn_dyn": _constant(48),
}
_FUNCTIONS: Final[Mapping[str, Estimator]] = {
    **dict.fromkeys(("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"), _elements),
    **dict.fromkeys(("url", "lowerAscii", "upperAscii", "substring", "trim"), _traversed(kept=True)),
    "replace": _replace,
    "split": _split,
    "join": _join,
    **dict.fromkeys(("find", "findAll"), lambda operands: _regex(operands, sized=True)),
    **dict.fromkeys(("cidr", "isIP", "isCIDR", "ip", "quantity", "isQuantity", "semver", "isSemver"), _traversed()),
    "ip.isCanonical": _traversed(factor=2 * TEXT),
    "validate": _validate,
}


def estimator(function: str, overload: str) -> Estimator:
    """Return what estimates a call of one overload."""
    if overload.endswith("_sort"):
        return _self_compared(0, _sorted_kind(overload))
    if overload.endswith("_sortByAssociatedKeys"):
        return _self_compared(1, _sorted_kind(overload))
    return _OVERLOADS.get(overload) or _FUNCTIONS.get(function, ONE)
