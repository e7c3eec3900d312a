"""Finalizers of a claim that JSON cannot change: the recorded claim of a real API server (1.36), byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from driver.kube.access import Access
from driver.kube.allocations import StoredClaims
from driver.kube.client import Client
from driver.kube.verbatim import Document
from driver.model.claims import DELETE_PROTECTION
from driver.model.errors import Conflict, Rejected, Unavailable
from driver.model.objects import ObjectMeta
from driver.model.wanted import Claim
from driver.simulation.apiserver import protobufs
from tests.fakes.http_server import HttpServer, Reply, Request, status

RECORDED = (Path(__file__).resolve().parents[1] / "data" / "claim-with-blanks.pb").read_bytes()
"""As sent for Accept: application/vnd.kubernetes.protobuf; its JSON parameters have blanks."""
BLANKS = b'{"apiVersion": "config.accel-dra.dev/v1alpha1", "kind": "AllocationPolicy", '
ONE = "example.com/one"


def read(body: bytes) -> tuple[dict[int, list[int | bytes]], dict[int, bytes]]:
    """Return the fields of metadata, and those of the claim, with a reader of its own."""
    envelope = dict(protobufs._fields(body.removeprefix(protobufs.MAGIC)))
    claim = {number: value for number, value in protobufs._fields(text(envelope[2])) if isinstance(value, bytes)}
    meta: dict[int, list[int | bytes]] = {}
    for number, value in protobufs._fields(claim[1]):
        meta.setdefault(number, []).append(value)
    return meta, claim


def text(value: int | bytes) -> bytes:
    assert isinstance(value, bytes)
    return value


def stored(version: str = "") -> Claim:
    found = Document(RECORDED)
    meta = ObjectMeta(
        name="blanks",
        namespace="default",
        uid=found.uid,
        resource_version=version or found.resource_version,
        finalizers=(ONE,),
    )
    return Claim(metadata=meta)


class Server:
    """Refuses JSON patches, as the recorded server did, and takes protobuf."""

    def __init__(self, field: str = "spec") -> None:
        self._field = field
        self.put: list[Request] = []
        self.server = HttpServer(self._handle)

    def protect(self, claim: Claim) -> Claim:
        with self.server:
            client = Client(Access(server=self.server.url))
            try:
                return StoredClaims(client, 5.0).protect(claim)
            finally:
                client.close()

    def _handle(self, request: Request) -> Reply:
        if request.method == "PATCH":
            cause = {"reason": "FieldValueInvalid", "field": self._field, "message": "field is immutable"}
            return status(422, "field is immutable", causes=[cause])
        if request.method == "GET":
            assert request.headers["Accept"] == "application/vnd.kubernetes.protobuf"
            return Reply(200, RECORDED)
        self.put.append(request)
        return Reply(200, {"metadata": {"name": "blanks", "namespace": "default", "resourceVersion": "9"}})


def test_only_the_finalizers_change() -> None:
    meta, claim = read(RECORDED)
    changed, rest = read(Document(RECORDED).with_finalizers([ONE, DELETE_PROTECTION]))
    assert changed == {**meta, 14: [ONE.encode(), DELETE_PROTECTION.encode()]}
    assert {**rest, 1: b""} == {**claim, 1: b""}
    assert BLANKS in rest[2]
    assert read(Document(RECORDED).with_finalizers([]))[0] == {key: value for key, value in meta.items() if key != 14}


def test_the_same_finalizers_are_the_same_claim() -> None:
    assert read(Document(RECORDED).with_finalizers([ONE]))[1][2] == read(RECORDED)[1][2]
    assert read(Document(RECORDED).with_finalizers([ONE]))[0] == read(RECORDED)[0]


@pytest.mark.parametrize("body", [b"", b"<html>", RECORDED[:40], RECORDED[:200], b"k8s\x00\xff", b"k8s\x00\x0d1234"])
def test_what_is_no_protobuf_is_an_answer_that_cannot_be_had_now(body: bytes) -> None:
    with pytest.raises(Unavailable):
        Document(body)


def test_a_claim_that_refuses_patches_is_protected_all_the_same() -> None:
    server = Server()
    assert server.protect(stored()).metadata.resource_version == "9"
    [request] = server.put
    assert request.headers["Content-Type"] == "application/vnd.kubernetes.protobuf"
    assert request.body == Document(RECORDED).with_finalizers([ONE, DELETE_PROTECTION])


def test_a_claim_that_has_changed_meanwhile_is_left_alone() -> None:
    server = Server()
    with pytest.raises(Conflict):
        server.protect(stored(version="1"))
    assert server.put == []


def test_any_other_refusal_is_told() -> None:
    server = Server(field="metadata.finalizers")
    with pytest.raises(Rejected, match="immutable"):
        server.protect(stored())
    assert server.put == []
