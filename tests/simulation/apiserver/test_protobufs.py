"""The few protobuf bodies that are read: those that kubectl sends."""

from __future__ import annotations

import pytest

from driver.simulation.apiserver.protobufs import MAGIC, NotProtobuf, decode
from tests.simulation.apiserver.asking import Asking, a_pod

PROTOBUF = "application/vnd.kubernetes.protobuf"


def varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def part(number: int, value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    raw = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def message(kind: str, raw: bytes, version: str = "v1") -> bytes:
    return MAGIC + part(1, part(1, version) + part(2, kind)) + part(2, raw) + part(3, "") + part(4, "")


def test_nested_messages_numbers_and_repeated_fields_are_read() -> None:
    reference = part(1, "Pod") + part(2, "v1") + part(3, "p") + part(4, "u")
    spec = part(1, "one") + part(1, "two") + part(3, reference) + part(4, 3607)
    assert decode(message("TokenRequest", part(2, spec), "authentication.k8s.io/v1")) == {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "spec": {
            "audiences": ["one", "two"],
            "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "u"},
            "expirationSeconds": 3607,
        },
    }


def test_unknown_fields_and_fixed_width_numbers_are_skipped() -> None:
    noise = varint(9 << 3 | 1) + b"12345678" + varint(10 << 3 | 5) + b"1234" + part(11, "x")
    assert decode(message("SelfSubjectReview", noise)) == {"kind": "SelfSubjectReview", "apiVersion": "v1"}


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        MAGIC,
        message("Pod", b""),
        message("TokenRequest", b"\x12\xff\xff\x01x"),
        message("TokenRequest", b"\x13"),
        message("TokenRequest", part(2, part(4, 1)[:1])),
        message("TokenRequest", part(2, part(1, b"\xff\xfe"))),
    ],
    ids=["json", "empty", "other kind", "cut off", "wire type", "half a number", "no text"],
)
def test_everything_else_is_not_protobuf(body: bytes) -> None:
    with pytest.raises(NotProtobuf):
        decode(body)


def test_an_access_review_is_answered_in_json(api: Asking) -> None:
    attributes = part(2, "list") + part(3, "resource.k8s.io") + part(5, "resourceslices")
    body = message("SelfSubjectAccessReview", part(2, part(1, attributes)))
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    answer = api.ok("POST", path, body, content_type=PROTOBUF)
    assert answer["spec"]["resourceAttributes"] == {
        "verb": "list",
        "group": "resource.k8s.io",
        "resource": "resourceslices",
    }
    assert answer["status"] == {"allowed": True}


def test_an_eviction_is_done(api: Asking) -> None:
    api.ok("POST", "/api/v1/namespaces/default/pods", a_pod())
    body = message("Eviction", part(1, part(1, "p")) + part(2, part(1, 0)), "policy/v1")
    api.ok("POST", "/api/v1/namespaces/default/pods/p/eviction", body, content_type=PROTOBUF)
    assert api.answer("GET", "/api/v1/namespaces/default/pods/p").status == 404


def test_maps_are_read_entry_by_entry(api: Asking) -> None:
    data = part(2, part(1, "one") + part(2, "1")) + part(2, part(1, "two") + part(2, "2"))
    labels = part(1, part(1, "c") + part(11, part(1, "a") + part(2, "b")))
    body = message("ConfigMap", labels + data + part(4, 1))
    made = api.ok("POST", "/api/v1/namespaces/default/configmaps", body, content_type=PROTOBUF)
    assert made["metadata"]["labels"] == {"a": "b"}
    assert made["data"] == {"one": "1", "two": "2"}
    assert made["immutable"] is True


def test_bytes_become_base64_and_lists_of_messages_stay_lists(api: Asking) -> None:
    secret = part(1, part(1, "s")) + part(2, part(1, "key") + part(2, b"\xff")) + part(3, "Opaque")
    path = "/api/v1/namespaces/default/secrets"
    assert api.ok("POST", path, message("Secret", secret), content_type=PROTOBUF)["data"] == {"key": "/w=="}
    rules = part(2, part(1, "get") + part(1, "list") + part(2, "") + part(3, "pods"))
    body = message("ClusterRole", part(1, part(1, "r")) + rules, "rbac.authorization.k8s.io/v1")
    made = api.ok("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", body, content_type=PROTOBUF)
    assert made["rules"] == [{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}]


def test_other_objects_are_not_taken_as_protobuf(api: Asking) -> None:
    code, why = api.refused("POST", "/api/v1/nodes", message("Node", b""), content_type=PROTOBUF)
    assert code == 415
    assert "Node is not read as protobuf" in why
