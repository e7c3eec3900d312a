"""The answer about each claim: what it has, what it would get, what it waits for, and from whom."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from driver.core import answering
from driver.core.allocator import Snapshot
from driver.core.answering import Answer, State
from driver.core.deciding.stocks import DeviceStock
from driver.core.fencing import FENCE, Authority
from driver.model.claims import Allocation, AllocationResult, DeviceAllocation
from driver.model.objects import ObjectMeta
from driver.model.published import PublishedDevice, PublishedSlice, PublishedSpec
from driver.model.requests import CelSelector, ClaimSpec, DeviceClass, DeviceRequest, Request, Selector
from driver.model.slices import DeviceTaint, Pool
from driver.model.wanted import Claim
from driver.model.workloads import Workload
from tests.fakes.controlled import ask, make_claim, make_node, make_pod, make_world

CLASSES = {"gpu": DeviceClass(metadata=ObjectMeta(name="gpu"))}


def published(node: str, count: int, *taints: DeviceTaint) -> PublishedSlice:
    devices = tuple(PublishedDevice(name=f"gpu-{index}", taints=taints) for index in range(count))
    spec = PublishedSpec(
        driver="gpu.example.com", pool=Pool(name=node, resource_slice_count=1), node_name=node, devices=devices
    )
    return PublishedSlice(metadata=ObjectMeta(name=node), spec=spec)


def allocated(node: str, *devices: str) -> Allocation:
    results = tuple(
        AllocationResult(request="r", driver="gpu.example.com", pool=node, device=device) for device in devices
    )
    return Allocation(devices=DeviceAllocation(results=results))


OPEN = published("open", 2)
OURS = published("ours", 2, FENCE)


def answer(*objects: Claim | Workload, slices: tuple[PublishedSlice, ...] = (OPEN, OURS)) -> dict[str, Answer]:
    nodes = [make_node(each.spec.node_name) for each in slices]
    world = replace(make_world(*objects, *nodes), classes=CLASSES)
    snapshot = Snapshot(slices, CLASSES, tuple(world.claims.values()))
    cluster = answering.Cluster(world, snapshot, DeviceStock(slices, CLASSES))
    claims = list(world.claims.values())
    found = answering.answer(cluster, claims, ask)
    assert [each.claim for each in found] == claims
    return {each.claim.metadata.name: each for each in found}


def test_who_is_asked_answers_with_its_own_devices() -> None:
    found = answer(
        make_claim("mine"), make_pod("p", "mine"), make_claim("theirs", policy="none"), make_pod("q", "theirs")
    )
    assert (found["mine"].by, found["mine"].node) == (Authority.CONTROLLER, "ours")
    assert found["mine"].message == "would get r: gpu-0 of ours on node ours from the accel-dra controller (best fit)"
    assert (found["theirs"].by, found["theirs"].node) == (Authority.SCHEDULER, "open")
    assert found["theirs"].message.startswith("would get r: gpu-0 of open on node open from kube-scheduler (first fit")


def test_an_allocated_claim_says_what_it_has_and_who_uses_it() -> None:
    found = answer(
        make_claim("used", 3, allocation=allocated("open", "gpu-0", "gpu-1", "gpu-2"), reserved="p"),
        make_claim("idle", allocation=allocated("ours", "gpu-0")),
        make_pod("p", "used"),
    )
    assert found["used"].message == "has r: gpu-0, gpu-1 and gpu-2 of open; used by p"
    assert found["idle"].message == "has r: gpu-0 of ours; nobody uses it now"
    assert {each.state for each in found.values()} == {State.ALLOCATED}


def test_claims_of_one_pod_are_answered_together() -> None:
    wanted: list[Claim | Workload] = [
        make_claim("a", 2, policy="none"),
        make_claim("b", 1, policy="none"),
        make_pod("p", "a", "b"),
    ]
    assert {each.state for each in answer(*wanted).values()} == {State.WAITING}
    assert {each.state for each in answer(*wanted, slices=(published("open", 3),)).values()} == {
        State.WOULD_BE_ALLOCATED
    }


def test_kube_scheduler_may_serve_a_claim_for_which_our_controller_has_nothing() -> None:
    found = answer(make_claim("mine"), make_pod("p", "mine"), slices=(OPEN,))["mine"]
    assert (found.state, found.by) == (State.WOULD_BE_ALLOCATED, Authority.SCHEDULER)
    assert found.message.endswith("which does not look at its AllocationPolicy")


def test_what_waits_says_for_what() -> None:
    found = answer(
        make_claim("alone"),
        make_claim("lonely", policy="none"),
        make_claim("gated", policy="none"),
        make_pod("g", "gated", gated=True),
        make_claim("bad", policy="bad"),
        make_claim("big", 9, policy="none"),
        make_pod("b", "big"),
        make_claim("half", policy="none"),
        make_pod("h", "half", "gone"),
    )
    assert {each.state for each in found.values()} == {State.WAITING}
    expected = {
        "alone": ("WaitingForConsumer", "waiting for a pod that uses the claim"),
        "lonely": ("WaitingForConsumer", "waiting for a pod that uses the claim: kube-scheduler allocates it for one"),
        "gated": ("WaitingForConsumer", "waiting for pod g, which has scheduling gates: wait"),
        "bad": ("InvalidAllocationPolicy", "when: 'Never' is not allowed; allowed: FirstConsumer or Immediate"),
        "half": ("WaitingForConsumer", "waiting for pod h, which waits for claim gone"),
    }
    assert {name: (found[name].reason, found[name].message) for name in expected} == expected
    assert found["big"].reason == "NoSuitableDevices"


def test_a_selector_that_fails_is_told_with_the_one_that_works() -> None:
    failing = make_claim("c", policy="none")
    selector = Selector(cel=CelSelector(expression='device.attributes["example.com"].numa > 1'))
    asked = DeviceRequest(device_class_name="gpu", selectors=(selector,))
    devices = msgspec.structs.replace(failing.spec.devices, requests=(Request(name="r", exactly=asked),))
    failing = msgspec.structs.replace(failing, spec=ClaimSpec(devices=devices))
    message = answer(failing, make_pod("p", "c"))["c"].message
    assert "gpu.example.com/open/gpu-0 and 1 more have no attribute example.com/numa" in message
    assert 'this would work: `has(device.attributes["example.com"].numa) &&' in message


def test_a_group_that_lacks_a_member_waits() -> None:
    found = answer(make_claim("a", policy="group-2", group="g"), make_pod("p", "a"))["a"]
    assert found.reason == "WaitingForGroup"
