"""Allocations in the API's words, and extended resources as claims."""

from __future__ import annotations

import json

import msgspec
import pytest

from driver.simulation.objects import Container, ContainerResources, Meta, Pod, PodSpec
from driver.simulation.resources import (
    Configuration,
    DeviceRequest,
    NodeSelector,
    Request,
    Requirement,
    Term,
    Toleration,
)
from driver.simulation.scheduler import extended, results, search
from driver.simulation.scheduler.search import World
from tests.fakes.cluster_objects import DRIVER, claim, device, device_class, node, slice_, wanted


def _config(text: str, *requests: str) -> Configuration:
    opaque = {"driver": DRIVER, "parameters": {"text": text}}
    return Configuration(requests=requests, opaque=msgspec.Raw(json.dumps(opaque).encode()))


def _describe(made: object, *slices: object) -> dict[str, object]:
    world = World(slices or (slice_(device("a"), device("b")),), {"gpu": CLASS}, frozenset())  # type: ignore[arg-type]  # slices
    answer = search.allocate([made], node(), world)  # type: ignore[list-item]  # a claim
    described: dict[str, object] = json.loads(
        msgspec.json.encode(results.describe(made, answer.taken, "node-1", "2026-01-01T00:00:00Z"))  # type: ignore[arg-type]
    )
    return described


CLASS = device_class("gpu", config=[_config("class")])


def test_an_allocation_names_devices_node_and_time() -> None:
    assert _describe(claim(wanted(count=2, admin=True))) == {
        "devices": {
            "results": [
                {"request": "r0", "driver": DRIVER, "pool": "node-1", "device": name, "adminAccess": True}
                for name in ("a", "b")
            ],
            "config": [
                {
                    "source": "FromClass",
                    "requests": ["r0"],
                    "opaque": {"driver": DRIVER, "parameters": {"text": "class"}},
                }
            ],
        },
        "nodeSelector": {
            "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}]}]
        },
        "allocationTimestamp": "2026-01-01T00:00:00Z",
    }


def test_tolerations_are_copied_as_they_were_written() -> None:
    request = DeviceRequest(
        device_class_name="gpu",
        tolerations=(Toleration(key="k", operator="Exists", toleration_seconds=0), Toleration(effect="NoExecute")),
    )
    devices = _describe(claim(request))["devices"]
    assert isinstance(devices, dict)
    assert devices["results"][0]["tolerations"] == [
        {"key": "k", "operator": "Exists", "tolerationSeconds": 0},
        {"effect": "NoExecute"},
    ]


def test_configuration_is_collected_for_the_requests_that_it_is_for() -> None:
    first = Request(name="first", first_available=(wanted(name="sub"), wanted(name="other")))
    made = claim(
        first,
        Request(name="second", exactly=wanted()),
        config=[
            _config("all"),
            _config("parent", "first"),
            _config("sub", "first/sub"),
            _config("not chosen", "first/other"),
            _config("both", "first", "second"),
        ],
    )
    devices = _describe(made)["devices"]
    assert isinstance(devices, dict)
    found = [(each["source"], each["requests"], each["opaque"]["parameters"]["text"]) for each in devices["config"]]
    assert found == [
        ("FromClass", ["first/sub", "second"], "class"),
        ("FromClaim", [], "all"),
        ("FromClaim", ["first"], "parent"),
        ("FromClaim", ["first/sub"], "sub"),
        ("FromClaim", ["first", "second"], "both"),
        ("FromClaim", ["first", "second"], "both"),
    ]


@pytest.mark.parametrize("everywhere", [True, False])
def test_devices_of_many_nodes_bind_the_claim_to_those_nodes(everywhere: bool) -> None:
    term = Term(match_expressions=(Requirement(key="zone", operator="Exists"),))
    selector = None if everywhere else NodeSelector(node_selector_terms=(term,))
    base = slice_(device("net"))
    spec = msgspec.structs.replace(base.spec, node_name="", all_nodes=everywhere, node_selector=selector)
    placed = msgspec.structs.replace(base, spec=spec)
    world = World((placed,), {"gpu": device_class()}, frozenset())
    made = claim(wanted())
    answer = search.allocate([made], node("any", zone="a"), world)
    described = results.describe(made, answer.taken, "any", "now")
    if everywhere:
        assert "nodeSelector" not in described
    else:
        terms = [{"matchExpressions": [{"key": "zone", "operator": "Exists"}]}]
        assert described["nodeSelector"] == {"nodeSelectorTerms": terms}
        assert not search.allocate([made], node("elsewhere"), world).taken


def _pod(**limits: str | int) -> Pod:
    resources = ContainerResources(
        limits={name.replace("__", "/").replace("_", "."): value for name, value in limits.items()}
    )
    container = Container(name="main", resources=resources)
    return Pod(metadata=Meta(name="p", namespace="ns", uid="u"), spec=PodSpec(containers=(container,)))


def test_classes_serve_extended_resources_by_name_and_implicitly() -> None:
    classes = [
        device_class("old", resource="example.com/gpu", created="2026-01-01T00:00:00Z"),
        device_class("new", resource="example.com/gpu", created="2026-01-02T00:00:00Z"),
        device_class("a", resource="example.com/nic", created="2026-01-02T00:00:00Z"),
        device_class("b", resource="example.com/nic", created="2026-01-02T00:00:00Z"),
        device_class("none"),
    ]
    found = extended.map_resources(classes)
    assert found["example.com/gpu"] == "new"
    assert found["example.com/nic"] == "a"
    assert found["deviceclass.resource.kubernetes.io/none"] == "none"


def test_limits_become_requests_of_their_containers() -> None:
    classes = extended.map_resources([device_class("gpu", resource="example.com/gpu")])
    made, mappings = extended.make_claim(_pod(example_com__gpu="2", cpu="1"), classes)
    assert made is not None
    (request,) = made.spec.devices.requests
    assert request.exactly is not None
    assert (request.name, request.exactly.count) == ("container-0-request-0", 2)
    assert mappings == [
        {"containerName": "main", "resourceName": "example.com/gpu", "requestName": "container-0-request-0"}
    ]
    body = extended.describe(_pod(), made)
    metadata = body["metadata"]
    assert isinstance(metadata, dict)
    assert metadata["generateName"] == "p-extended-resources-"
    assert metadata["annotations"] == {"resource.kubernetes.io/extended-resource-claim": "true"}


def test_pods_without_such_limits_need_no_claim() -> None:
    assert extended.make_claim(_pod(cpu=1, memory="1Gi"), extended.map_resources([device_class()])) == (None, [])
