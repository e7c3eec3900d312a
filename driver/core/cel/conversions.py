"""Conversions between types: `int('42')`, `string(1.5)`, `quantity('1Gi')` and so on. Part of the library's tables.

A text that does not convert is an `EvaluationError`. Doubles are written as Go writes them (strconv 'g', shortest).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Final

from driver.core.cel import semvers
from driver.core.cel.errors import EvaluationError
from driver.core.cel.operators import checked_int, checked_uint
from driver.core.cel.semvers import Semver
from driver.core.cel.values import MAX_INT, MIN_INT, TypeName, Uint, Value, kind_of
from driver.model import quantities
from driver.model.errors import InvalidInput
from driver.model.quantities import Quantity

_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_DOUBLE: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_SPECIAL_DOUBLES: Final = ("nan", "inf", "+inf", "-inf", "infinity", "+infinity", "-infinity")
_BOOLS: Final = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}


def _int_of_text(text: str) -> int:
    if not _INTEGER.fullmatch(text) or not MIN_INT <= int(text) <= MAX_INT:
        raise EvaluationError("type conversion error from 'string' to 'int'")
    return int(text)


def _int_of_double(number: float) -> int:
    if not math.isfinite(number):
        raise EvaluationError("integer overflow")
    return checked_int(int(number))


def _uint_of_text(text: str) -> Uint:
    if not text.isdecimal() or not text.isascii():
        raise EvaluationError("type conversion error from 'string' to 'uint'")
    return checked_uint(int(text))


def _uint_of_double(number: float) -> Uint:
    if not math.isfinite(number):
        raise EvaluationError("unsigned integer overflow")
    return checked_uint(int(number))


def _double_of_text(text: str) -> float:
    if _DOUBLE.fullmatch(text) or text.lower() in _SPECIAL_DOUBLES:
        return float(text)
    raise EvaluationError("type conversion error from 'string' to 'double'")


def _bool_of_text(text: str) -> bool:
    if text not in _BOOLS:
        raise EvaluationError("type conversion error from 'string' to 'bool'")
    return _BOOLS[text]


def _text_of_bytes(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError as error:
        raise EvaluationError("invalid UTF-8 in bytes, cannot convert to string") from error


def text_of_double(number: float) -> str:
    """Write a double as Go's strconv.FormatFloat(x, 'g', -1, 64) with CEL's exponent limit of 21."""
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "+Inf" if number > 0 else "-Inf"
    if number == 0 or 1e-4 <= abs(number) < 1e21:
        text = repr(number)
        if "e" in text:
            return f"{number:.0f}"
        return text.removesuffix(".0")
    mantissa, _, exponent = repr(number).partition("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent):+03d}"


def _quantity(text: str) -> Quantity:
    try:
        return quantities.parse(text)
    except InvalidInput as error:
        raise EvaluationError(f"quantities must match the API's format: {error}") from error


def _succeeds(parse: Callable[[str], Value]) -> Callable[[str], Value]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except EvaluationError:
            return False
        return True

    return check


def _semver(text: str, tolerant: bool) -> Semver:  # noqa: FBT001 - the second argument of CEL's own function
    return semvers.parse_tolerant(text) if tolerant else semvers.parse(text)


def _is_semver(text: str, tolerant: bool) -> Value:  # noqa: FBT001 - the second argument of CEL's own function
    return _succeeds(semvers.parse_tolerant if tolerant else semvers.parse)(text)


Overloads = Mapping[tuple[str, ...], Callable[..., Value]]
"""Functions by the types of their arguments; `any` takes every type."""

FUNCTIONS: Final[Mapping[str, Overloads]] = {
    "int": {
        ("int",): int,
        ("uint",): lambda number: checked_int(int(number)),
        ("double",): _int_of_double,
        ("string",): _int_of_text,
    },
    "uint": {("uint",): Uint, ("int",): checked_uint, ("double",): _uint_of_double, ("string",): _uint_of_text},
    "double": {("double",): float, ("int",): float, ("uint",): float, ("string",): _double_of_text},
    "bool": {("bool",): bool, ("string",): _bool_of_text},
    "bytes": {("bytes",): bytes, ("string",): lambda text: text.encode(errors="surrogatepass")},
    "string": {
        ("string",): str,
        ("int",): str,
        ("uint",): str,
        ("double",): text_of_double,
        ("bool",): lambda flag: "true" if flag else "false",
        ("bytes",): _text_of_bytes,
    },
    "dyn": {("any",): lambda value: value},
    "type": {("any",): lambda value: TypeName(kind_of(value))},
    "quantity": {("string",): _quantity},
    "isQuantity": {("string",): _succeeds(_quantity)},
    "semver": {("string",): semvers.parse, ("string", "bool"): _semver},
    "isSemver": {("string",): _succeeds(semvers.parse), ("string", "bool"): _is_semver},
}
TYPE_NAMES: Final = frozenset(("int", "uint", "double", "bool", "bytes", "string", "list", "map", "null_type", "type"))
