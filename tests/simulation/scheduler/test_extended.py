"""Extended resources as claims."""

from __future__ import annotations

from driver.core.extended import map_resources
from driver.simulation.objects import Container, ContainerResources, Meta, Pod, PodSpec
from driver.simulation.scheduler import extended
from tests.fakes.cluster_objects import device_class


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
    found = map_resources(classes)
    assert found["example.com/gpu"] == "new"
    assert found["example.com/nic"] == "a"
    assert found["deviceclass.resource.kubernetes.io/none"] == "none"


def test_limits_become_requests_of_their_containers() -> None:
    classes = map_resources([device_class("gpu", resource="example.com/gpu")])
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
    assert extended.make_claim(_pod(cpu=1, memory="1Gi"), map_resources([device_class()])) == (None, [])
