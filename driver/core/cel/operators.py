"""What the operators do, type by type. Called by compiling; pure functions of values.

Integers are 64 bit and overflow is an error; numbers of different types compare and do not add up (CEL language
definition, section "Numeric Values"; Kubernetes turns cross-type comparisons on).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

from driver.core.cel import values
from driver.core.cel.errors import EvaluationError, no_such_overload
from driver.core.cel.values import MAX_INT, MAX_UINT, MIN_INT, NUMBERS, Uint, Value, equal, kind_of

Binary = Callable[[Value, Value], Value]


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
    """`left + right`: numbers of one type, strings, bytes, lists."""
    kind = _same(left, right, "_+_")
    if kind in ("string", "bytes"):
        return left + right  # type: ignore[operator]  # both are str or both are bytes, see kind
    if kind == "list":
        return [*values.elements(left), *values.elements(right)]
    return _number(left, right, kind, "_+_", lambda one, other: one + other)


def subtract(left: Value, right: Value) -> Value:
    """`left - right`: numbers of one type."""
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
    return _number(left, right, kind, "_%_", lambda one, other: one - other * _quotient(one, other))


def negate(operand: Value) -> Value:
    """`-operand`: ints and doubles."""
    if isinstance(operand, float):
        return -operand
    if type(operand) is int:
        return checked_int(-operand)
    raise no_such_overload("-_", kind_of(operand))


def invert(operand: Value) -> Value:
    """`!operand`: bools."""
    if operand is True or operand is False:
        return not operand
    raise no_such_overload("!_", kind_of(operand))


def contained(item: Value, container: Value) -> Value:
    """`item in container`: an element of a list, a key of a map."""
    if isinstance(container, list | tuple):
        return any(equal(item, element) for element in container)
    if isinstance(container, Mapping):
        return kind_of(item) in ("bool", "string", *NUMBERS) and values.key_of(item) in container
    raise no_such_overload("@in", kind_of(item), kind_of(container))


def compare(left: Value, right: Value, function: str) -> int:
    """Return -1, 0 or 1 (2 for a NaN). Raises `EvaluationError` for types without an order."""
    kind, other = kind_of(left), kind_of(right)
    if (kind in NUMBERS and other in NUMBERS) or (kind == other and kind in ("string", "bytes", "bool")):
        if left == right:
            return 0
        if left < right:  # type: ignore[operator]  # both are numbers, or of the same ordered type
            return -1
        return 1 if left > right else 2  # type: ignore[operator]  # the same
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
    "==": equal,
    "!=": lambda left, right: not equal(left, right),
    "<": lambda left, right: compare(left, right, "_<_") == -1,
    "<=": lambda left, right: compare(left, right, "_<=_") in (-1, 0),
    ">": lambda left, right: compare(left, right, "_>_") == 1,
    ">=": lambda left, right: compare(left, right, "_>=_") in (0, 1),
    "in": contained,
    "+": add,
    "-": subtract,
    "*": multiply,
    "/": divide,
    "%": remainder,
}
UNARY: Final[Mapping[str, Callable[[Value], Value]]] = {"!_": invert, "-_": negate}
