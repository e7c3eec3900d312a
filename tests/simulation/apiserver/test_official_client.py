"""The official Python client against our server: typed objects, watches, patches, conflicts, server-side apply."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from driver.simulation.apiserver import ApiServer
from tests.simulation.apiserver.asking import a_claim, a_pod, a_slice, an_allocation

kubernetes = pytest.importorskip("kubernetes", reason="the official client is not installed")


@pytest.fixture
def running() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


@pytest.fixture
def client(running: ApiServer, tmp_path: Path) -> Iterator[Any]:
    path = running.kubeconfig(tmp_path / "config")
    made = kubernetes.config.new_client_from_config(str(path))
    yield made
    made.rest_client.pool_manager.clear()
    made.close()


@pytest.fixture
def core(client: Any) -> Any:
    return kubernetes.client.CoreV1Api(client)


@pytest.fixture
def resource(client: Any) -> Any:
    return kubernetes.client.ResourceV1Api(client)


def test_typed_objects_survive_the_round_trip(resource: Any) -> None:
    attributes = {"model": {"string": "x"}, "index": {"int": 0}, "ecc": {"bool": False}}
    device = {"name": "gpu-0", "attributes": attributes, "capacity": {"memory": {"value": "80Gi"}}}
    created = resource.create_resource_slice(a_slice(devices=[device]))
    read = resource.read_resource_slice("s")
    assert read.metadata.uid == created.metadata.uid
    assert read.spec.devices[0].attributes["index"].int == 0
    assert read.spec.devices[0].attributes["ecc"].bool is False
    assert read.spec.devices[0].capacity["memory"].value == "80Gi"
    assert isinstance(read.metadata.creation_timestamp, dt.datetime)


def test_errors_carry_the_status_body(resource: Any) -> None:
    with pytest.raises(kubernetes.client.ApiException) as refusal:
        resource.read_resource_slice("none")
    assert refusal.value.status == 404
    assert refusal.value.reason == "Not Found"
    assert '"reason":"NotFound"' in refusal.value.body


def test_a_stale_replace_is_a_conflict(core: Any) -> None:
    body = kubernetes.client.V1ConfigMap(metadata=kubernetes.client.V1ObjectMeta(name="a"), data={"x": "1"})
    first = core.create_namespaced_config_map("default", body)
    first.data = {"x": "2"}
    core.replace_namespaced_config_map("a", "default", first)
    with pytest.raises(kubernetes.client.ApiException) as refusal:
        core.replace_namespaced_config_map("a", "default", first)
    assert refusal.value.status == 409


def test_patches_of_every_kind(client: Any, core: Any, resource: Any) -> None:
    core.create_node({"metadata": {"name": "node-a"}})
    conditions = [{"type": "Ready", "status": "True", "reason": "Test", "message": ""}]
    node = core.patch_node_status("node-a", {"status": {"conditions": conditions}})
    assert node.status.conditions[0].type == "Ready"
    resource.create_resource_slice(a_slice())
    patch = [{"op": "add", "path": "/spec/devices", "value": [{"name": "gpu-0"}]}]
    assert resource.patch_resource_slice("s", patch).spec.devices[0].name == "gpu-0"
    client.set_default_header("Content-Type", "application/merge-patch+json")
    assert resource.patch_resource_slice("s", {"metadata": {"labels": {"a": "b"}}}).metadata.labels == {"a": "b"}


def test_the_life_of_a_claim(resource: Any) -> None:
    resource.create_namespaced_resource_claim("default", a_claim())
    claim = resource.read_namespaced_resource_claim("c", "default")
    assert claim.spec.devices.requests[0].exactly.count == 1
    status = {"allocation": an_allocation(), "reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}]}
    resource.patch_namespaced_resource_claim_status("c", "default", {"status": status})
    claim = resource.read_namespaced_resource_claim_status("c", "default")
    assert claim.status.allocation.devices.results[0].device == "gpu-0"
    assert claim.status.reserved_for[0].uid == "u"
    resource.delete_namespaced_resource_claim("c", "default")
    assert resource.list_resource_claim_for_all_namespaces().items == []


def test_device_status_by_server_side_apply(client: Any, resource: Any) -> None:
    resource.create_namespaced_resource_claim("default", a_claim())
    resource.patch_namespaced_resource_claim_status("c", "default", {"status": {"allocation": an_allocation()}})
    device = {"driver": "gpu.example.com", "pool": "node-a", "device": "gpu-0", "data": {"serial": "1"}}
    config = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": "c"},
        "status": {"devices": [device]},
    }
    client.set_default_header("Content-Type", "application/apply-patch+yaml")
    applied = resource.patch_namespaced_resource_claim_status(
        "c", "default", config, field_manager="gpu.example.com", force=True
    )
    assert applied.status.devices[0].data == {"serial": "1"}
    managers = {(entry.manager, entry.operation, entry.subresource) for entry in applied.metadata.managed_fields}
    assert ("gpu.example.com", "Apply", "status") in managers


def test_a_watch_delivers_typed_events_and_stops(running: ApiServer, resource: Any) -> None:
    watch = kubernetes.watch.Watch()
    version = resource.list_resource_slice().metadata.resource_version
    seen: list[tuple[str, str]] = []
    opened = threading.Event()

    def write() -> None:
        opened.wait(10)
        running.store.create(a_slice("a"))
        running.store.patch("resourceslices", "a", {"metadata": {"labels": {"x": "y"}}})
        running.store.delete("resourceslices", "a")

    writer = threading.Thread(target=write)
    writer.start()
    opened.set()
    for event in watch.stream(resource.list_resource_slice, resource_version=version, timeout_seconds=20):
        seen.append((event["type"], event["object"].metadata.name))
        if len(seen) == 3:
            watch.stop()
    writer.join()
    assert seen == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]


def test_an_expired_watch_is_an_api_exception(running: ApiServer, resource: Any) -> None:
    running.store.create(a_slice("a"))
    running.storage.compact()
    with pytest.raises(kubernetes.client.ApiException) as gone:
        list(kubernetes.watch.Watch().stream(resource.list_resource_slice, resource_version="1", timeout_seconds=5))
    assert gone.value.status == 410


def test_pods_are_defaulted_bound_and_finished(core: Any) -> None:
    pod = core.create_namespaced_pod("default", a_pod())
    assert pod.spec.restart_policy == "Always"
    assert pod.status.phase == "Pending"
    target = kubernetes.client.V1ObjectReference(kind="Node", name="node-a")
    binding = kubernetes.client.V1Binding(metadata=kubernetes.client.V1ObjectMeta(name="p"), target=target)
    core.create_namespaced_pod_binding("p", "default", binding, _preload_content=False)
    assert core.read_namespaced_pod("p", "default").spec.node_name == "node-a"
    found = core.list_pod_for_all_namespaces(field_selector="spec.nodeName=node-a")
    assert [one.metadata.name for one in found.items] == ["p"]
    core.delete_namespaced_pod("p", "default")
    assert core.read_namespaced_pod("p", "default").metadata.deletion_timestamp is not None
    core.delete_namespaced_pod("p", "default", grace_period_seconds=0)
    assert core.list_namespaced_pod("default").items == []


def test_events_are_one_in_both_apis(client: Any, core: Any) -> None:
    events = kubernetes.client.EventsV1Api(client)
    body = {
        "metadata": {"name": "e"},
        "eventTime": "2026-01-01T00:00:00.000001Z",
        "reportingController": "gpu.example.com",
        "reportingInstance": "node-a",
        "action": "Prepare",
        "reason": "PrepareFailed",
        "type": "Warning",
        "note": "no such device",
        "regarding": {"kind": "Pod", "namespace": "default", "name": "p"},
    }
    events.create_namespaced_event("default", body)
    assert core.read_namespaced_event("e", "default").message == "no such device"
    assert events.list_event_for_all_namespaces(field_selector="regarding.name=p").items[0].note == "no such device"


def test_a_lease_is_fought_for(client: Any) -> None:
    leases = kubernetes.client.CoordinationV1Api(client)
    spec = kubernetes.client.V1LeaseSpec(holder_identity="a", lease_duration_seconds=15)
    body = kubernetes.client.V1Lease(metadata=kubernetes.client.V1ObjectMeta(name="l"), spec=spec)
    mine = leases.create_namespaced_lease("default", body)
    theirs = leases.read_namespaced_lease("l", "default")
    mine.spec.renew_time = dt.datetime(2026, 1, 1, 0, 0, 0, 1, dt.UTC)
    leases.replace_namespaced_lease("l", "default", mine)
    theirs.spec.holder_identity = "b"
    with pytest.raises(kubernetes.client.ApiException) as refusal:
        leases.replace_namespaced_lease("l", "default", theirs)
    assert refusal.value.status == 409


def test_the_dynamic_client_discovers_our_kinds(client: Any) -> None:
    dynamic = kubernetes.dynamic.DynamicClient(client)
    slices = dynamic.resources.get(api_version="resource.k8s.io/v1", kind="ResourceSlice")
    slices.create(body=a_slice())
    assert [item.metadata.name for item in slices.get().items] == ["s"]
