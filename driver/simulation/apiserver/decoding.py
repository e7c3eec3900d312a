"""Reads an object as the real server's JSON decoder does: types checked, null dropped, unknown fields noticed.

Called for every body and for every patched object. Wrong types are a `DecodeError` with Go's words; unknown and
duplicate fields are collected for the caller, who warns, refuses or ignores. Empty lists stay, because validation
distinguishes them from absent ones; `tidying.tidy` drops them afterwards.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
import re
from collections import Counter
from typing import Final

import msgspec

from driver.model import quantities
from driver.model.errors import InvalidInput
from driver.simulation.apiserver.schemas import ListOf, MapOf, Scalar, Struct, Type, keeps_bytes
from driver.simulation.apiserver.values import Json, JsonObject

_INT_BITS: Final = {"int32": 31, "int64": 63}
_QUANTITY_FORM: Final = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_TIME_FORM: Final = "2006-01-02T15:04:05Z07:00"
_MICRO_FORM: Final = "2006-01-02T15:04:05.000000Z07:00"
_MICRO: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{6})(Z|[+-]\d\d:\d\d)", re.ASCII)


class DecodeError(Exception):
    """The body does not fit the Go types; the text is that of the real server."""


class Decoder:
    """Decodes one body; `unknown` collects what strict decoding complains about, in document order."""

    def __init__(self) -> None:
        self.unknown: list[str] = []

    def decode(self, struct: Struct, body: bytes) -> JsonObject:
        """The object in `body`, with kind and apiVersion left as they are."""
        tree = self._from_bytes(struct, body, "", [], top=True)
        return tree if isinstance(tree, dict) else {}

    def _from_bytes(self, of: Type, body: bytes, path: str, stack: list[str], *, top: bool = False) -> Json:
        """Decodes a part; where byte-kept values lie below, one level at a time."""
        opening = body.lstrip()[:1]
        if isinstance(of, Scalar) and of.name == "raw":
            return None if body == b"null" else msgspec.Raw(body)
        if keeps_bytes(of) and opening == b"[" and isinstance(of, ListOf):
            parts = msgspec.json.decode(body, type=list[msgspec.Raw])
            return [self._from_bytes(of.item, bytes(part), f"{path}[{i}]", stack) for i, part in enumerate(parts)]
        if keeps_bytes(of) and opening == b"{" and not isinstance(of, ListOf):
            fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
            if isinstance(of, Struct):
                return self._fields_from_bytes(of, fields, path, stack, top=top)
        return self._decode(of, msgspec.json.decode(body), path, stack, top=top)

    def _fields_from_bytes(
        self, struct: Struct, fields: dict[str, msgspec.Raw], path: str, stack: list[str], *, top: bool
    ) -> JsonObject:
        out: JsonObject = {}
        for name, part in fields.items():
            if top and name in _TYPE_META:
                out[name] = msgspec.json.decode(part)
                continue
            known = struct.fields.get(name)
            if known is None:
                self.unknown.append(f'unknown field "{_join(path, name)}"')
                continue
            value = self._from_bytes(known.type, bytes(part), _join(path, name), [*stack, struct.go_name, name])
            if value is not None:
                out[name] = value
        return out

    def _decode(self, of: Type, value: Json, path: str, stack: list[str], *, top: bool = False) -> Json:
        if value is None:
            return None
        if isinstance(of, Scalar):
            return _scalar(of.name, value, stack)
        if isinstance(of, ListOf):
            if not isinstance(value, list):
                raise _mismatch(value, stack, f"[]{_go_type(of.item)}")
            return [
                _or_zero(of.item, self._decode(of.item, item, f"{path}[{i}]", stack)) for i, item in enumerate(value)
            ]
        if not isinstance(value, dict):
            raise _mismatch(value, stack, _go_type(of))
        if isinstance(of, MapOf):
            return {
                key: _or_zero(of.value, self._decode(of.value, item, f"{path}.{key}", stack))
                for key, item in value.items()
            }
        return self._struct(of, value, path, stack, top=top)

    def _struct(self, struct: Struct, value: JsonObject, path: str, stack: list[str], *, top: bool) -> JsonObject:
        out: JsonObject = {}
        fields = struct.fields
        for name, item in value.items():
            known = fields.get(name)
            if known is None:
                if top and name in _TYPE_META:
                    out[name] = item
                else:
                    self.unknown.append(f'unknown field "{_join(path, name)}"')
                continue
            decoded = self._decode(known.type, item, _join(path, name), [*stack, struct.go_name, name])
            if decoded is not None:
                out[name] = decoded
        return out

    def decode_tree(self, struct: Struct, tree: JsonObject) -> JsonObject:
        """The same for an object that is a tree already, without byte-kept parts."""
        return self._struct(struct, tree, "", [], top=True)


_TYPE_META: Final = frozenset({"kind", "apiVersion"})


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _or_zero(of: Type, value: Json) -> Json:
    """What null means inside a list or map: the zero value of the type."""
    if value is not None or not isinstance(of, (Struct, Scalar)):
        return value
    if isinstance(of, Struct):
        return {}
    return _ZEROS.get(of.name)


_ZEROS: Final[dict[str, Json]] = {"string": "", "int32": 0, "int64": 0, "bool": False, "quantity": "0", "bytes": ""}


def _go_type(of: Type) -> str:
    if isinstance(of, Scalar):
        return of.name
    if isinstance(of, Struct):
        return f"v1.{of.go_name}"
    return f"[]{_go_type(of.item)}" if isinstance(of, ListOf) else f"map[string]{_go_type(of.value)}"


def _mismatch(value: Json, stack: list[str], wanted: str) -> DecodeError:
    if not stack:
        return DecodeError(f"json: cannot unmarshal {_go_kind(value)} into Go value of type {wanted}")
    struct, path = stack[-2], ".".join(stack[1::2])
    return DecodeError(
        f"json: cannot unmarshal {_go_kind(value)} into Go struct field {struct}.{path} of type {wanted}"
    )


def _go_kind(value: Json) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, (int, float)):
        return "number"
    return "array" if isinstance(value, list) else "object"


def _scalar(name: str, value: Json, stack: list[str]) -> Json:
    wanted = _PLAIN.get(name)
    if wanted is not None:
        if isinstance(value, wanted):
            return value
        raise _mismatch(value, stack, name)
    if name in _INT_BITS:
        return _integer(name, value, stack)
    if name == "quantity":
        return _quantity(value)
    if name in {"time", "microtime"}:
        return _time(name, value)
    if name == "bytes":
        return _bytes(value, stack)
    if name == "intstr" and not (isinstance(value, (int, str)) and not isinstance(value, bool)):
        raise _mismatch(value, stack, "intstr.IntOrString")
    return value


_PLAIN: Final[dict[str, type]] = {"string": str, "bool": bool}


def _integer(name: str, value: Json, stack: list[str]) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _mismatch(value, stack, name)
    if isinstance(value, float) or not -(1 << _INT_BITS[name]) <= value < 1 << _INT_BITS[name]:
        shown = f"{value:.0f}" if isinstance(value, float) and value.is_integer() else json.dumps(value)
        struct, path = stack[-2], ".".join(stack[1::2])
        raise DecodeError(f"json: cannot unmarshal number {shown} into Go struct field {struct}.{path} of type {name}")
    return value


def _quantity(value: Json) -> str:
    text = str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value
    if not isinstance(text, str):
        raise DecodeError(_QUANTITY_FORM)
    try:
        return str(quantities.parse(text))
    except InvalidInput:
        raise DecodeError(_QUANTITY_FORM) from None


def _time(name: str, value: Json) -> str:
    form = _TIME_FORM if name == "time" else _MICRO_FORM
    if not isinstance(value, str):
        raise DecodeError(f"json: cannot unmarshal {_go_kind(value)} into Go value of type string")
    if name == "microtime":
        return _micro_time(value)
    moment = _parse_time(value)
    if moment is None:
        quoted = json.dumps(value)
        raise DecodeError(f'parsing time {quoted} as "{form}": cannot parse {quoted} as "2006"')
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _parse_time(value: str) -> dt.datetime | None:
    """An RFC 3339 time, with zone; None for anything else."""
    try:
        moment = dt.datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None and value[10:11] in {"T", "t"} else None


def _micro_time(value: str) -> str:
    found = _MICRO.fullmatch(value)
    if found is None:
        rest = json.dumps(value[19:]) if re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", value) else json.dumps(value)
        element = ".000000" if rest != json.dumps(value) else "2006"
        raise DecodeError(f'parsing time {json.dumps(value)} as "{_MICRO_FORM}": cannot parse {rest} as "{element}"')
    moment = dt.datetime.fromisoformat(value)
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _bytes(value: Json, stack: list[str]) -> str:
    if not isinstance(value, str):
        raise _mismatch(value, stack, "[]uint8")
    try:
        base64.b64decode(value, validate=True)
    except binascii.Error:
        raise DecodeError("illegal base64 data at input byte 0") from None
    return value


class _Noted(dict[str, Json]):
    """An object whose duplicate keys were seen while reading."""

    duplicates: tuple[str, ...] = ()


def _note(pairs: list[tuple[str, Json]]) -> _Noted:
    noted = _Noted(pairs)
    if len(noted) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        noted.duplicates = tuple(key for key, count in counts.items() for _ in range(count - 1))
    return noted


def find_duplicates(body: bytes) -> list[str]:
    """`duplicate field "path"` for every key that an object of the document repeats."""
    found: list[str] = []
    _walk_duplicates(json.loads(body, object_pairs_hook=_note), "", found)
    return found


def _walk_duplicates(value: Json, path: str, found: list[str]) -> None:
    if isinstance(value, _Noted):
        found.extend(f'duplicate field "{_join(path, key)}"' for key in value.duplicates)
    if isinstance(value, dict):
        for key, item in value.items():
            _walk_duplicates(item, _join(path, key), found)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _walk_duplicates(item, f"{path}[{index}]", found)
