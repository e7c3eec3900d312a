"""The scheduler over real HTTP: what it writes, in which order, and what it says when it cannot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from driver.kube.access import Access
from driver.kube.client import Client
from driver.simulation import manifests
from driver.simulation.access import CLAIMS, CLASSES, EVENTS, NAMESPACES, NODES, PODS, SLICES, Body, Json, Objects
from driver.simulation.apiserver import ApiServer
from driver.simulation.objects import Pod
from driver.simulation.scheduler.scheduling import Scheduler
from tests.fakes.waiting import wait_until

DRIVER = "gpu.example.com"


class World:
    """An API server with a scheduler, and no kubelet or controller."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects

    def node(self, name: str, devices: int, *, ready: bool = True, memory: str = "80Gi", **labels: str) -> None:
        created = self.objects.create(NODES, {"metadata": {"name": name, "labels": labels}})
        condition = {"type": "Ready", "status": str(ready)}
        self.objects.patch(NODES, created, {"status": {"conditions": [condition]}}, "status")
        pool: Body = {"name": name, "generation": 1, "resourceSliceCount": 1}
        listed: list[Json] = [
            {"name": f"gpu-{index}", "capacity": {"memory": {"value": memory}}} for index in range(devices)
        ]
        spec: Body = {"driver": DRIVER, "nodeName": name, "pool": pool, "devices": listed}
        self.objects.create(SLICES, {"metadata": {"name": f"slice-{name}"}, "spec": spec})

    def device_class(self, name: str = "gpu", **spec: Json) -> None:
        self.objects.create(CLASSES, {"metadata": {"name": name}, "spec": spec})

    def claim(self, name: str, *, class_: str = "gpu", **request: Json) -> None:
        exactly: Body = {"deviceClassName": class_, **request}
        spec: Body = {"devices": {"requests": [{"name": "r", "exactly": exactly}]}}
        self.objects.create(CLAIMS, {"metadata": {"name": name}, "spec": spec}, "default")

    def pod(self, name: str, *claims: str, limits: Body | None = None, **spec: Json) -> Pod:
        container: Body = {"name": "main", "image": "x", "resources": {"limits": limits} if limits else {}}
        uses: list[Json] = [{"name": each, "resourceClaimName": each} for each in claims]
        body: Body = {"containers": [container], "resourceClaims": uses, **spec}
        return self.objects.create(PODS, {"metadata": {"name": name}, "spec": body}, "default")

    def node_of(self, name: str) -> str:
        return self.objects.get(PODS, name, "default").spec.node_name

    def wait_bound(self, name: str) -> str:
        wait_until(lambda: self.node_of(name), f"{name} to be bound")
        return self.node_of(name)

    def refusal(self, name: str) -> tuple[str, str]:
        def look() -> bool:
            condition = self.objects.get(PODS, name, "default").condition("PodScheduled")
            return condition is not None and condition.status == "False" and bool(condition.message)

        wait_until(look, f"{name} to be refused")
        condition = self.objects.get(PODS, name, "default").condition("PodScheduled")
        assert condition is not None
        return condition.reason, condition.message

    def allocation(self, name: str) -> Body:
        allocation: Body = json.loads(self.objects.client.get(CLAIMS.path("default", name)))["status"]["allocation"]
        return allocation


@pytest.fixture
def world() -> Iterator[World]:
    with ApiServer() as server:
        clients = [Client(Access(server=server.url)) for _ in range(2)]
        scheduler = Scheduler(Objects(clients[0]), lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
        scheduler.start()
        yield World(Objects(clients[1]))
        scheduler.stop()
        for client in clients:
            client.close()


def test_a_claim_is_protected_allocated_reserved_and_its_pod_bound(world: World) -> None:
    world.node("node-1", 2)
    world.device_class()
    world.claim("c")
    pod = world.pod("p", "c")
    assert world.wait_bound("p") == "node-1"
    claim = world.objects.get(CLAIMS, "c", "default")
    assert claim.metadata.finalizers == ("resource.kubernetes.io/delete-protection",)
    assert claim.is_reserved_for(pod.metadata.uid)
    allocation = world.allocation("c")
    assert allocation["allocationTimestamp"] == "2026-01-02T03:04:05Z", "without it no pod could ever be bound"
    assert "gpu-0" in str(allocation)


def test_a_pod_without_claims_goes_to_the_first_ready_node_that_it_selects(world: World) -> None:
    world.node("a", 0, ready=False)
    world.node("b", 0)
    world.node("c", 0, disk="ssd")
    world.pod("any")
    world.pod("picky", nodeSelector={"disk": "ssd"})
    assert (world.wait_bound("any"), world.wait_bound("picky")) == ("b", "c")


def test_the_node_with_the_better_alternative_wins(world: World) -> None:
    world.node("a", 1, memory="40Gi")
    world.node("b", 1, memory="80Gi")
    world.device_class()
    selector = f'device.capacity["{DRIVER}"].memory.isGreaterThan(quantity("60Gi"))'
    subs: list[Json] = [
        {"name": "big", "deviceClassName": "gpu", "selectors": [{"cel": {"expression": selector}}]},
        {"name": "any", "deviceClassName": "gpu"},
    ]
    spec: Body = {"devices": {"requests": [{"name": "r", "firstAvailable": subs}]}}
    for name in ("first", "second"):
        world.objects.create(CLAIMS, {"metadata": {"name": name}, "spec": spec}, "default")
        world.pod(name, name)
    assert (world.wait_bound("first"), world.wait_bound("second")) == ("b", "a")


def test_two_claims_of_a_pod_come_from_one_node(world: World) -> None:
    world.node("a", 1)
    world.node("b", 2)
    world.device_class()
    world.claim("one")
    world.claim("two")
    world.pod("p", "one", "two")
    assert world.wait_bound("p") == "b"


def test_a_claim_that_is_allocated_decides_the_node(world: World) -> None:
    world.node("a", 2)
    world.node("b", 2)
    world.device_class()
    world.claim("shared")
    world.pod("first", "shared", nodeSelector={})
    node = world.wait_bound("first")
    second = world.pod("second", "shared")
    assert world.wait_bound("second") == node
    claim = world.objects.get(CLAIMS, "shared", "default")
    assert len(claim.status.reserved_for) == 2
    assert claim.is_reserved_for(second.metadata.uid)
    world.pod("elsewhere", "shared", nodeSelector={"none": "such"})
    assert world.refusal("elsewhere")[0] == "Unschedulable"


def test_a_pod_waits_for_its_claim_to_exist(world: World) -> None:
    world.node("a", 1)
    world.device_class()
    world.pod("p", "late")
    world.pod("marker")
    world.wait_bound("marker")
    assert world.node_of("p") == ""
    world.claim("late")
    world.wait_bound("p")


def test_a_gated_pod_waits_for_its_gate(world: World) -> None:
    world.node("a", 1)
    pod = world.pod("p", schedulingGates=[{"name": "example.com/later"}])
    world.pod("marker")
    world.wait_bound("marker")
    assert world.node_of("p") == ""
    world.objects.patch(PODS, pod, {"spec": {"schedulingGates": None}})
    world.wait_bound("p")


def test_extended_resources_become_a_claim_of_the_pod(world: World) -> None:
    world.node("a", 2)
    world.device_class(extendedResourceName="example.com/gpu")
    pod = world.pod("p", limits={"example.com/gpu": "2"})
    world.wait_bound("p")
    status = world.objects.get(PODS, "p", "default").status.extended_resource_claim_status
    assert status is not None
    assert [each.request_name for each in status.request_mappings] == ["container-0-request-0"]
    claim = world.objects.get(CLAIMS, status.resource_claim_name, "default")
    assert claim.owner == pod.metadata.uid
    assert claim.is_reserved_for(pod.metadata.uid)
    assert len(world.objects.list_all(CLAIMS, "default")) == 1


def test_an_extended_resource_that_nobody_serves_is_waited_for(world: World) -> None:
    world.node("a", 2)
    world.pod("p", limits={"example.com/gpu": "1"})
    assert world.refusal("p")[1] == "0/1 nodes are available: a: Insufficient example.com/gpu"
    world.device_class(extendedResourceName="example.com/gpu")
    world.wait_bound("p")


def test_a_pod_that_cannot_be_placed_says_why_once_and_runs_when_it_can(world: World) -> None:
    world.node("a", 1)
    world.device_class()
    world.claim("c", count=2)
    world.pod("p", "c")
    reason, message = world.refusal("p")
    assert reason == "Unschedulable"
    assert message == "0/1 nodes are available: no node can give request r 2 devices: 1 node: there is only 1 device"
    world.node("b", 2)
    assert world.wait_bound("p") == "b"
    events = json.loads(world.objects.client.get(EVENTS.path("default")))["items"]
    messages = [each["message"] for each in events if each["reason"] == "FailedScheduling"]
    assert len(messages) == len(set(messages)), "the same is not said twice"


@pytest.mark.parametrize(
    ("class_", "expression", "reason"),
    [
        ("none", "true", "device class none does not exist"),
        ("gpu", 'device.attributes["x"].y == 1', "CEL runtime error: no such key: y"),
    ],
)
def test_what_is_wrong_everywhere_is_an_error_of_the_scheduler(
    world: World, class_: str, expression: str, reason: str
) -> None:
    world.node("a", 1)
    world.device_class()
    world.claim("c", class_=class_, selectors=[{"cel": {"expression": expression}}])
    world.pod("p", "c")
    world.pod("other")
    kind, message = world.refusal("p")
    assert kind == "SchedulerError"
    assert reason in message
    world.wait_bound("other")


def test_a_claim_that_is_being_deleted_is_not_used(world: World) -> None:
    world.node("a", 1)
    world.device_class()
    world.claim("c")
    world.pod("first", "c")
    world.wait_bound("first")
    world.objects.delete(CLAIMS, world.objects.get(CLAIMS, "c", "default"))
    world.pod("second", "c")
    assert "is being deleted" in world.refusal("second")[1]


def test_pods_that_are_placed_deleted_or_done_are_left_alone(world: World) -> None:
    world.node("a", 1)
    world.pod("placed", nodeName="somewhere")
    world.pod("marker")
    world.wait_bound("marker")
    assert world.node_of("placed") == "somewhere"


def test_manifests_are_applied_in_a_namespace_of_choice(world: World) -> None:
    world.objects.create(NAMESPACES, {"metadata": {"name": "team"}})
    document: Body = {"kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    manifests.apply(world.objects, [document, document], "team")
    assert world.objects.get(PODS, "p", "team").metadata.namespace == "team"


def allocate_elsewhere(world: World, name: str, node: str) -> None:
    """Allocate a claim as another allocator does."""
    claim = world.objects.get(CLAIMS, name, "default")
    fields = [{"key": "metadata.name", "operator": "In", "values": [node]}]
    result: Body = {"request": "r", "driver": DRIVER, "pool": node, "device": "gpu-0"}
    allocation: Body = {
        "devices": {"results": [result]},
        "nodeSelector": {"nodeSelectorTerms": [{"matchFields": fields}]},
        "allocationTimestamp": "2026-01-01T00:00:00Z",
    }
    world.objects.change(CLAIMS, claim, {"status": {"allocation": allocation}}, "status")


def fence(world: World, name: str) -> None:
    """Taint all devices of a node, so that the scheduler allocates none."""
    found = world.objects.get(SLICES, f"slice-{name}")
    devices: list[Json] = [
        {"name": each.name, "taints": [{"key": "theirs", "effect": "NoSchedule"}]} for each in found.spec.devices
    ]
    world.objects.change(SLICES, found, {"spec": {"devices": devices}})


def test_a_claim_that_somebody_else_allocates_is_reserved_and_its_pod_bound_there(world: World) -> None:
    for name in ("a", "b"):
        world.node(name, 1)
        fence(world, name)
    world.device_class()
    world.claim("c")
    pod = world.pod("p", "c")
    assert world.refusal("p")[0] == "Unschedulable"
    allocate_elsewhere(world, "c", "b")
    assert world.wait_bound("p") == "b"
    assert world.objects.get(CLAIMS, "c", "default").is_reserved_for(pod.metadata.uid)


def test_an_allocation_that_keeps_the_pod_from_all_nodes_where_it_can_run_is_cleared(world: World) -> None:
    world.node("a", 1)
    world.node("b", 1, disk="ssd")
    for name in ("a", "b"):
        fence(world, name)
    world.device_class()
    world.claim("c")
    world.pod("p", "c", nodeSelector={"disk": "ssd"})
    world.refusal("p")
    allocate_elsewhere(world, "c", "a")
    wait_until(lambda: world.objects.get(CLAIMS, "c", "default").status.allocation is None, "the claim to be cleared")
    allocate_elsewhere(world, "c", "b")
    assert world.wait_bound("p") == "b"


def test_an_allocation_that_another_pod_uses_is_not_cleared(world: World) -> None:
    world.node("a", 1)
    world.node("b", 1, disk="ssd")
    world.device_class()
    world.claim("c")
    world.pod("first", "c", nodeSelector={"kubernetes.io/hostname": "none"})
    world.refusal("first")
    allocate_elsewhere(world, "c", "a")
    world.pod("user", "c")
    assert world.wait_bound("user") == "a"
    world.pod("second", "c", nodeSelector={"disk": "ssd"})
    world.refusal("second")
    assert world.objects.get(CLAIMS, "c", "default").status.allocation is not None
