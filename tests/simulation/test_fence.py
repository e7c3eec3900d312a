"""The fence on the embedded cluster: kube-scheduler keeps off, and serves what another one has allocated."""

from __future__ import annotations

from typing import Final

import pytest

from driver.core import fencing
from driver.core.fencing import Authority
from driver.simulation.access import CLAIMS, CLASSES, Body, Json
from driver.simulation.nodes import NodeSpec
from driver.simulation.resources import Claim
from tests.simulation.conftest import E2E, GPU, Start

FENCED: Final = NodeSpec(name="fenced", hardware="t4", settings={"allocation-authority": "controller"})
NICS: Final = NodeSpec(
    name="node-1",
    hardware="t4",
    drivers=(GPU, "nic.accel-dra.dev"),
    other_hardware={"nic.accel-dra.dev": "hgx-h100-nics"},
)


def allocate(e2e: E2E, claim: Claim, node: str, device: str) -> None:
    """Do what another allocator does: protect the claim, then say what it has."""
    finalizers: Body = {"metadata": {"finalizers": ["resource.kubernetes.io/delete-protection"]}}
    objects = e2e.cluster.objects
    protected = objects.patch(CLAIMS, claim, finalizers)
    result: Body = {"request": "gpu", "driver": GPU, "pool": node, "device": device}
    term: Json = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    allocation: Body = {
        "devices": {"results": [result]},
        "nodeSelector": {"nodeSelectorTerms": [term]},
        "allocationTimestamp": "2026-01-02T03:04:05Z",
    }
    objects.patch(CLAIMS, protected, {"status": {"allocation": allocation}}, "status")


def test_kube_scheduler_leaves_fenced_devices_and_binds_a_pod_whose_claim_another_one_allocated(start: Start) -> None:
    e2e = start(FENCED)
    devices = [device for each in e2e.cluster.slices("fenced") for device in each.spec.devices]
    assert fencing.read_authority(devices) is Authority.CONTROLLER
    claim = e2e.claim("mine")
    e2e.pod("p", claim="mine")

    def refused() -> bool:
        condition = e2e.cluster.pod("p").condition("PodScheduled")
        return condition is not None and "only accel-dra's controller allocates these devices" in condition.message

    e2e.cluster.wait(refused, "kube-scheduler to refuse")
    allocate(e2e, claim, "fenced", devices[1].name)
    pod = e2e.cluster.wait_running("p")
    assert e2e.devices(e2e.claim_of(pod)) == [("fenced", devices[1].name)]
    assert len(e2e.container(pod).contents.device_nodes) == 1
    e2e.cluster.delete_pod("p")
    e2e.cluster.wait(lambda: not e2e.devices(e2e.claims()[0]), "the claim to be free again")


def test_kube_scheduler_takes_the_devices_that_are_not_fenced(start: Start) -> None:
    e2e = start(FENCED, NodeSpec(name="open", hardware="t4"))
    e2e.template("one")
    for name in ("p", "q"):
        e2e.pod(name, "one")
        assert e2e.cluster.wait_running(name).spec.node_name == "open"


@pytest.mark.parametrize("toleration", [{"operator": "Exists"}, {"key": fencing.FENCE.key, "operator": "Exists"}])
def test_a_claim_that_tolerates_the_fence_passes_it(start: Start, toleration: Json) -> None:
    """Nothing can forbid that to kube-scheduler, hence docs/operations.md warns of it."""
    e2e = start(FENCED)
    e2e.template("bold", {"name": "gpu", "tolerations": [toleration]})
    e2e.pod("p", "bold")
    assert e2e.cluster.wait_running("p").spec.node_name == "fenced"


def test_two_drivers_of_one_node_serve_one_claim(start: Start) -> None:
    e2e = start(NICS)
    nic: Json = {"cel": {"expression": 'device.driver == "nic.accel-dra.dev"'}}
    e2e.cluster.objects.create(CLASSES, {"metadata": {"name": "nic"}, "spec": {"selectors": [nic]}})
    e2e.template("both", {"name": "gpu"}, {"name": "nic", "exactly": {"deviceClassName": "nic"}})
    e2e.pod("p", "both")
    pod = e2e.cluster.wait_running("p")
    paths = sorted(node.path for node in e2e.container(pod).contents.device_nodes)
    assert paths == ["/dev/simulated-gpu0", "/dev/simulated-nic0"]
