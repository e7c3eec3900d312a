"""What `kubectl apply -k` sends is accepted, and what is installed keeps a plugin to its own node."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from driver.cli.checks import cluster, features
from driver.cli.checks.findings import Level
from driver.kube.access import Access
from driver.kube.client import Client
from driver.model.errors import Forbidden, Rejected
from driver.simulation.apiserver import ApiServer
from tests.fakes import kustomize
from tests.fakes.installing import ADMIN, find_path, guarded_server, install, issue_token, make_node

DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy"
BASE: Final = kustomize.render(DEPLOY / "base")
SLICES: Final = "/apis/resource.k8s.io/v1/resourceslices"
UNKNOWN_HERE: Final = ("Certificate", "Issuer", "PodDisruptionBudget", "Service", "ValidatingWebhookConfiguration")
"""Kinds around the webhook that the embedded server does not serve; `test_webhook_manifests` reads them."""
Connect = Callable[[str], Client]


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with guarded_server() as running:
        for node in ("node-a", "node-b"):
            make_node(running, node)
        yield running


@pytest.fixture
def connect(server: ApiServer) -> Iterator[Connect]:
    """Open a client with a token; all are closed at the end."""
    opened: list[Client] = []

    def make(token: str) -> Client:
        opened.append(Client(Access(server=server.url, token=token)))
        return opened[-1]

    yield make
    for client in opened:
        client.close()


def make_slice(node: str, **spec: object) -> bytes:
    content = {
        "driver": "gpu.accel-dra.dev",
        "pool": {"name": node or "everywhere", "generation": 1, "resourceSliceCount": 1},
        **({"nodeName": node} if node else {}),
        **spec,
    }
    metadata = {"generateName": "00000-gpu.accel-dra.dev-"}
    return json.dumps(
        {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": metadata, "spec": content}
    ).encode()


@contextmanager
def overlay(folder: Path, components: list[str]) -> Iterator[list[kustomize.Object]]:
    parts = "".join(f"- {DEPLOY / 'components' / name}\n" for name in components)
    text = f"kind: Kustomization\nresources: [{DEPLOY / 'base'}]\ncomponents:\n{parts}"
    (folder / "kustomization.yaml").write_text(text)
    yield kustomize.render(folder)


@pytest.mark.parametrize("name", ["base", "overlays/simulated", "overlays/driver-container"])
def test_every_object_is_accepted(server: ApiServer, connect: Connect, name: str) -> None:
    objects = kustomize.render(DEPLOY / name)
    install(server, objects)
    admin = connect(ADMIN)
    for item in objects:
        stored = json.loads(admin.get(f"{find_path(admin, item)}/{kustomize.identity(item)[1]}"))
        assert stored["kind"] == item["kind"]


def test_all_components_together_are_accepted(server: ApiServer, tmp_path: Path) -> None:
    names = sorted(path.name for path in (DEPLOY / "components").iterdir())
    with overlay(tmp_path, names) as objects:
        install(server, [item for item in objects if item["kind"] not in UNKNOWN_HERE])
    assert len(server.store.list("deviceclasses")) == 7


def test_a_plugin_writes_its_own_slices_and_no_others(server: ApiServer, connect: Connect) -> None:
    install(server, BASE)
    ours = connect(issue_token(server, "node-a"))
    own = json.loads(ours.create(SLICES, make_slice("node-a")))
    ours.patch(f"{SLICES}/{own['metadata']['name']}", b'{"spec": {"pool": {"generation": 2}}}')
    with pytest.raises(Rejected, match="the node plugin on node node-a may not write ResourceSlices of node node-b"):
        ours.create(SLICES, make_slice("node-b"))
    with pytest.raises(Rejected, match="not for one node"):
        ours.create(SLICES, make_slice("", allNodes=True))
    with pytest.raises(Rejected, match="not for one node"):
        ours.create(SLICES, make_slice("", nodeSelector={"nodeSelectorTerms": [{"matchExpressions": []}]}))
    other = json.loads(connect(issue_token(server, "node-b")).create(SLICES, make_slice("node-b")))
    with pytest.raises(Rejected, match="may not write"):
        ours.patch(f"{SLICES}/{other['metadata']['name']}", b'{"spec": {"pool": {"generation": 2}}}')
    with pytest.raises(Rejected, match="may not write"):
        ours.delete(f"{SLICES}/{other['metadata']['name']}")
    ours.delete(f"{SLICES}/{own['metadata']['name']}")


def test_what_is_not_granted_is_refused(server: ApiServer, connect: Connect) -> None:
    install(server, BASE)
    ours = connect(issue_token(server, "node-a"))
    for path in (
        "/api/v1/namespaces/accel-dra/secrets",
        "/api/v1/pods",
        "/apis/resource.k8s.io/v1/resourceclaims",
        f"{SLICES}/some",
    ):
        with pytest.raises(Forbidden):
            ours.get(path)
    with pytest.raises(Forbidden):
        ours.patch("/apis/resource.k8s.io/v1/namespaces/default/resourceclaims/c/status", b"{}")


def test_without_the_policy_every_slice_can_be_written(server: ApiServer, connect: Connect) -> None:
    """It is the policy that protects the other nodes, not the role."""
    install(server, [item for item in BASE if "Policy" not in str(item["kind"])])
    connect(issue_token(server, "node-a")).create(SLICES, make_slice("node-b"))


def test_the_doctor_in_the_plugins_pod_finds_all_in_order(server: ApiServer, connect: Connect) -> None:
    install(server, BASE)
    ours = connect(issue_token(server, "node-a"))
    found = [
        *cluster.look_at_group(ours),
        *cluster.look_at_permissions(ours),
        *features.try_features(ours, "gpu.accel-dra.dev", "node-a"),
        *features.try_policy(ours, "gpu.accel-dra.dev", "node-a"),
        *cluster.look_at_classes(ours),
    ]
    assert {finding.level for finding in found} == {Level.OK}, found


def test_the_doctor_notices_a_policy_that_is_missing(server: ApiServer, connect: Connect) -> None:
    install(server, [item for item in BASE if "Policy" not in str(item["kind"])])
    ours = connect(issue_token(server, "node-a"))
    (finding,) = features.try_policy(ours, "gpu.accel-dra.dev", "node-a")
    assert finding.level is Level.WARNING
    assert "every node" in finding.text


def test_the_doctor_notices_a_role_that_is_missing(server: ApiServer, connect: Connect) -> None:
    install(server, [item for item in BASE if item["kind"] != "ClusterRoleBinding"])
    ours = connect(issue_token(server, "node-a"))
    found = list(cluster.look_at_permissions(ours))
    assert [finding.text for finding in found] == [f"we may not {permission}" for permission in cluster.PERMISSIONS]
    (tried,) = features.try_features(ours, "gpu.accel-dra.dev", "node-a")
    assert tried.level is Level.WARNING
