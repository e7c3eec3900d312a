"""Kubernetes quantities: parse and compare amounts such as `80Gi`, `1500m` and `1e3`.

Called by whoever compares capacities (slices, the selector language, the scheduler of the embedded cluster).
Rules: k8s.io/apimachinery pkg/api/resource quantity.go, ParseQuantity: at most nine decimal places, finer amounts are
rounded away from zero, binary amounts beyond int64 are cut to its maximum. Must not format: texts stay as written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from driver.model.errors import InvalidInput

NANO: Final = 1_000_000_000
MAX_INT64: Final = 2**63 - 1
_MAX_EXPONENT: Final = 1_000
"""Beyond this the number has more digits than any device; upstream refuses the text when it no longer fits int32."""
_SHAPE: Final = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?([A-Za-z]*[-+]?[0-9]*)")
_EXPONENT: Final = re.compile(r"[eE]([-+]?[0-9]+)")
_BINARY: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_ALLOWED: Final = "a number with an optional suffix n, u, m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei or exponent"


@dataclass(frozen=True, slots=True, order=True)
class Quantity:
    """An exact amount, counted in billionths; equal amounts are equal however they were written (1024Mi is 1Gi)."""

    nanos: int

    def __add__(self, other: Quantity) -> Quantity:
        return Quantity(self.nanos + other.nanos)

    def __sub__(self, other: Quantity) -> Quantity:
        return Quantity(self.nanos - other.nanos)

    @property
    def is_whole(self) -> bool:
        """True for an amount without a fraction."""
        return self.nanos % NANO == 0

    @property
    def rounded_up(self) -> int:
        """The amount as a whole number, rounded away from zero as Quantity.Value() does."""
        size = -(-abs(self.nanos) // NANO)
        return size if self.nanos >= 0 else -size

    def __float__(self) -> float:
        return self.nanos / NANO


def of_integer(number: int) -> Quantity:
    """Return the quantity of a whole number."""
    return Quantity(number * NANO)


def parse(text: str, field: str = "quantity") -> Quantity:
    """Parse a quantity as the API server does. Raises `InvalidInput` that names `field`."""
    match = _SHAPE.fullmatch(text)
    if match is None or not (match[2] or match[3]):
        raise InvalidInput(field, text, _ALLOWED)
    sign, whole, fraction, suffix = match[1], match[2], match[3] or "", match[4]
    digits = int(whole + fraction or "0")
    if suffix in _BINARY:
        nanos = min(_scaled(digits << _BINARY[suffix], 9 - len(fraction)), MAX_INT64 * NANO)
    else:
        nanos = _scaled(digits, _decimal_exponent(text, suffix, field) + 9 - len(fraction))
    return Quantity(-nanos if sign == "-" else nanos)


def _decimal_exponent(text: str, suffix: str, field: str) -> int:
    if suffix in _DECIMAL:
        return _DECIMAL[suffix]
    exponent = _EXPONENT.fullmatch(suffix)
    if exponent is None or abs(int(exponent[1])) > _MAX_EXPONENT:
        raise InvalidInput(field, text, _ALLOWED)
    return int(exponent[1])


def _scaled(number: int, exponent: int) -> int:
    """Return number * 10^exponent, rounded up."""
    return int(number * 10**exponent) if exponent >= 0 else -(-number // 10**-exponent)
