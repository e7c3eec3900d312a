"""Names of types, and the messages that an expression can build: `google.protobuf.Int64Value{value: 1}`.

Called by checking and evaluating. Kubernetes registers protobuf's well-known types with cel-go; the wrappers become
plain values (common/types/types.go checkedWellKnowns). `kubernetes.DRADevice{…}` compiles and cannot be evaluated.
Messages for JSON (`google.protobuf.Struct`, `Value`, `ListValue`, `Any`) are not supported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from driver.core.cel import typesystem
from driver.core.cel.errors import EvaluationError
from driver.core.cel.times import Duration, Timestamp, checked_duration, checked_timestamp
from driver.core.cel.typesystem import Type
from driver.core.cel.values import NONE, Uint, Value

TYPE_NAMES: Final[Mapping[str, Type]] = {
    "bool": typesystem.BOOL,
    "bytes": typesystem.BYTES,
    "double": typesystem.DOUBLE,
    "int": typesystem.INT,
    "list": typesystem.list_of(typesystem.DYN),
    "map": typesystem.map_of(typesystem.DYN, typesystem.DYN),
    "null_type": typesystem.NULL,
    "string": typesystem.STRING,
    "type": typesystem.type_of(typesystem.DYN),
    "uint": typesystem.UINT,
    "optional_type": typesystem.optional_of(typesystem.DYN),
    "google.protobuf.Duration": typesystem.DURATION,
    "google.protobuf.Timestamp": typesystem.TIMESTAMP,
    "net.IP": typesystem.IP,
    "net.CIDR": typesystem.CIDR,
}
"""What `int`, `string`, … stand for where they are used as values."""
NANOSECONDS: Final = 10**9


@dataclass(frozen=True, slots=True)
class MessageType:
    """A message: its type once built, and the types of its fields."""

    type: Type
    fields: Mapping[str, Type]
    limits: tuple[int, int] | None = None
    """The range of `value` of 32 bit wrappers."""
    default: Value = None


def _wrapper(type_: Type, default: Value, limits: tuple[int, int] | None = None) -> MessageType:
    nullable = Type(type_.kind, type_.name, (), nullable=True)
    return MessageType(nullable, {"value": type_}, limits, default)


_INSTANT: Final = {"seconds": typesystem.INT, "nanos": typesystem.INT}
MESSAGES: Final[Mapping[str, MessageType]] = {
    "google.protobuf.BoolValue": _wrapper(typesystem.BOOL, default=False),
    "google.protobuf.BytesValue": _wrapper(typesystem.BYTES, b""),
    "google.protobuf.DoubleValue": _wrapper(typesystem.DOUBLE, 0.0),
    "google.protobuf.FloatValue": _wrapper(typesystem.DOUBLE, 0.0),
    "google.protobuf.Int32Value": _wrapper(typesystem.INT, 0, (-(2**31), 2**31 - 1)),
    "google.protobuf.Int64Value": _wrapper(typesystem.INT, 0),
    "google.protobuf.StringValue": _wrapper(typesystem.STRING, ""),
    "google.protobuf.UInt32Value": _wrapper(typesystem.UINT, Uint(0), (0, 2**32 - 1)),
    "google.protobuf.UInt64Value": _wrapper(typesystem.UINT, Uint(0)),
    "google.protobuf.Duration": MessageType(typesystem.DURATION, _INSTANT),
    "google.protobuf.Timestamp": MessageType(typesystem.TIMESTAMP, _INSTANT),
}


def build(name: str, fields: Mapping[str, Value]) -> Value:
    """Return the value of a message. Raises `EvaluationError`."""
    message = MESSAGES.get(name)
    if message is None:
        raise EvaluationError(f"unknown type '{name}'")
    if message.type in {typesystem.DURATION, typesystem.TIMESTAMP}:
        return _instant(message.type, fields)
    value = fields.get("value", message.default)
    if value is None or value is NONE:
        raise EvaluationError(f"unsupported field type for {name}.value")
    if message.limits is not None and isinstance(value, int):
        low, high = message.limits
        if not low <= value <= high:
            raise EvaluationError("integer overflow")
    return value


def _instant(type_: Type, fields: Mapping[str, Value]) -> Duration | Timestamp:
    seconds, nanos = fields.get("seconds", 0), fields.get("nanos", 0)
    if type(seconds) is not int or type(nanos) is not int:
        raise EvaluationError("unsupported field type: seconds and nanos are ints")
    if not -(2**31) <= nanos < 2**31:
        raise EvaluationError("integer overflow")
    total = seconds * NANOSECONDS + nanos
    return checked_duration(total) if type_ is typesystem.DURATION else checked_timestamp(total)
