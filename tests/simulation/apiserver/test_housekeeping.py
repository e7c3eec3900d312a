"""What controllers do: namespaces are furnished and emptied, what is owned goes with its owner."""

from __future__ import annotations

from typing import Any

from tests.simulation.apiserver.asking import DRA, MERGE, Asking, a_claim, a_config_map, a_pod, a_slice

NODES = "/api/v1/nodes"
MAPS = "/api/v1/namespaces/default/configmaps"


def a_node(api: Asking, name: str = "node-a") -> dict[str, Any]:
    return api.ok("POST", NODES, {"metadata": {"name": name}})


def owned_by(*owners: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "controller": index == 0,
        }
        for index, owner in enumerate(owners)
    ]


def owned_slice(name: str, *owners: dict[str, Any]) -> dict[str, Any]:
    value = a_slice(name)
    value["metadata"]["ownerReferences"] = owned_by(*owners)
    return value


def slices(api: Asking) -> list[str]:
    return [item["metadata"]["name"] for item in api.ok("GET", f"{DRA}/resourceslices")["items"]]


def test_a_new_namespace_has_its_account_and_certificate(api: Asking) -> None:
    api.ok("POST", "/api/v1/namespaces", {"metadata": {"name": "n"}})
    assert api.ok("GET", "/api/v1/namespaces/n/serviceaccounts/default")
    assert "ca.crt" in api.ok("GET", "/api/v1/namespaces/n/configmaps/kube-root-ca.crt")["data"]


def test_slices_go_with_their_node(api: Asking) -> None:
    node = a_node(api)
    api.ok("POST", f"{DRA}/resourceslices", owned_slice("s1", node))
    api.ok("POST", f"{DRA}/resourceslices", a_slice("s2"))
    api.ok("DELETE", f"{NODES}/node-a")
    assert slices(api) == ["s2"]


def test_what_has_another_living_owner_stays_without_the_dead_one(api: Asking) -> None:
    first, second = a_node(api, "a"), a_node(api, "b")
    api.ok("POST", f"{DRA}/resourceslices", owned_slice("s", first, second))
    api.ok("DELETE", f"{NODES}/a")
    (owner,) = api.ok("GET", f"{DRA}/resourceslices/s")["metadata"]["ownerReferences"]
    assert owner["name"] == "b"
    api.ok("DELETE", f"{NODES}/b")
    assert slices(api) == []


def test_a_claim_with_a_finalizer_is_only_marked_when_its_pod_goes(api: Asking) -> None:
    pod = api.ok("POST", "/api/v1/namespaces/default/pods", a_pod())
    claim = a_claim()
    claim["metadata"] |= {"ownerReferences": owned_by(pod), "finalizers": ["resource.kubernetes.io/delete-protection"]}
    api.ok("POST", f"{DRA}/namespaces/default/resourceclaims", claim)
    api.ok("DELETE", "/api/v1/namespaces/default/pods/p")
    left = api.ok("GET", f"{DRA}/namespaces/default/resourceclaims/c")
    assert "deletionTimestamp" in left["metadata"]


def test_orphans_stay_without_their_owner(api: Asking) -> None:
    node = a_node(api)
    api.ok("POST", f"{DRA}/resourceslices", owned_slice("s", node))
    api.ok("DELETE", f"{NODES}/node-a?propagationPolicy=Orphan")
    assert "ownerReferences" not in api.ok("GET", f"{DRA}/resourceslices/s")["metadata"]
    assert api.answer("GET", f"{NODES}/node-a").status == 404


def test_foreground_deletion_removes_dependents_and_owner(api: Asking) -> None:
    node = a_node(api)
    api.ok("POST", f"{DRA}/resourceslices", owned_slice("s", node))
    marked = api.ok("DELETE", f"{NODES}/node-a?propagationPolicy=Foreground")
    assert marked["metadata"]["finalizers"] == ["foregroundDeletion"]
    assert slices(api) == []
    assert api.answer("GET", f"{NODES}/node-a").status == 404


def test_a_deleted_namespace_is_emptied_and_gone(api: Asking) -> None:
    api.ok("POST", "/api/v1/namespaces", {"metadata": {"name": "n"}})
    api.server.store.create(a_config_map("a", "n"))
    marked = api.ok("DELETE", "/api/v1/namespaces/n")
    assert marked["status"]["phase"] == "Terminating"
    assert api.answer("GET", "/api/v1/namespaces/n").status == 404
    assert api.ok("GET", "/api/v1/namespaces/n/configmaps")["items"] == []


def test_a_namespace_waits_for_finalizers_and_refuses_new_content(api: Asking) -> None:
    api.ok("POST", "/api/v1/namespaces", {"metadata": {"name": "n"}})
    held = a_config_map("a", "n")
    held["metadata"] = {"name": "a", "namespace": "n", "finalizers": ["example.com/hold"]}
    api.server.store.create(held)
    api.ok("DELETE", "/api/v1/namespaces/n")
    assert api.ok("GET", "/api/v1/namespaces/n")["status"]["phase"] == "Terminating"
    code, message = api.refused("POST", "/api/v1/namespaces/n/configmaps", {"metadata": {"name": "b"}})
    assert code == 403
    assert "because it is being terminated" in message
    api.ok("PATCH", "/api/v1/namespaces/n/configmaps/a", {"metadata": {"finalizers": None}}, content_type=MERGE)
    assert api.answer("GET", "/api/v1/namespaces/n").status == 404


def test_a_dry_run_deletes_nothing(api: Asking) -> None:
    node = a_node(api)
    api.ok("POST", f"{DRA}/resourceslices", owned_slice("s", node))
    api.ok("DELETE", f"{NODES}/node-a?dryRun=All")
    assert slices(api) == ["s"]
    assert api.ok("GET", f"{NODES}/node-a")
    assert api.ok("GET", MAPS)["items"]


def test_the_last_spec_finalizer_holds_a_namespace(api: Asking) -> None:
    held = {"metadata": {"name": "n", "finalizers": ["example.com/hold"]}}
    api.ok("POST", "/api/v1/namespaces", held)
    api.ok("DELETE", "/api/v1/namespaces/n")
    left = api.ok("GET", "/api/v1/namespaces/n")
    assert (left["status"]["phase"], "finalizers" in left["spec"]) == ("Terminating", False)
    left["spec"]["finalizers"] = ["example.com/late"]
    assert api.ok("PUT", "/api/v1/namespaces/n/finalize", left)["spec"]["finalizers"] == ["example.com/late"]
    api.ok("PATCH", "/api/v1/namespaces/n", {"metadata": {"finalizers": None}}, content_type=MERGE)
    left = api.ok("GET", "/api/v1/namespaces/n")
    left["spec"] = {}
    api.ok("PUT", "/api/v1/namespaces/n/finalize", left)
    assert api.answer("GET", "/api/v1/namespaces/n").status == 404
