"""`"%s is %d".format([a, b])`, version 2 of cel-go ext/strings with the locale en_US. Part of the library.

Clauses: %s %d %f %e %b %x %X %o %%, and a precision for %f and %e. Source: cel-go ext/formatting.go. The same
reading of a format serves to check constant formats against the types of their arguments (validating).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from driver.core.cel import conversions, times, values
from driver.core.cel.errors import EvaluationError
from driver.core.cel.texts import check_length
from driver.core.cel.times import Duration, Timestamp
from driver.core.cel.values import TypeName, Uint, Value, kind_of

_CLAUSE: Final = re.compile(r"%(?:(?P<percent>%)|(?:\.(?P<precision>[0-9]*))?(?P<letter>.)?)", re.DOTALL)
_LETTERS: Final = frozenset("sdfebxXo")
_MAX_PRECISION: Final = 1000
_SUPERSCRIPTS: Final = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_SPECIAL: Final = frozenset(("NaN", "Infinity", "-Infinity"))
_TIMES: Final = "\u202f\u00d7\u202f"
_ESCAPES: Final = {"\a": "a", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", "\v": "v", "\\": "\\", '"': '"'}


@dataclass(frozen=True, slots=True)
class Clause:
    """One place of a format that takes an argument, and the text before it."""

    before: str
    letter: str
    precision: int | None


def read(text: str) -> tuple[tuple[Clause, ...], str]:
    """Return the clauses of a format and the text behind the last one. Raises `EvaluationError`."""
    clauses: list[Clause] = []
    before: list[str] = []
    position = 0
    for match in _CLAUSE.finditer(text):
        before.append(text[position : match.start()])
        position = match.end()
        if match["percent"]:
            before.append("%")
            continue
        clauses.append(Clause("".join(before), _letter(match), _precision(match)))
        before = []
    return tuple(clauses), "".join((*before, text[position:]))


def _letter(match: re.Match[str]) -> str:
    letter = match["letter"]
    if letter is None:
        raise EvaluationError("unexpected end of string")
    if letter not in _LETTERS:
        raise EvaluationError(f'could not parse formatting clause: unrecognized formatting clause "{letter}"')
    return letter


def _precision(match: re.Match[str]) -> int | None:
    digits = match["precision"]
    if digits is None:
        return None
    if not digits or len(digits) > len(str(_MAX_PRECISION)) or int(digits) > _MAX_PRECISION:
        raise EvaluationError(f"could not parse formatting clause: precision {digits!r}")
    return int(digits)


def format_text(text: str, arguments: list[Value] | tuple[Value, ...]) -> str:
    """Fill in the arguments. Raises `EvaluationError`."""
    clauses, end = read(text)
    if len(clauses) > len(arguments):
        raise EvaluationError(f"index {len(arguments)} out of range")
    pieces: list[str] = []
    length = 0
    for clause, argument in zip(clauses, arguments, strict=False):
        values.check_weight(argument)
        pieces += [clause.before, _FORMATTERS[clause.letter](argument, clause.precision)]
        length += len(clause.before) + len(pieces[-1])
        check_length(length)
    return "".join((*pieces, end))


def _refused(what: str, value: Value) -> EvaluationError:
    return EvaluationError(f"error during formatting: {what}, was given {kind_of(value)}")


def _string(value: Value, _: int | None = None) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    convert = _PLAIN.get(kind_of(value))
    if convert is None:
        raise _refused("string clause can only be used on simple values, lists and maps", value)
    return convert(value)


def _listed(value: Value) -> str:
    return f"[{', '.join(map(_nested, values.elements(value)))}]"


def _mapped(value: Value) -> str:
    mapping = values.entries(value)
    pairs = sorted((_key(key), _nested(mapping[values.key_of(key)])) for key in _checked_keys(mapping))
    return f"{{{', '.join(f'{key}:{content}' for key, content in pairs)}}}"


def _checked_keys(mapping: Mapping[Value, Value]) -> Iterator[Value]:
    for key in values.keys(mapping):
        if kind_of(key) not in {"string", "bool", "int", "uint"}:
            raise EvaluationError(f"no formatting function for map key of type {kind_of(key)}")
        yield key


def _key(key: Value) -> str:
    return _go_quoted(key) if isinstance(key, str) else _string(key)


def _nested(value: Value) -> str:
    """Write an element of a list or map: texts in quotes, doubles with six digits."""
    if isinstance(value, str):
        return _go_quoted(value)
    if isinstance(value, bytes):
        return f"b{_go_quoted(_string(value))}"
    if isinstance(value, Duration | Timestamp):
        name = "duration" if isinstance(value, Duration) else "timestamp"
        return f"{name}({_go_quoted(_string(value))})"
    if isinstance(value, float):
        return f"{value:.6f}" if math.isfinite(value) else f'"{conversions.text_of_double(value)}"'
    return _string(value)


def _go_quoted(text: str) -> str:
    """Quote as Go's %q."""
    return f'"{"".join(map(_go_escaped, text))}"'


def _go_escaped(sign: str) -> str:
    if sign in _ESCAPES:
        return f"\\{_ESCAPES[sign]}"
    code = ord(sign)
    if sign.isprintable():
        return sign
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _decimal(value: Value, _: int | None = None) -> str:
    if type(value) not in {int, Uint}:
        raise _refused("decimal clause can only be used on integers", value)
    return str(value)


def _number(value: Value, name: str) -> float:
    if isinstance(value, str) and value in _SPECIAL:
        return float(value)
    if not isinstance(value, float):
        raise _refused(f"{name} clause can only be used on doubles", value)
    return value


def _special(number: float) -> str | None:
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "∞" if number > 0 else "-∞"
    return None


def _fixed(value: Value, precision: int | None) -> str:
    number = _number(value, "fixed-point")
    digits = 6 if precision is None else precision
    return _special(number) or f"{number or 0.0:,.{digits}f}"


def _scientific(value: Value, precision: int | None) -> str:
    """Write `1.500000 x 10⁰⁰`; cel-go uses the precision as the width of the field."""
    number = _number(value, "scientific")
    special = _special(number)
    if special is None:
        mantissa, _, exponent = f"{number:.6e}".partition("e")
        power = exponent.replace("+", "").translate(_SUPERSCRIPTS)
        special = f"{mantissa}{_TIMES}10{power}"
    return special.rjust(6 if precision is None else precision)


def _binary(value: Value, _: int | None = None) -> str:
    if not isinstance(value, int):
        raise _refused("only integers and bools can be formatted as binary", value)
    return f"{int(value):b}"


def _octal(value: Value, _: int | None = None) -> str:
    if type(value) not in {int, Uint}:
        raise _refused("octal clause can only be used on integers", value)
    return f"{value:o}"


def _hex(value: Value, _: int | None = None) -> str:
    if isinstance(value, str):
        return value.encode().hex()
    if isinstance(value, bytes):
        return value.hex()
    if type(value) not in {int, Uint}:
        raise _refused("only integers, byte buffers, and strings can be formatted as hex", value)
    return f"{value:x}"


_PLAIN: Final[Mapping[str, Callable[..., str]]] = {
    "bool": lambda value: "true" if value else "false",
    "int": str,
    "uint": str,
    "double": conversions.text_of_double,
    "bytes": lambda value: bytes(value).decode(errors="replace"),
    "type": lambda value: value.name if isinstance(value, TypeName) else "",
    "google.protobuf.Timestamp": times.print_timestamp,
    "google.protobuf.Duration": times.print_duration,
    "list": _listed,
    "map": _mapped,
}
_FORMATTERS: Final[Mapping[str, Callable[[Value, int | None], str]]] = {
    "s": _string,
    "d": _decimal,
    "f": _fixed,
    "e": _scientific,
    "b": _binary,
    "o": _octal,
    "x": _hex,
    "X": lambda value, precision: _hex(value, precision).upper(),
}
FUNCTIONS: Final[Mapping[str, Callable[..., Value]]] = {"string_format": format_text}
"""Functions by the ids of their overloads."""
