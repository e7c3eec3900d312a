"""A claim whose opaque parameters were sent with blanks, as the real API server treats it: no JSON changes it.

The embedded API server keeps parameters as values, the real one (1.36) as the bytes that came. This stands between a
client and the embedded server and plays the difference for one claim: a JSON patch of the claim itself is refused, and
it is read and replaced as protobuf, of which this writes and reads metadata only.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from driver.simulation.apiserver import protobufs
from tests.fakes.http_server import Reply, Request, status
from tests.fakes.kustomize import Object, items, mapping

PROTOBUF: Final = "application/vnd.kubernetes.protobuf"
FINALIZERS: Final = 14
_SPEC: Final = b"\x0a\x03\x12\x01{"
"""Nobody may look into it."""

Forward = Callable[[Request], Reply | None]


def answer(name: str, request: Request, forward: Forward) -> Reply | None:
    """Answer a request; all that does not concern the claim itself is forwarded."""
    if not request.path.endswith(f"/resourceclaims/{name}"):
        return forward(request)
    if request.method == "PATCH":
        cause = {"reason": "FieldValueInvalid", "field": "spec", "message": "field is immutable"}
        return status(422, "spec: Invalid value: field is immutable", causes=[cause])
    if request.method == "GET" and request.headers.get("Accept") == PROTOBUF:
        found = forward(replace(request, headers={**request.headers, "Accept": "application/json"}))
        if found is None or found.status != 200:
            return found
        return Reply(200, _encode(json.loads(_bytes(found))), {"Content-Type": PROTOBUF})
    if request.method == "PUT":
        return _replace(request, forward)
    return forward(request)


def decode(body: bytes) -> tuple[str, list[str], bytes]:
    """Return resourceVersion, finalizers and the untouched spec of a claim in protobuf."""
    envelope = dict(protobufs._fields(body.removeprefix(protobufs.MAGIC)))
    claim = dict(protobufs._fields(_raw(envelope[2])))
    meta = list(protobufs._fields(_raw(claim[1])))
    finalizers = [_raw(value).decode() for number, value in meta if number == FINALIZERS]
    return _raw(dict(meta)[6]).decode(), finalizers, _raw(claim[2])


def _replace(request: Request, forward: Forward) -> Reply | None:
    assert request.headers["Content-Type"] == PROTOBUF
    version, finalizers, spec = decode(request.body)
    assert spec == _SPEC, "the rest goes back as it came"
    kept = {name: value for name, value in request.headers.items() if name.lower() != "content-length"}
    as_json = {**kept, "Accept": "application/json", "Content-Type": "application/json"}
    found = forward(replace(request, method="GET", body=b"", headers=as_json))
    if found is None or found.status != 200:
        return found
    claim: Object = json.loads(_bytes(found))
    mapping(claim["metadata"]).update(resourceVersion=version, finalizers=list(finalizers))
    return forward(replace(request, body=json.dumps(claim).encode(), headers=as_json))


def _encode(claim: Object) -> bytes:
    meta = mapping(claim["metadata"])
    numbers = {1: "name", 3: "namespace", 5: "uid", 6: "resourceVersion"}
    fields = [_field(number, str(meta[name]).encode()) for number, name in numbers.items()]
    fields += [_field(FINALIZERS, str(each).encode()) for each in items(meta.get("finalizers") or [])]
    kind = _field(1, _field(1, b"resource.k8s.io/v1") + _field(2, b"ResourceClaim"))
    return protobufs.MAGIC + kind + _field(2, _field(1, b"".join(fields)) + _field(2, _SPEC))


def _field(number: int, content: bytes) -> bytes:
    size = len(content)
    assert size < 1 << 14
    length = bytes([size]) if size < 128 else bytes([size & 0x7F | 0x80, size >> 7])
    return bytes([number << 3 | 2]) + length + content


def _raw(value: int | bytes) -> bytes:
    assert isinstance(value, bytes)
    return value


def _bytes(reply: Reply) -> bytes:
    return reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
