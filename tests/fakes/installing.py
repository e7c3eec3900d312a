"""Installs deploy/ into the embedded API server as `kubectl apply -k` would, and hands out the tokens of its pods."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from driver.kube.access import Access
from driver.kube.client import Client
from driver.simulation.apiserver import ApiServer
from driver.simulation.apiserver.requests import User
from tests.fakes.kustomize import Object, mapping

ADMIN: Final = "admin-token"
NAMESPACE: Final = "accel-dra"
ACCOUNT: Final = "accel-dra-node"


@contextmanager
def guarded_server() -> Iterator[ApiServer]:
    """Serve with authentication, RBAC and admission policies on. `ADMIN` is the token of an administrator."""
    with ApiServer(authorize=True, tokens={ADMIN: User("admin", groups=("system:masters",))}) as server:
        yield server


def install(server: ApiServer, objects: Iterable[Object]) -> None:
    """Create every object over HTTP, in order; unknown and duplicate fields are errors."""
    client = Client(Access(server=server.url, token=ADMIN))
    try:
        for item in objects:
            client.create(find_path(client, item), json.dumps(item).encode(), {"fieldValidation": "Strict"})
    finally:
        client.close()


def find_path(client: Client, item: Object) -> str:
    """Return the collection of an object, found through discovery as kubectl does."""
    version = str(item["apiVersion"])
    base = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    served = json.loads(client.get(base))["resources"]
    (found,) = [entry for entry in served if entry["kind"] == item["kind"] and "/" not in entry["name"]]
    namespace = f"/namespaces/{mapping(item['metadata'])['namespace']}" if found["namespaced"] else ""
    return f"{base}{namespace}/{found['name']}"


def make_node(server: ApiServer, name: str) -> None:
    """Add a Node."""
    server.store.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})


def issue_token(server: ApiServer, node: str, account: str = ACCOUNT) -> str:
    """Return the token that the kubelet of a node mounts into the plugin's pod there; makes the pod."""
    pod = server.store.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"{account}-{node}", "namespace": NAMESPACE},
            "spec": {
                "nodeName": node,
                "serviceAccountName": account,
                "containers": [{"name": "plugin", "image": "accel-dra:0.1.0"}],
            },
        }
    )
    bound = {"kind": "Pod", "apiVersion": "v1", "name": f"{account}-{node}", "uid": mapping(pod["metadata"])["uid"]}
    client = Client(Access(server=server.url, token=ADMIN))
    try:
        request = {"spec": {"expirationSeconds": 3607, "boundObjectRef": bound}}
        path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token"
        answer = json.loads(client.create(path, json.dumps(request).encode()))
    finally:
        client.close()
    return str(answer["status"]["token"])
