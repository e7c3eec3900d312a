"""Direct access to the store: the same rules as over HTTP, and results that belong to the caller."""

from __future__ import annotations

import pytest

from driver.simulation.apiserver import ApiError, ApiServer
from driver.simulation.apiserver.values import Json, JsonObject, metadata, obj
from tests.simulation.apiserver.asking import a_claim, a_config_map, a_pod, a_slice, an_allocation


def test_objects_are_created_read_changed_and_deleted(server: ApiServer) -> None:
    made = server.store.create(a_config_map("a", k="v"))
    assert made == server.store.get("configmaps", "a", "default")
    made["data"] = {"k": "w"}
    assert server.store.update(made)["data"] == {"k": "w"}
    server.store.delete("configmaps", "a", "default")
    with pytest.raises(ApiError) as refusal:
        server.store.get("configmaps", "a", "default")
    assert refusal.value.code == 404


def test_what_is_returned_can_be_changed_without_harm(server: ApiServer) -> None:
    for changed in (
        server.store.create(a_config_map("a", k="v")),
        server.store.get("configmaps", "a", "default"),
        server.store.list("configmaps", "default", fields="metadata.name=a")[0],
    ):
        obj(changed["data"])["k"] = "spoiled"
    assert server.store.get("configmaps", "a", "default")["data"] == {"k": "v"}


def test_a_stale_version_is_a_conflict_and_none_is_not(server: ApiServer) -> None:
    old = server.store.create(a_config_map("a", k="1"))
    server.store.update({**a_config_map("a", k="2")})
    with pytest.raises(ApiError) as refusal:
        server.store.update({**old, "data": {"k": "3"}})
    assert refusal.value.code == 409


def test_spec_and_status_are_written_apart(server: ApiServer) -> None:
    claim = server.store.create(a_claim())
    claim["status"] = {"allocation": an_allocation()}
    assert "status" not in server.store.update(claim) or not server.store.update(claim).get("status")
    written = server.store.update_status(claim)
    assert obj(written["status"])["allocation"] == an_allocation()
    patched = server.store.patch("resourceclaims", "c", {"status": None}, "default", subresource="status")
    assert not patched.get("status")


def test_lists_are_chosen_by_namespace_labels_and_fields(server: ApiServer) -> None:
    server.store.create({**a_config_map("a"), "metadata": {"name": "a", "namespace": "default", "labels": {"x": "1"}}})
    server.store.create(a_config_map("b", "kube-system"))

    def names(namespace: str = "", labels: str = "", fields: str = "") -> set[Json]:
        found = server.store.list("configmaps", namespace, labels=labels, fields=fields)
        return {metadata(one)["name"] for one in found} - {"kube-root-ca.crt"}

    assert names() == {"a", "b"}
    assert names("kube-system") == {"b"}
    assert names(labels="x=1") == {"a"}
    assert names(fields="metadata.name!=a") == {"b"}


def test_a_namespaced_object_without_one_is_of_default(server: ApiServer) -> None:
    value: JsonObject = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}}
    assert metadata(server.store.create(value))["namespace"] == "default"


def test_kinds_are_known_and_fields_strict(server: ApiServer) -> None:
    with pytest.raises(ApiError, match="no resource for v1 Unicorn"):
        server.store.create({"kind": "Unicorn", "apiVersion": "v1", "metadata": {"name": "a"}})
    with pytest.raises(ApiError, match="unknown field"):
        server.store.create(a_slice(colour="red"))
    with pytest.raises(KeyError):
        server.store.get("unicorns", "a")


def test_pods_are_deleted_with_grace(server: ApiServer) -> None:
    server.store.create(a_pod(nodeName="n"))
    server.store.delete("pods", "p", "default")
    assert metadata(server.store.get("pods", "p", "default"))["deletionGracePeriodSeconds"] == 30
    server.store.delete("pods", "p", "default", grace=0)
    assert server.store.list("pods") == []


def test_events_are_seen_through_either_api(server: ApiServer) -> None:
    server.store.create(
        {
            "kind": "Event",
            "apiVersion": "v1",
            "metadata": {"name": "e", "namespace": "default"},
            "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"},
            "message": "hello",
        }
    )
    (event,) = server.store.list("events.events.k8s.io", fields="regarding.name=p")
    assert (event["apiVersion"], event["note"]) == ("events.k8s.io/v1", "hello")
    assert server.store.get("events", "e", "default")["message"] == "hello"
