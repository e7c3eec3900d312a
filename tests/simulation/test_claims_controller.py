"""Claims follow their pods: made, released and removed as kube-controller-manager does it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from driver.kube.access import Access
from driver.kube.client import Client
from driver.simulation.access import CLAIMS, EVENTS, PODS, TEMPLATES, Body, Json, Objects
from driver.simulation.apiserver import ApiServer
from driver.simulation.claims_controller import ClaimsController
from driver.simulation.objects import Pod
from driver.simulation.resources import DELETE_PROTECTION, Claim
from tests.fakes.waiting import wait_until

DRIVER = "gpu.example.com"


class World:
    """An API server with the controller, and no scheduler or kubelet: tests write what these would."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects

    def template(self, name: str = "t", **metadata: Json) -> None:
        spec: Body = {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}}
        body: Body = {"metadata": {"name": name}, "spec": {"metadata": metadata, "spec": spec}}
        self.objects.create(TEMPLATES, body, "default")

    def pod(self, name: str, template: str = "t", *, node: str = "node-1", namespace: str = "default") -> Pod:
        uses: list[Json] = [{"name": "gpu", "resourceClaimTemplateName": template}] if template else []
        spec: Body = {"containers": [{"name": "c", "image": "x"}], "resourceClaims": uses, "nodeName": node}
        return self.objects.create(PODS, {"metadata": {"name": name}, "spec": spec}, namespace)

    def claims(self, namespace: str = "default") -> list[Claim]:
        return self.objects.list_all(CLAIMS, namespace)

    def wait_claim(self) -> Claim:
        wait_until(self.claims, "a claim to be generated")
        return self.claims()[0]

    def allocate(self, claim: Claim, *pods: Pod) -> None:
        """Do what the scheduler does."""
        claim = self.objects.patch(CLAIMS, claim, {"metadata": {"finalizers": [DELETE_PROTECTION]}})
        results: list[Json] = [{"request": "r", "driver": DRIVER, "pool": "node-1", "device": "gpu-0"}]
        status: Body = {"allocation": {"devices": {"results": results}}, "reservedFor": [pod.reference for pod in pods]}
        self.objects.patch(CLAIMS, claim, {"status": status}, "status")

    def finish(self, pod: Pod, phase: str = "Succeeded") -> None:
        self.objects.patch(PODS, pod, {"status": {"phase": phase}}, "status")

    def remove(self, pod: Pod) -> None:
        self.objects.delete(PODS, pod, grace=0)

    def events(self) -> list[str]:
        return [each["message"] for each in json.loads(self.objects.client.get(EVENTS.path("default")))["items"]]


@pytest.fixture
def world() -> Iterator[World]:
    with ApiServer() as server:
        clients = [Client(Access(server=server.url)) for _ in range(2)]
        claims = ClaimsController(Objects(clients[0]), lambda: datetime.now(UTC))
        claims.start()
        yield World(Objects(clients[1]))
        claims.stop()
        for client in clients:
            client.close()


def test_a_claim_is_made_from_the_template_and_recorded_in_the_pod(world: World) -> None:
    world.template(labels={"from": "template"}, annotations={"note": "kept"})
    pod = world.pod("p")
    claim = world.wait_claim()
    assert claim.metadata.generate_name == "p-gpu-"
    assert claim.metadata.labels == {"from": "template"}
    assert claim.metadata.annotations == {"note": "kept", "resource.kubernetes.io/pod-claim-name": "gpu"}
    (owner,) = claim.metadata.owner_references
    assert (owner.kind, owner.name, owner.uid, owner.controller) == ("Pod", "p", pod.metadata.uid, True)
    assert claim.spec.devices.requests[0].name == "r"
    wait_until(lambda: world.objects.get(PODS, "p", "default").status.resource_claim_statuses)
    (status,) = world.objects.get(PODS, "p", "default").status.resource_claim_statuses
    assert (status.name, status.resource_claim_name) == ("gpu", claim.metadata.name)


def test_names_that_are_too_long_are_cut_in_proportion(world: World) -> None:
    world.template()
    world.pod("p" * 60)
    base = world.wait_claim().metadata.generate_name
    assert base == f"{'p' * 53}-gp-"
    assert len(world.wait_claim().metadata.name) <= 63


def test_one_claim_for_each_pod_and_never_two(world: World) -> None:
    world.template()
    pods = [world.pod(f"p{index}") for index in range(5)]
    wait_until(lambda: len(world.claims()) == len(pods))
    for pod in pods:
        world.objects.patch(PODS, pod, {"metadata": {"labels": {"touched": "yes"}}})
    wait_until(lambda: all(each.status.resource_claim_statuses for each in world.objects.list_all(PODS, "default")))
    assert len(world.claims()) == len(pods)


def test_a_missing_template_is_reported_and_found_later(world: World) -> None:
    world.pod("p", "late")
    wait_until(world.events)
    assert world.events() == [
        'PodResourceClaim gpu: resource claim template "late": resourceclaimtemplate.resource.k8s.io "late" not found'
    ]
    world.template("late")
    world.wait_claim()
    assert len(world.events()) == 1


def test_the_claim_of_a_removed_pod_is_freed_and_removed(world: World) -> None:
    world.template()
    pod = world.pod("p")
    world.allocate(world.wait_claim(), pod)
    world.remove(pod)
    wait_until(lambda: not world.claims(), "the claim to go with its pod")


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_the_claim_of_a_finished_pod_is_removed_though_the_pod_stays(world: World, phase: str) -> None:
    world.template()
    pod = world.pod("p")
    world.allocate(world.wait_claim(), pod)
    world.finish(pod, phase)
    wait_until(lambda: not world.claims(), "the claim to be removed")
    assert world.objects.get(PODS, "p", "default").status.resource_claim_statuses


def test_a_claim_of_its_own_is_freed_when_its_last_pod_ends_and_stays(world: World) -> None:
    spec: Body = {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}}
    claim = world.objects.create(CLAIMS, {"metadata": {"name": "own"}, "spec": spec}, "default")
    pods = [world.pod(name, "") for name in ("a", "b")]
    world.allocate(claim, *pods)
    world.remove(pods[0])
    wait_until(lambda: len(world.claims()[0].status.reserved_for) == 1)
    assert world.claims()[0].status.allocation is not None
    world.remove(pods[1])
    wait_until(lambda: world.claims()[0].status.allocation is None)
    wait_until(lambda: not world.claims()[0].metadata.finalizers)


def test_a_deleted_claim_waits_for_its_pod(world: World) -> None:
    spec: Body = {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}}
    claim = world.objects.create(CLAIMS, {"metadata": {"name": "own"}, "spec": spec}, "default")
    pod = world.pod("a", "")
    world.allocate(claim, pod)
    world.objects.delete(CLAIMS, claim)
    assert world.claims()[0].metadata.deletion_timestamp
    world.remove(pod)
    wait_until(lambda: not world.claims())


def test_a_deleted_claim_that_is_allocated_for_nobody_is_freed(world: World) -> None:
    spec: Body = {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}}
    claim = world.objects.create(CLAIMS, {"metadata": {"name": "own"}, "spec": spec}, "default")
    world.allocate(claim)
    assert world.claims()[0].status.allocation is not None
    world.objects.delete(CLAIMS, claim)
    wait_until(lambda: not world.claims())


def test_a_pod_of_the_same_name_does_not_inherit_a_claim(world: World) -> None:
    world.template()
    old = world.pod("p")
    first = world.wait_claim()
    world.allocate(first, old)
    world.remove(old)
    world.pod("p")
    wait_until(lambda: [each.metadata.uid for each in world.claims()] not in ([], [first.metadata.uid]))
    wait_until(lambda: first.metadata.uid not in {each.metadata.uid for each in world.claims()})
    assert len(world.claims()) == 1


def test_consumers_that_are_no_pods_are_left_alone(world: World) -> None:
    spec: Body = {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}}
    claim = world.objects.create(CLAIMS, {"metadata": {"name": "own"}, "spec": spec}, "default")
    pod = world.pod("a", "")
    world.allocate(claim, pod)
    now = world.claims()[0]
    other: Json = {"apiGroup": "example.com", "resource": "workloads", "name": "w", "uid": "u"}
    world.objects.patch(CLAIMS, now, {"status": {"reservedFor": [pod.reference, other]}}, "status")
    world.remove(pod)
    wait_until(lambda: len(world.claims()[0].status.reserved_for) == 1)
    assert world.claims()[0].status.reserved_for[0].resource == "workloads"
    assert world.claims()[0].status.allocation is not None
