"""Shows an object as the real server's JSON encoder does: fields in order, empty ones left out.

Called before an object is stored and compared. Also keeps the rules for byte-kept values: `compact` is what clients
and patches see of them, `reencode` is what strategic merge patch and apply make of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Final

import msgspec

from driver.simulation.apiserver.schemas import STRUCTS, Field, ListOf, MapOf, Scalar, Struct, Type
from driver.simulation.apiserver.values import Json, JsonObject, encode

_ZEROS: Final[dict[str, Json]] = {
    "string": "",
    "int32": 0,
    "int64": 0,
    "bool": False,
    "quantity": "0",
    "bytes": "",
    "intstr": 0,
}
_TIMES: Final = frozenset({"time", "microtime"})


def tidy(struct: Struct, value: JsonObject) -> JsonObject:
    """The object in its one canonical form; kind and apiVersion first."""
    head: JsonObject = {key: value[key] for key in ("kind", "apiVersion") if key in value}
    return head | _tidy_struct(struct, value)


def _tidy_struct(struct: Struct, value: JsonObject) -> JsonObject:
    out: JsonObject = {}
    for name, field in struct.fields.items():
        given = value.get(name)
        shown = _tidy_pointer(field, given) if field.pointer else _tidy_value(field, given)
        if shown is not _ABSENT:
            out[name] = shown
    return out


def same(struct: str, one: Json, other: Json) -> bool:
    """Whether two values of a struct are equal once empty and absent are the same."""
    left, right = (value if isinstance(value, dict) else {} for value in (one, other))
    return (one is None) == (other is None) and _tidy_struct(STRUCTS[struct], left) == _tidy_struct(
        STRUCTS[struct], right
    )


class _Absent(str):
    """Marks a field that is not shown."""

    __slots__ = ()


_ABSENT: Final = _Absent()


def _tidy_pointer(field: Field, given: Json) -> Json:
    if given is None:
        return None if field.required else _ABSENT
    return _tidy_any(field.type, given)


def _tidy_value(field: Field, given: Json) -> Json:
    of = field.type
    if isinstance(of, Struct):
        shown = _tidy_struct(of, given if isinstance(given, dict) else {})
        return _ABSENT if field.omit_zero and not shown else shown
    if isinstance(of, Scalar):
        return _tidy_scalar(field, of.name, given)
    if not given:
        if not field.required:
            return _ABSENT
        return given if given is not None else None
    return _tidy_any(of, given)


def _tidy_scalar(field: Field, name: str, given: Json) -> Json:
    if name in _TIMES:
        return _ABSENT if given is None and field.omit_zero else given
    zero = _ZEROS.get(name)
    if given is None:
        return zero if field.required else _ABSENT
    if not field.required and name != "quantity" and name in _ZEROS and given == zero:
        return _ABSENT
    return given


def _tidy_any(of: Type, given: Json) -> Json:
    if isinstance(of, Struct):
        return _tidy_struct(of, given if isinstance(given, dict) else {})
    if isinstance(of, ListOf) and isinstance(given, list):
        if isinstance(of.item, Scalar):
            return given
        return [_tidy_any(of.item, item) for item in given]
    if isinstance(of, MapOf) and isinstance(given, dict):
        if isinstance(of.value, Scalar):
            return given
        return {key: _tidy_any(of.value, item) for key, item in given.items()}
    return given


_SPACE: Final = re.compile(rb'("(?:[^"\\]|\\.)*")|[ \t\r\n]+', re.DOTALL)
_ESCAPES: Final = {
    b"<": b"\\u003c",
    b">": b"\\u003e",
    b"&": b"\\u0026",
    b"\xe2\x80\xa8": b"\\u2028",
    b"\xe2\x80\xa9": b"\\u2029",
}


def compact(raw: bytes) -> bytes:
    """What Go's encoder makes of kept bytes: white space removed, `<`, `>` and `&` escaped."""
    packed = _SPACE.sub(lambda found: found[1] or b"", raw)
    for character, escape in _ESCAPES.items():
        packed = packed.replace(character, escape)
    return packed


def reencode(raw: bytes) -> bytes:
    """What decoding and encoding again makes of kept bytes: keys sorted, numbers normalised."""
    text = json.dumps(_go_numbers(json.loads(raw)), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return compact(text.encode())


def _go_numbers(value: Json) -> Json:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return int(value)
    if isinstance(value, dict):
        return {key: _go_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_go_numbers(item) for item in value]
    return value


def shown(value: Json) -> Json:
    """The tree as clients see it: kept bytes compacted."""
    return _map_raw(value, compact)


def reencoded(value: Json) -> Json:
    """The tree as strategic merge patch and apply leave it: kept bytes encoded again."""
    return _map_raw(value, reencode)


def _map_raw(value: Json, change: Callable[[bytes], bytes]) -> Json:
    if isinstance(value, msgspec.Raw):
        return msgspec.Raw(change(bytes(value)))
    if isinstance(value, dict):
        return {key: _map_raw(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_map_raw(item, change) for item in value]
    return value


def render(struct: Struct, value: JsonObject) -> bytes:
    """A stored object as JSON."""
    return encode(shown(value) if struct.has_raw else value)
