"""Discovery, versions, health and OpenAPI: what clients ask before they ask for anything."""

from __future__ import annotations

import json
from typing import Any

import pytest

from driver.simulation.apiserver import ApiServer, gates_of
from driver.simulation.apiserver.kinds import RESOURCES
from tests.simulation.apiserver.asking import Asking

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def test_groups_are_listed_with_their_preferred_version(api: Asking) -> None:
    assert api.ok("GET", "/api")["versions"] == ["v1"]
    groups = {group["name"]: group for group in api.ok("GET", "/apis")["groups"]}
    assert groups["resource.k8s.io"]["preferredVersion"] == {"groupVersion": "resource.k8s.io/v1", "version": "v1"}
    assert api.ok("GET", "/apis/resource.k8s.io")["name"] == "resource.k8s.io"
    assert set(groups) >= {
        "apps",
        "authentication.k8s.io",
        "authorization.k8s.io",
        "admissionregistration.k8s.io",
        "coordination.k8s.io",
        "events.k8s.io",
        "rbac.authorization.k8s.io",
    }


def test_resources_are_listed_with_verbs_and_subresources(api: Asking) -> None:
    listed = {one["name"]: one for one in api.ok("GET", "/apis/resource.k8s.io/v1")["resources"]}
    assert listed["resourceclaims"]["namespaced"] is True
    assert listed["resourceslices"]["namespaced"] is False
    assert set(listed["resourceclaims"]["verbs"]) == {
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "update",
        "watch",
    }
    assert listed["resourceclaims/status"]["verbs"] == ["get", "patch", "update"]


def test_both_forms_of_discovery_agree(api: Asking) -> None:
    for root in ("/api", "/apis"):
        document = api.ok("GET", root, accept=AGGREGATED)
        assert document["kind"] == "APIGroupDiscoveryList"
        for group in document["items"]:
            name = group["metadata"].get("name", "")
            for version in group["versions"]:
                path = f"/apis/{name}/{version['version']}" if name else f"/api/{version['version']}"
                plain = {one["name"] for one in api.ok("GET", path)["resources"]}
                aggregated = {one["resource"] for one in version["resources"]} | {
                    f"{one['resource']}/{sub['subresource']}"
                    for one in version["resources"]
                    for sub in one.get("subresources", [])
                }
                assert plain == aggregated, path


def test_a_client_that_wants_another_form_falls_back_or_is_told(api: Asking) -> None:
    old = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
    assert api.ok("GET", "/apis", accept=f"{old},application/json")["kind"] == "APIGroupList"
    assert api.refused("GET", "/apis", accept=old)[0] == 406


@pytest.mark.parametrize("path", ["/apis/none.example.com", "/apis/none.example.com/v1", "/apis/resource.k8s.io/v9"])
def test_unknown_groups_and_versions_are_not_found(api: Asking, path: str) -> None:
    assert api.answer("GET", path).status == 404


def test_every_resource_that_is_listed_can_be_listed(api: Asking) -> None:
    for resource in RESOURCES:
        for version in (resource.version, *resource.also):
            group = f"/apis/{resource.group}/{version}" if resource.group else f"/api/{version}"
            document = api.ok("GET", f"{group}/{resource.plural}")
            assert document["kind"] == f"{resource.kind}List"
            assert document["apiVersion"] == group.removeprefix("/apis/").removeprefix("/api/")


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz"])
def test_it_is_healthy(api: Asking, path: str) -> None:
    assert api.answer("GET", path).body == b"ok"
    assert api.answer("GET", f"{path}?verbose").body.endswith(b"check passed\n")


@pytest.mark.parametrize("minor", [34, 35, 36])
def test_it_says_which_version_it_pretends_to_be(minor: int) -> None:
    version = Asking(ApiServer(gates=gates_of(minor))).ok("GET", "/version")
    assert (version["major"], version["minor"]) == ("1", str(minor))
    assert version["gitVersion"].startswith(f"v1.{minor}.")


def test_openapi_describes_what_is_served(api: Asking) -> None:
    index = json.loads(api.answer("GET", "/openapi/v3").body)["paths"]
    assert set(index) >= {"api/v1", "apis/resource.k8s.io/v1"}
    url = index["apis/resource.k8s.io/v1"]["serverRelativeURL"]
    document = api.ok("GET", url)
    schemas = document["components"]["schemas"]
    claim = next(schema for name, schema in schemas.items() if name.endswith(".ResourceClaim"))
    (kind,) = claim["x-kubernetes-group-version-kind"]
    assert (kind["group"], kind["version"], kind["kind"]) == ("resource.k8s.io", "v1", "ResourceClaim")
    _check_references(document, schemas)
    assert api.answer("GET", "/openapi/v2").status == 404
    assert api.answer("GET", "/openapi/v3/apis/none.example.com/v1").status == 404


def _check_references(value: Any, schemas: dict[str, Any]) -> None:
    if isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str):
            assert reference.removeprefix("#/components/schemas/") in schemas
        for one in value.values():
            _check_references(one, schemas)
    elif isinstance(value, list):
        for one in value:
            _check_references(one, schemas)
