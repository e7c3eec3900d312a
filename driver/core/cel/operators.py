"""What the operators do, type by type. Called by evaluating and generated code; pure functions of values.

Integers are 64 bit and overflow is an error; numbers of different types compare and do not add up (CEL language
definition, section "Numeric Values"; Kubernetes turns cross-type comparisons on).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

from driver.core.cel import times, values
from driver.core.cel.errors import Cancelled, EvaluationError, no_such_overload
from driver.core.cel.texts import check_length
from driver.core.cel.times import Duration, Timestamp
from driver.core.cel.values import (
    MAX_INT,
    MAX_UINT,
    MIN_INT,
    NUMBERS,
    Growing,
    Uint,
    Value,
    equal,
    kind_of,
)

Binary = Callable[[Value, Value], Value]
MAX_ELEMENTS: Final = 1_000_000
"""Elements of a list; making each costs a unit, and a million units are allowed."""


def checked_int(number: int) -> int:
    """Return an int that fits 64 bits. Raises `EvaluationError`: integer overflow."""
    if not MIN_INT <= number <= MAX_INT:
        raise EvaluationError("integer overflow")
    return number


def checked_uint(number: int) -> Uint:
    """Return an unsigned int that fits 64 bits. Raises `EvaluationError`: unsigned integer overflow."""
    if not 0 <= number <= MAX_UINT:
        raise EvaluationError("unsigned integer overflow")
    return Uint(number)


def add(left: Value, right: Value) -> Value:
    """`left + right`: numbers of one type, strings, bytes, lists, times."""
    if isinstance(left, str) and isinstance(right, str):
        check_length(len(left) + len(right))
        return left + right
    if isinstance(left, bytes) and isinstance(right, bytes):
        check_length(len(left) + len(right))
        return left + right
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return _concatenated(left, right)
    if isinstance(left, Duration | Timestamp):
        return _add_times(left, right)
    return _number(left, right, _same(left, right, "_+_"), "_+_", lambda one, other: one + other)


def _concatenated(left: list[Value] | tuple[Value, ...], right: list[Value] | tuple[Value, ...]) -> Value:
    if len(left) + len(right) > MAX_ELEMENTS:
        raise Cancelled
    if isinstance(left, Growing):
        left.extend(right)
        return left
    return [*left, *right]


def _add_times(left: Duration | Timestamp, right: Value) -> Value:
    if isinstance(right, Duration):
        if isinstance(left, Duration):
            return times.checked_duration(left.nanos + right.nanos)
        return times.checked_timestamp(left.nanos + right.nanos, left.offset)
    if isinstance(left, Duration) and isinstance(right, Timestamp):
        return times.checked_timestamp(left.nanos + right.nanos, right.offset)
    raise no_such_overload("_+_", left.kind, kind_of(right))


def subtract(left: Value, right: Value) -> Value:
    """`left - right`: numbers of one type, times."""
    if isinstance(left, Timestamp):
        if isinstance(right, Timestamp):
            return times.checked_duration(left.nanos - right.nanos)
        if isinstance(right, Duration):
            return times.checked_timestamp(left.nanos - right.nanos, left.offset)
    if isinstance(left, Duration) and isinstance(right, Duration):
        return times.checked_duration(left.nanos - right.nanos)
    return _number(left, right, _same(left, right, "_-_"), "_-_", lambda one, other: one - other)


def multiply(left: Value, right: Value) -> Value:
    """`left * right`: numbers of one type."""
    return _number(left, right, _same(left, right, "_*_"), "_*_", lambda one, other: one * other)


def divide(left: Value, right: Value) -> Value:
    """`left / right`: whole numbers are cut towards zero; doubles follow IEEE 754."""
    kind = _same(left, right, "_/_")
    if isinstance(left, float) and isinstance(right, float):
        return _divide_doubles(left, right)
    if right == 0:
        raise EvaluationError("division by zero")
    return _number(left, right, kind, "_/_", _quotient)


def remainder(left: Value, right: Value) -> Value:
    """`left % right`: whole numbers; the sign is that of the left one."""
    kind = _same(left, right, "_%_")
    if kind == "double":
        raise no_such_overload("_%_", kind, kind)
    if right == 0:
        raise EvaluationError("modulus by zero")
    if left == MIN_INT and right == -1:
        raise EvaluationError("integer overflow")
    return _number(left, right, kind, "_%_", lambda one, other: one - other * _quotient(one, other))


def negate(operand: Value) -> Value:
    """`-operand`: ints, doubles, durations."""
    if isinstance(operand, float):
        return -operand
    if type(operand) is int:
        return checked_int(-operand)
    if isinstance(operand, Duration):
        return times.checked_duration(-operand.nanos)
    raise no_such_overload("-_", kind_of(operand))


def invert(operand: Value) -> Value:
    """`!operand`: bools."""
    if operand is True or operand is False:
        return not operand
    raise no_such_overload("!_", kind_of(operand))


def contained(item: Value, container: Value) -> Value:
    """`item in container`: an element of a list, a key of a map."""
    if isinstance(container, list | tuple):
        return any(values.matches(item, element) for element in container)
    if isinstance(container, Mapping):
        return bool(container) and values.key_of(item) in container
    raise no_such_overload("@in", kind_of(item), kind_of(container))


def not_equal(left: Value, right: Value) -> Value:
    """`left != right`: an error while comparing means that they are not equal (cel-go evalNe)."""
    return not values.matches(left, right)


def compare(left: Value, right: Value, function: str = "compare") -> int:
    """Return -1, 0 or 1. Raises `EvaluationError` for types without an order, and for NaN."""
    kind, other = kind_of(left), kind_of(right)
    if kind in NUMBERS and other in NUMBERS:
        if left != left or right != right:  # noqa: PLR0124 - only NaN differs from itself
            raise EvaluationError("NaN values cannot be ordered")
        if values.numbers_equal(left, right):
            return 0
        return -1 if left < right else 1  # type: ignore[operator]  # both are numbers
    if kind == other and (kind in {"string", "bytes", "bool"} or isinstance(left, Duration | Timestamp)):
        if left == right:
            return 0
        return -1 if left < right else 1  # type: ignore[operator]  # both are of the same ordered type
    raise no_such_overload(function, kind, other)


def _same(left: Value, right: Value, function: str) -> str:
    kind = kind_of(left)
    if kind != kind_of(right):
        raise no_such_overload(function, kind, kind_of(right))
    return kind


def _number(left: Value, right: Value, kind: str, function: str, compute: Callable[[int, int], int]) -> int | float:
    if kind not in NUMBERS or not isinstance(left, int | float) or not isinstance(right, int | float):
        raise no_such_overload(function, kind, kind)
    result = compute(left, right)  # type: ignore[arg-type]  # the lambdas above serve float as well
    if kind == "int":
        return checked_int(result)
    return checked_uint(result) if kind == "uint" else result


def _quotient(one: int, other: int) -> int:
    size = abs(one) // abs(other)
    return size if (one < 0) == (other < 0) else -size


def _divide_doubles(left: float, right: float) -> float:
    if right != 0:
        return left / right
    if left == 0 or math.isnan(left):
        return math.nan
    return math.copysign(math.inf, left) * math.copysign(1.0, right)


BINARY: Final[Mapping[str, Binary]] = {
    "_==_": equal,
    "_!=_": not_equal,
    "_<_": lambda left, right: compare(left, right, "_<_") < 0,
    "_<=_": lambda left, right: compare(left, right, "_<=_") <= 0,
    "_>_": lambda left, right: compare(left, right, "_>_") > 0,
    "_>=_": lambda left, right: compare(left, right, "_>=_") >= 0,
    "@in": contained,
    "_+_": add,
    "_-_": subtract,
    "_*_": multiply,
    "_/_": divide,
    "_%_": remainder,
}
UNARY: Final[Mapping[str, Callable[[Value], Value]]] = {"!_": invert, "-_": negate}
