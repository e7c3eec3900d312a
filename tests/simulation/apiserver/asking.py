"""Requests to an embedded API server without sockets, for tests that are about answers and not about HTTP."""

from __future__ import annotations

import json
from typing import Any

from driver.simulation.apiserver import ApiServer
from driver.simulation.apiserver.requests import Request, Response
from driver.simulation.apiserver.values import JsonObject
from driver.simulation.apiserver.watching import Watch

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
DRA = "/apis/resource.k8s.io/v1"


class Asking:
    """One server and somebody who asks it; `token` authenticates where that is on."""

    def __init__(self, server: ApiServer, token: str = "") -> None:
        self.server = server
        self._token = token

    def raw(self, method: str, path: str, body: object = None, **headers: str) -> Response | Watch:
        """The answer as the server gives it; a query may stand behind the path."""
        path, _, query = path.partition("?")
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self._token:
            sent["authorization"] = f"Bearer {self._token}"
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        pairs = dict(part.partition("=")[::2] for part in query.split("&") if part)
        return self.server.api.handle(Request(method, path, pairs, sent, data))

    def answer(self, method: str, path: str, body: object = None, **headers: str) -> Response:
        """The same for anything but a watch."""
        response = self.raw(method, path, body, **headers)
        assert isinstance(response, Response)
        return response

    def ok(self, method: str, path: str, body: object = None, **headers: str) -> dict[str, Any]:
        """The document of an answer that must be a success."""
        response = self.answer(method, path, body, **headers)
        assert response.status < 300, response.body
        document: dict[str, Any] = json.loads(response.body)
        return document

    def refused(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, str]:
        """Status and message of an answer that must be a refusal."""
        response = self.answer(method, path, body, **headers)
        assert response.status >= 300, response.body
        return response.status, json.loads(response.body)["message"]

    def watch(self, path: str) -> Watch:
        """An open watch."""
        watch = self.raw("GET", path)
        assert isinstance(watch, Watch)
        return watch


def events(watch: Watch) -> list[dict[str, Any]]:
    """What a watch has to say now."""
    return [json.loads(line) for line in watch.take()]


def a_slice(name: str = "s", node: str = "node-a", **spec: Any) -> dict[str, Any]:
    """A small valid ResourceSlice."""
    pool = {"name": node, "generation": 1, "resourceSliceCount": 1}
    given = {"driver": "gpu.example.com", "nodeName": node, "pool": pool, **spec}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": name},
        "spec": {key: value for key, value in given.items() if value is not None},
    }


def a_claim(name: str = "c", namespace: str = "default", **exactly: Any) -> dict[str, Any]:
    """A small valid ResourceClaim for one device."""
    request = {"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com", **exactly}}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"devices": {"requests": [request]}},
    }


def an_allocation(node: str = "node-a", device: str = "gpu-0") -> dict[str, Any]:
    """What a scheduler writes for `a_claim`."""
    fields = [{"key": "metadata.name", "operator": "In", "values": [node]}]
    result = {"request": "gpu", "driver": "gpu.example.com", "pool": node, "device": device}
    return {"devices": {"results": [result]}, "nodeSelector": {"nodeSelectorTerms": [{"matchFields": fields}]}}


def a_pod(name: str = "p", namespace: str = "default", **spec: Any) -> dict[str, Any]:
    """A small valid Pod."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [{"name": "main", "image": "example:1"}], **spec},
    }


def a_config_map(name: str, namespace: str = "default", **data: str) -> JsonObject:
    """A ConfigMap: the plainest object there is."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": dict(data),
    }
