"""Claims and nodes: fetched fresh, decoded, and what the server says of those that are not there."""

from __future__ import annotations

import json

import pytest

from driver.kube import claims, nodes
from driver.kube.access import Access
from driver.kube.client import Client
from driver.model.errors import NotFound, Unavailable
from tests.fakes.http_server import HttpServer, Reply

CLAIM = {
    "apiVersion": "resource.k8s.io/v1",
    "kind": "ResourceClaim",
    "metadata": {"name": "c", "namespace": "ns", "uid": "u-1", "resourceVersion": "7", "managedFields": []},
    "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}},
    "status": {
        "allocation": {
            "devices": {
                "results": [
                    {"request": "r/sub", "driver": "d", "pool": "p", "device": "gpu-0", "shareID": "s", "x": 1},
                ],
                "config": [
                    {"source": "FromClass", "opaque": {"driver": "d", "parameters": {"kind": "K", "b": 1, "a": 2}}}
                ],
            },
            "nodeSelector": {},
        },
        "reservedFor": [{"resource": "pods", "name": "pod", "uid": "p-1"}],
    },
}


def test_a_claim_is_read_as_it_is_now() -> None:
    with HttpServer(lambda _: Reply(body=CLAIM)) as server:
        client = Client(Access(server=server.url))
        claim = claims.fetch(client, "ns", "c")
        client.close()
    assert server.requests[0].path == "/apis/resource.k8s.io/v1/namespaces/ns/resourceclaims/c"
    assert server.requests[0].query == {}
    assert claim.metadata.uid == "u-1"
    assert claim.status.allocation is not None
    result = claim.status.allocation.devices.results[0]
    assert (result.main_request, result.device, result.share_id) == ("r", "gpu-0", "s")
    parameters = claim.status.allocation.devices.config[0].opaque
    assert parameters is not None
    assert bytes(parameters.parameters) == b'{"kind": "K", "b": 1, "a": 2}'


def test_a_claim_with_half_a_character_in_its_parameters_is_read_as_kubernetes_reads_it() -> None:
    """The API server keeps parameters as they were sent, and hands out what no text may hold."""
    body = json.dumps(CLAIM).encode().replace(b'"K"', rb'"K\ud83d"')
    with HttpServer(lambda _: Reply(body=body)) as server:
        client = Client(Access(server=server.url))
        claim = claims.fetch(client, "ns", "c")
        client.close()
    assert claim.status.allocation is not None
    opaque = claim.status.allocation.devices.config[0].opaque
    assert opaque is not None
    assert bytes(opaque.parameters) == rb'{"kind": "K\ufffd", "b": 1, "a": 2}'


def test_a_claim_that_is_gone_is_not_found() -> None:
    message = 'resourceclaims.resource.k8s.io "c" not found'
    body = {"kind": "Status", "code": 404, "reason": "NotFound", "message": message, "details": {"name": "c"}}
    with HttpServer(lambda _: Reply(404, body)) as server:
        client = Client(Access(server=server.url))
        with pytest.raises(NotFound, match='"c" not found'):
            claims.fetch(client, "ns", "c")
        client.close()


@pytest.mark.parametrize(
    "body",
    [
        b"404 page not found\n",
        b'{"message":"the server could not find the requested resource","reason":"NotFound","details":{},"code":404}',
        b'{"kind":"Status","reason":"NotFound","code":404}',
        b'{"kind":"Status","message":"namespaces \\"ns\\" not found","reason":"NotFound","details":{"name":"ns"}}',
        b'{"kind":"Status","details":{"name":"c"},"code":404}',
    ],
)
def test_a_404_that_is_not_of_this_claim_proves_nothing(body: bytes) -> None:
    """resource.k8s.io that is not served for a while must not have running pods' devices released."""
    with HttpServer(lambda _: Reply(404, body)) as server:
        client = Client(Access(server=server.url))
        with pytest.raises(Unavailable, match="claim ns/c: HTTP 404, but not of this claim"):
            claims.fetch(client, "ns", "c")
        client.close()


@pytest.mark.parametrize("body", [b"<html>sign in</html>", b'{"metadata": 5}', b"", b"\xff"])
def test_an_answer_that_is_no_claim_may_be_right_later(body: bytes) -> None:
    with HttpServer(lambda _: Reply(body=body)) as server:
        client = Client(Access(server=server.url))
        with pytest.raises(Unavailable, match="claim ns/c: the API server's answer cannot be read"):
            claims.fetch(client, "ns", "c")
        client.close()


def test_a_node_has_an_identity() -> None:
    with HttpServer(lambda _: Reply(body={"metadata": {"name": "n", "uid": "u-2"}, "status": {}})) as server:
        client = Client(Access(server=server.url))
        assert nodes.fetch(client, "n").metadata.uid == "u-2"
        client.close()
    assert server.requests[0].path == "/api/v1/nodes/n"
