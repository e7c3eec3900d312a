"""Quantities as selectors compute with them: exact amounts that know whether Kubernetes keeps them as 64 bit integers.

Part of the library. `isInteger` and `asInteger` answer for the representation, not for the amount: `1000m` is no
integer and `1Ei` is none either. Source: k8s.io/apimachinery pkg/api/resource quantity.go, amount.go.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar, Final

from driver.core.cel.errors import EvaluationError, no_such_overload
from driver.core.cel.values import MAX_INT, MIN_INT, Opaque, Value
from driver.model import quantities
from driver.model.errors import InvalidInput

_TEXT: Final = re.compile(r"[+-]?([0-9]*)(?:\.([0-9]*))?(.*)", re.DOTALL)
_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_FAST_DIGITS: Final = 18
_NANO: Final = -9
_LONGEST: Final = 2000


@dataclass(frozen=True, slots=True, eq=False)
class Amount(Opaque):
    """A quantity: `nanos` is the amount in units of 10^-9.

    Where Kubernetes keeps `value` * 10^`scale` in a 64 bit integer, these are the two; otherwise `value` is None.
    """

    nanos: int
    value: int | None
    scale: int = 0
    is_sum: bool = False
    """True for what `add` and `sub` give: nothing equals it, and `==` with it on the right is an error (upstream)."""
    kind: ClassVar[str] = "kubernetes.Quantity"

    def __eq__(self, other: object) -> bool:
        if type(other) is not Amount:
            raise TypeError("a quantity equals quantities only")
        if other.is_sum:
            raise no_such_overload("_==_", self.kind, self.kind)
        return self.nanos == other.nanos

    def __hash__(self) -> int:
        return hash(self.nanos)


@lru_cache(maxsize=4096)
def parse(text: str) -> Amount:
    """Read a quantity as the API does. Raises `EvaluationError`."""
    if len(text) > _LONGEST:
        raise EvaluationError(f"quantities must match the API's format: more than {_LONGEST} characters")
    try:
        nanos = quantities.parse(text).nanos
    except InvalidInput as error:
        raise EvaluationError(f"quantities must match the API's format: {error}") from error
    value, scale = _representation(text)
    return Amount(nanos, value, scale)


def _representation(text: str) -> tuple[int | None, int]:
    """Return the 64 bit integer and the scale that Kubernetes keeps for a text, or None."""
    found = _TEXT.fullmatch(text)
    assert found is not None  # noqa: S101 - it has been parsed
    whole, fraction, suffix = found[1].lstrip("0") or "0", found[2] or "", found[3]
    if suffix in _BINARY:
        exponent = _BINARY[suffix]
        room = 15 - len(whole) - exponent * 3 // 10 - 1
        scale, factor = 0, 2**exponent
        if fraction:
            return None, 0
    else:
        scale, factor = _DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:]), 1
        room = _FAST_DIGITS - len(whole) - len(fraction)
        scale -= len(fraction)
    if room < 0 or scale < _NANO:
        return None, 0
    value = int(whole + fraction) * factor
    if value > MAX_INT:
        return None, 0
    return (-value if text.startswith("-") else value), scale


def _whole(amount: Amount) -> int | None:
    """Return the amount as Quantity.AsInt64 does, or None."""
    if amount.value is None or amount.scale < 0:
        return None
    whole = amount.value * 10 ** min(amount.scale, 40)
    return whole if MIN_INT <= whole <= MAX_INT else None


def _as_integer(amount: Amount) -> int:
    whole = _whole(amount)
    if whole is None:
        raise EvaluationError("cannot convert value to integer")
    return whole


def _as_float(amount: Amount) -> float:
    number, exponent = (amount.nanos, _NANO) if amount.value is None else (amount.value, amount.scale)
    try:
        base = float(number)
    except OverflowError:
        base = math.inf if number > 0 else -math.inf
    return base if exponent == 0 else base * _power_of_ten(exponent)


def _power_of_ten(exponent: int) -> float:
    return float(f"1e{exponent}")


def _add(one: Amount, other: Amount) -> Amount:
    nanos = one.nanos + other.nanos
    if one.value is None or other.value is None:
        return Amount(nanos, None)
    if other.value == 0:
        return one
    if one.value == 0:
        return other
    scale = min(one.scale, other.scale)
    values = [each.value * 10 ** min(each.scale - scale, 40) for each in (one, other) if each.value is not None]
    value = sum(values)
    fits = all(MIN_INT <= each <= MAX_INT for each in (*values, value))
    return Amount(nanos, value if fits else None, scale if fits else 0)


def _sum(one: Amount, other: Amount) -> Amount:
    return replace(_add(one, other), is_sum=True)


def _negated(amount: Amount) -> Amount:
    return Amount(-amount.nanos, None if amount.value is None else -amount.value, amount.scale)


def _of_int(number: int) -> Amount:
    return Amount(number * 10**9, number)


def compare(one: Amount, other: Amount) -> int:
    """Return -1, 0 or 1."""
    return (one.nanos > other.nanos) - (one.nanos < other.nanos)


def is_quantity(text: str) -> bool:
    """Say whether a text is a quantity."""
    try:
        parse(text)
    except EvaluationError:
        return False
    return True


FUNCTIONS: Final[Mapping[str, Callable[..., Value]]] = {
    "string_to_quantity": parse,
    "is_quantity_string": is_quantity,
    "quantity_sign": lambda amount: (amount.nanos > 0) - (amount.nanos < 0),
    "quantity_is_greater_than": lambda one, other: one.nanos > other.nanos,
    "quantity_is_less_than": lambda one, other: one.nanos < other.nanos,
    "quantity_compare_to": compare,
    "quantity_get_float": _as_float,
    "quantity_get_int": _as_integer,
    "quantity_is_integer": lambda amount: _whole(amount) is not None,
    "quantity_add": _sum,
    "quantity_add_int": lambda amount, number: _sum(amount, _of_int(number)),
    "quantity_sub": lambda one, other: _sum(one, _negated(other)),
    "quantity_sub_int": lambda amount, number: _sum(amount, _of_int(-number)),
}
"""Functions by the ids of their overloads."""
