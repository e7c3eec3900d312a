"""Kubernetes' protobuf for the few bodies that kubectl sends no other way.

Those are access reviews, tokens, evictions and what `kubectl create` makes of its arguments: namespaces, ConfigMaps,
Secrets, ServiceAccounts, roles and their bindings. Called by `bodies` for application/vnd.kubernetes.protobuf. Only
requests, only the kinds of `_MESSAGES` (field numbers from the generated.proto files of k8s.io/api); answers are
always JSON, which these clients accept too.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from driver.simulation.apiserver.values import Json, JsonObject, obj

MAGIC: Final = b"k8s\x00"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class NotProtobuf(Exception):  # noqa: N818 - the body is something else
    """The bytes are no message this module reads."""


@dataclass(frozen=True)
class _Field:
    name: str
    message: str = ""
    """The message it holds; empty for text, `int` and `bool` for numbers, `map` for text by text,

    `blobs` for bytes by text."""
    repeated: bool = False


_ROLE: Final = {1: _Field("metadata", "ObjectMeta"), 2: _Field("rules", "PolicyRule", repeated=True)}
_BINDING: Final = {
    1: _Field("metadata", "ObjectMeta"),
    2: _Field("subjects", "Subject", repeated=True),
    3: _Field("roleRef", "RoleRef"),
}
_MESSAGES: Final[dict[str, dict[int, _Field]]] = {
    "ObjectMeta": {
        1: _Field("name"),
        2: _Field("generateName"),
        3: _Field("namespace"),
        5: _Field("uid"),
        11: _Field("labels", "map"),
        12: _Field("annotations", "map"),
    },
    "Namespace": {1: _Field("metadata", "ObjectMeta")},
    "ConfigMap": {1: _Field("metadata", "ObjectMeta"), 2: _Field("data", "map"), 4: _Field("immutable", "bool")},
    "Secret": {1: _Field("metadata", "ObjectMeta"), 2: _Field("data", "blobs"), 3: _Field("type")},
    "Role": _ROLE,
    "ClusterRole": _ROLE,
    "RoleBinding": _BINDING,
    "ClusterRoleBinding": _BINDING,
    "PolicyRule": {
        1: _Field("verbs", repeated=True),
        2: _Field("apiGroups", repeated=True),
        3: _Field("resources", repeated=True),
        4: _Field("resourceNames", repeated=True),
        5: _Field("nonResourceURLs", repeated=True),
    },
    "Subject": {1: _Field("kind"), 2: _Field("apiGroup"), 3: _Field("name"), 4: _Field("namespace")},
    "RoleRef": {1: _Field("apiGroup"), 2: _Field("kind"), 3: _Field("name")},
    "ServiceAccount": {1: _Field("metadata", "ObjectMeta"), 4: _Field("automountServiceAccountToken", "bool")},
    "SelfSubjectAccessReview": {1: _Field("metadata", "ObjectMeta"), 2: _Field("spec", "AccessSpec")},
    "LocalSubjectAccessReview": {1: _Field("metadata", "ObjectMeta"), 2: _Field("spec", "SubjectAccessSpec")},
    "SubjectAccessReview": {1: _Field("metadata", "ObjectMeta"), 2: _Field("spec", "SubjectAccessSpec")},
    "AccessSpec": {1: _Field("resourceAttributes", "Attributes"), 2: _Field("nonResourceAttributes", "PathAttributes")},
    "SubjectAccessSpec": {
        1: _Field("resourceAttributes", "Attributes"),
        2: _Field("nonResourceAttributes", "PathAttributes"),
        3: _Field("user"),
        4: _Field("groups", repeated=True),
        6: _Field("uid"),
    },
    "Attributes": {
        1: _Field("namespace"),
        2: _Field("verb"),
        3: _Field("group"),
        4: _Field("version"),
        5: _Field("resource"),
        6: _Field("subresource"),
        7: _Field("name"),
    },
    "PathAttributes": {1: _Field("path"), 2: _Field("verb")},
    "SelfSubjectRulesReview": {1: _Field("metadata", "ObjectMeta"), 2: _Field("spec", "RulesSpec")},
    "RulesSpec": {1: _Field("namespace")},
    "SelfSubjectReview": {1: _Field("metadata", "ObjectMeta")},
    "TokenRequest": {1: _Field("metadata", "ObjectMeta"), 2: _Field("spec", "TokenSpec")},
    "TokenSpec": {
        1: _Field("audiences", repeated=True),
        3: _Field("boundObjectRef", "Reference"),
        4: _Field("expirationSeconds", "int"),
    },
    "Reference": {1: _Field("kind"), 2: _Field("apiVersion"), 3: _Field("name"), 4: _Field("uid")},
    "Eviction": {1: _Field("metadata", "ObjectMeta"), 2: _Field("deleteOptions", "DeleteOptions")},
    "DeleteOptions": {
        1: _Field("gracePeriodSeconds", "int"),
        2: _Field("preconditions", "Preconditions"),
        3: _Field("orphanDependents", "bool"),
        4: _Field("propagationPolicy"),
        5: _Field("dryRun", repeated=True),
    },
    "Preconditions": {1: _Field("uid"), 2: _Field("resourceVersion")},
}


def _as_base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


_MAPS: Final[dict[str, Callable[[bytes], str]]] = {"map": bytes.decode, "blobs": _as_base64}


def decode(body: bytes) -> JsonObject:
    """The message as the JSON tree it stands for, kind and apiVersion included.

    Raises:
        NotProtobuf: the bytes are broken, or of a kind that is not read here.

    """
    if not body.startswith(MAGIC):
        raise NotProtobuf("no Kubernetes protobuf")
    try:
        envelope = dict(_fields(body[len(MAGIC) :]))
        kind_fields = dict(_fields(_raw(envelope.get(1))))
        version, kind = _raw(kind_fields.get(1)).decode(), _raw(kind_fields.get(2)).decode()
        if kind not in _MESSAGES:
            raise NotProtobuf(f"{kind} is not read as protobuf")
        return {"kind": kind, "apiVersion": version, **_message(kind, _raw(envelope.get(2)))}
    except (IndexError, UnicodeDecodeError) as error:
        raise NotProtobuf(f"broken message: {error}") from error


def _raw(value: int | bytes | None) -> bytes:
    return value if isinstance(value, bytes) else b""


def _fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    position = 0
    while position < len(raw):
        tag, position = _varint(raw, position)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, position = _varint(raw, position)
            yield number, value
        elif wire == _BYTES:
            length, position = _varint(raw, position)
            if position + length > len(raw):
                raise NotProtobuf("broken message: cut off")
            yield number, raw[position : position + length]
            position += length
        elif wire in {_FIXED64, _FIXED32}:
            position += 8 if wire == _FIXED64 else 4
        else:
            raise NotProtobuf(f"broken message: wire type {wire}")


def _varint(raw: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7


def _message(name: str, raw: bytes) -> JsonObject:
    out: JsonObject = {}
    for number, value in _fields(raw):
        field = _MESSAGES[name].get(number)
        if field is None:
            continue
        read = _value(field, value)
        if field.message in _MAPS:
            out[field.name] = {**obj(out.get(field.name)), **obj(read)}
        elif field.repeated:
            listed = out.setdefault(field.name, [])
            if isinstance(listed, list):
                listed.append(read)
        elif read != "":
            out[field.name] = read
    return out


def _value(field: _Field, value: int | bytes) -> Json:
    if field.message == "int":
        return value if isinstance(value, int) else 0
    if field.message == "bool":
        return bool(value)
    raw = _raw(value)
    if field.message in _MAPS:
        entry = dict(_fields(raw))
        return {_raw(entry.get(1)).decode(): _MAPS[field.message](_raw(entry.get(2)))}
    return obj(_message(field.message, raw)) if field.message else raw.decode()
