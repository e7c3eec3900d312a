"""JSON trees as the embedded API server holds them, and the few ways to look into them.

Called by every module of this package. A tree that lies in the store is never changed in place: whoever wants
another value copies the path to it. `Raw` leaves keep opaque parameters byte for byte (RawExtension upstream).
Must not know any kind of object.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

Json: TypeAlias = "bool | int | float | str | msgspec.Raw | list[Json] | dict[str, Json] | None"
JsonObject: TypeAlias = "dict[str, Json]"

_encoder = msgspec.json.Encoder()


def encode(value: Json) -> bytes:
    """Compact JSON in UTF-8."""
    return _encoder.encode(value)


def copy(value: Json) -> Json:
    """A deep copy; Raw leaves are shared, they cannot change."""
    if isinstance(value, dict):
        return {key: copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copy(item) for item in value]
    return value


def copy_object(value: JsonObject) -> JsonObject:
    """A deep copy of an object."""
    return {key: copy(item) for key, item in value.items()}


def obj(value: Json) -> JsonObject:
    """`value` if it is an object, else an empty one (absent, null or of another type)."""
    return value if isinstance(value, dict) else {}


def items(value: Json) -> list[Json]:
    """`value` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: Json) -> str:
    """`value` if it is a string, else the empty one."""
    return value if isinstance(value, str) else ""


def dig(value: Json, path: Sequence[str]) -> Json:
    """The value below `path`, or None where it ends early."""
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def metadata(of: JsonObject) -> JsonObject:
    """The object's metadata (empty if it has none)."""
    return obj(of.get("metadata"))


def plain(value: Json) -> Json:
    """The same tree with Raw leaves decoded: what a person or a patch sees."""
    if isinstance(value, msgspec.Raw):
        decoded: Json = msgspec.json.decode(value)
        return decoded
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value
