"""Conversions between types: `int('42')`, `string(1.5)`, `timestamp(0)` and so on. Part of the library.

A text that does not convert is an `EvaluationError`. Doubles are written as Go writes them (strconv 'g', shortest).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final

from driver.core.cel import times
from driver.core.cel.errors import EvaluationError
from driver.core.cel.operators import checked_int, checked_uint
from driver.core.cel.values import MAX_INT, MIN_INT, TypeName, Uint, Value, kind_of

_INTEGER: Final = re.compile(r"([+-]?)0*([0-9]{1,20})", re.ASCII)
_DOUBLE: Final = re.compile(
    r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|inf(?:inity)?|nan)", re.ASCII | re.IGNORECASE
)
_HEX_DOUBLE: Final = re.compile(r"[+-]?0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)[pP][+-]?[0-9]+", re.ASCII)
_BOOLS: Final = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}
_LONGEST: Final = 1000


def _no_conversion(kind: str) -> EvaluationError:
    return EvaluationError(f"type conversion error from 'string' to '{kind}'")


def _int_of_text(text: str) -> int:
    found = _INTEGER.fullmatch(text)
    number = int(found[1] + found[2]) if found else MAX_INT + 1
    if not MIN_INT <= number <= MAX_INT:
        raise _no_conversion("int")
    return number


def _int_of_double(number: float) -> int:
    if not (float(MIN_INT) < number < float(MAX_INT)):
        raise EvaluationError("integer overflow")
    return int(number)


def _uint_of_text(text: str) -> Uint:
    found = _INTEGER.fullmatch(text)
    if found is None or found[1]:
        raise _no_conversion("uint")
    try:
        return checked_uint(int(found[2]))
    except EvaluationError as error:
        raise _no_conversion("uint") from error


def _uint_of_double(number: float) -> Uint:
    if not math.isfinite(number) or number < 0:
        raise EvaluationError("unsigned integer overflow")
    return checked_uint(int(number))


def _double_of_text(text: str) -> float:
    if len(text) <= _LONGEST and _DOUBLE.fullmatch(text):
        number = float(text)
    elif len(text) <= _LONGEST and _HEX_DOUBLE.fullmatch(text):
        number = _hex_double(text)
    else:
        raise _no_conversion("double")
    if math.isinf(number) and "n" not in text.lower():
        raise _no_conversion("double")
    return number


def _hex_double(text: str) -> float:
    try:
        return float.fromhex(text)
    except OverflowError as error:
        raise _no_conversion("double") from error


def _bool_of_text(text: str) -> bool:
    if text not in _BOOLS:
        raise _no_conversion("bool")
    return _BOOLS[text]


def _text_of_bytes(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError as error:
        raise EvaluationError("invalid UTF-8 in bytes, cannot convert to string") from error


def text_of_double(number: float) -> str:
    """Write a double as Go's strconv does in format g: the fewest digits, an exponent below 1e-4 and from 1e6 on."""
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "+Inf" if number > 0 else "-Inf"
    if number == 0 or 1e-4 <= abs(number) < 1e6:
        return repr(number).removesuffix(".0")
    sign, digits, exponent = Decimal(repr(number)).normalize().as_tuple()
    written = "".join(map(str, digits))
    power = len(digits) - 1 + int(exponent)
    fraction = f".{written[1:]}" if written[1:] else ""
    return f"{'-' if sign else ''}{written[0]}{fraction}e{power:+03d}"


def _timestamp_of_int(seconds: int) -> Value:
    return times.checked_timestamp(seconds * times.SECOND)


def _no_duration(_: int) -> Value:
    raise EvaluationError("type conversion error from 'int' to 'google.protobuf.Duration'")


def _text_of_bool(flag: bool) -> str:  # noqa: FBT001 - the value
    return "true" if flag else "false"


def type_name(value: Value) -> TypeName:
    """Return the type of a value, as a value."""
    return TypeName(kind_of(value))


def _same(value: Value) -> Value:
    return value


FUNCTIONS: Final[Mapping[str, Callable[..., Value]]] = {
    "type": type_name,
    "to_dyn": _same,
    **dict.fromkeys(
        [
            "bool_to_bool",
            "bytes_to_bytes",
            "double_to_double",
            "duration_to_duration",
            "int64_to_int64",
            "string_to_string",
            "timestamp_to_timestamp",
            "uint64_to_uint64",
        ],
        _same,
    ),
    "string_to_bool": _bool_of_text,
    "string_to_bytes": str.encode,
    "int64_to_double": float,
    "uint64_to_double": float,
    "string_to_double": _double_of_text,
    "int64_to_duration": _no_duration,
    "string_to_duration": times.parse_duration,
    "double_to_int64": _int_of_double,
    "duration_to_int64": lambda duration: duration.nanos,
    "string_to_int64": _int_of_text,
    "timestamp_to_int64": lambda timestamp: timestamp.seconds,
    "uint64_to_int64": lambda number: checked_int(int(number)),
    "bool_to_string": _text_of_bool,
    "bytes_to_string": _text_of_bytes,
    "double_to_string": text_of_double,
    "duration_to_string": times.print_duration,
    "int64_to_string": str,
    "timestamp_to_string": times.print_timestamp,
    "uint64_to_string": str,
    "int64_to_timestamp": _timestamp_of_int,
    "string_to_timestamp": times.parse_timestamp,
    "double_to_uint64": _uint_of_double,
    "int64_to_uint64": checked_uint,
    "string_to_uint64": _uint_of_text,
}
"""Functions by the ids of their overloads."""
