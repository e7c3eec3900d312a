"""Kubernetes quantities (`80Gi`, `1500m`, `12e6`): parsed exactly, compared by value, printed canonically.

Called by slicing (comparison, capacities), by the selector language and by allocators. Exact: no floating point.
Grammar, rounding and printing are those of k8s.io/apimachinery/pkg/api/resource, type Quantity.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache, total_ordering
from typing import Final

from driver.model.errors import InvalidInput

NANO: Final = 10**9
"""Quantities are kept in units of 10^-9, the finest that the API keeps; finer ones are rounded away from zero."""
MAX_BINARY: Final = 2**63 - 1
"""Quantities with a binary suffix are capped here without a word, as the API does."""
MAX_EXPONENT: Final = 1000
"""Larger decimal exponents are refused: the number would take more memory than its text is worth."""

_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_SUFFIX: Final = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY_SUFFIXES: Final = ("", *_BINARY)
_TEXT: Final = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?([eEinumkKMGTP]*[+-]?[0-9]*)", re.ASCII)
_EXPONENT: Final = re.compile(r"[eE]([+-]?[0-9]{1,9})", re.ASCII)
_FAST_DIGITS: Final = 18
_ALLOWED: Final = "a Kubernetes quantity, such as 16Gi, 500m, 2 or 1e6"


class Format(Enum):
    """Which family of suffixes a quantity was written with, and is printed with again."""

    DECIMAL = "DecimalSI"
    BINARY = "BinarySI"
    EXPONENT = "DecimalExponent"


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Quantity:
    """An exact amount. Equal amounts are equal and hash alike, however they were written (`1024Mi`, `1Gi`)."""

    nanos: int
    """The amount in units of 10^-9."""
    format: Format = Format.DECIMAL
    written: str = field(default="", repr=False)
    """The text it was read from, where the API prints that text again; otherwise empty."""

    def __eq__(self, other: object) -> bool:
        return self.nanos == other.nanos if isinstance(other, Quantity) else NotImplemented

    def __lt__(self, other: Quantity) -> bool:
        return self.nanos < other.nanos

    def __hash__(self) -> int:
        return hash(self.nanos)

    def __str__(self) -> str:
        return self.written or canonical(self)

    def __add__(self, other: Quantity) -> Quantity:
        return Quantity(self.nanos + other.nanos, self.format)

    def __sub__(self, other: Quantity) -> Quantity:
        return Quantity(self.nanos - other.nanos, self.format)

    def __float__(self) -> float:
        return self.nanos / NANO

    @property
    def is_whole(self) -> bool:
        """True for an amount without a fraction."""
        return self.nanos % NANO == 0

    @property
    def rounded_up(self) -> int:
        """The amount as a whole number, rounded away from zero as Quantity.Value() does."""
        size = -(-abs(self.nanos) // NANO)
        return size if self.nanos >= 0 else -size


def of_integer(number: int) -> Quantity:
    """Return the quantity of a whole number."""
    return Quantity(number * NANO)


@lru_cache(maxsize=4096)
def parse(text: str, field: str = "quantity") -> Quantity:
    """Read a quantity as the API server does: without digits it is 0. Raises `InvalidInput` that names `field`."""
    found = _TEXT.fullmatch(text)
    if found is None or not text:
        raise InvalidInput(field, text, _ALLOWED)
    sign, whole, fraction, suffix = found[1], found[2].lstrip("0") or "0", found[3] or "", found[4]
    exponent, form = _read_suffix(text, suffix, field)
    digits = int(whole + fraction)
    if form is Format.BINARY:
        nanos = min(_scale(digits << exponent, 9 - len(fraction)), MAX_BINARY * NANO)
    else:
        nanos = _scale(digits, 9 + exponent - len(fraction))
    written = text if _is_printed_again(whole, fraction, exponent, form) else ""
    return Quantity(-nanos if sign == "-" else nanos, form, written)


def from_bytes(count: int) -> str:
    """Return the canonical text of a number of bytes: 85899345920 is `80Gi`, 1000 stays `1k`."""
    return canonical(Quantity(count * NANO, Format.BINARY))


def canonical(quantity: Quantity) -> str:
    """Return the shortest exact text of its family: no fraction, the largest suffix that keeps the number whole."""
    if quantity.nanos == 0:
        return "0"
    small = abs(quantity.nanos) < 1024 * NANO
    if quantity.format is Format.BINARY and not small and quantity.is_whole:
        return _print_binary(quantity.nanos // NANO)
    return _print_decimal(quantity.nanos, quantity.format)


def _print_binary(number: int) -> str:
    power = 0
    while number % 1024 == 0 and power < len(_BINARY_SUFFIXES) - 1:
        number //= 1024
        power += 1
    return f"{number}{_BINARY_SUFFIXES[power]}"


def _print_decimal(nanos: int, form: Format) -> str:
    number, exponent = nanos, -9
    while number % 1000 == 0:
        number //= 1000
        exponent += 3
    suffix = None if form is Format.EXPONENT else _DECIMAL_SUFFIX.get(exponent)
    if suffix is None:
        suffix = f"e{exponent}" if exponent else ""
    return f"{number}{suffix}"


def _read_suffix(text: str, suffix: str, field: str) -> tuple[int, Format]:
    """Return the exponent (base 10, or base 2 for `Format.BINARY`) and the family of a suffix."""
    if suffix in _DECIMAL:
        return _DECIMAL[suffix], Format.DECIMAL
    if suffix in _BINARY:
        return _BINARY[suffix], Format.BINARY
    exponent = _EXPONENT.fullmatch(suffix)
    if exponent is None or abs(int(exponent[1])) > MAX_EXPONENT:
        raise InvalidInput(field, text, _ALLOWED)
    return int(exponent[1]), Format.EXPONENT


def _scale(digits: int, exponent: int) -> int:
    """Return digits * 10^exponent, rounded up to an integer."""
    if exponent >= 0:
        return int(digits * 10**exponent)
    return int(-(-digits // 10**-exponent))


def _is_printed_again(whole: str, fraction: str, scale: int, form: Format) -> bool:
    """Tell whether the API server prints the text as it was written instead of a canonical one.

    It takes short texts that look canonical to it as they are (`1.500`, `007`, `1E3`), and clients see that.
    """
    if form is Format.BINARY:
        short = len(whole) + scale * 3 // 10 + 1 <= 15
        return short and not fraction and int(whole) & 7 != 0
    digits = whole + fraction
    scale -= len(fraction)
    plain = digits[0] != "0" and not digits.endswith("000")
    return plain and len(digits) <= _FAST_DIGITS and scale >= -9 and scale % 3 == 0
