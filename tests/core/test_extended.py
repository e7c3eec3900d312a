"""Extended resources of pods that wait, as the claim that kube-scheduler would make for them."""

from __future__ import annotations

import msgspec

from driver.core import extended
from driver.core.deciding import demands
from driver.core.deciding.world import World
from driver.model.objects import ObjectMeta
from driver.model.requests import ClassSpec, DeviceClass
from driver.model.workloads import (
    ExtendedClaim,
    PodContainer,
    ResourceRequirements,
    Workload,
    WorkloadSpec,
    WorkloadStatus,
)
from tests.fakes.controlled import make_node

GPU = "accel-dra.dev/gpu"
CLASSES = {"gpu": DeviceClass(metadata=ObjectMeta(name="gpu"), spec=ClassSpec(extended_resource_name=GPU))}
MAP = extended.map_resources(CLASSES.values())


def pod(*limits: dict[str, str | int | float], node: str = "") -> Workload:
    containers = tuple(PodContainer(name="c", resources=ResourceRequirements(limits=each)) for each in limits)
    meta = ObjectMeta(name="p", namespace="team", uid="uid-p")
    return Workload(metadata=meta, spec=WorkloadSpec(containers=containers, node_name=node))


def test_each_container_has_a_request_of_its_own() -> None:
    claim = extended.imagine_claim(pod({GPU: 2, "cpu": "1"}, {}, {"deviceclass.resource.kubernetes.io/gpu": "1"}), MAP)
    assert claim is not None
    found = [(each.name, each.exactly and each.exactly.count) for each in claim.spec.devices.requests]
    assert found == [("container-0-request-0", 2), ("container-2-request-0", 1)]
    assert (extended.is_imagined(claim), str(claim)) == (True, "team/<extended-resources>")


def test_pods_that_do_not_wait_for_such_a_claim_have_none() -> None:
    placed = pod({GPU: 1}, node="n")
    made = msgspec.structs.replace(
        pod({GPU: 1}), status=WorkloadStatus(extended_resource_claim_status=ExtendedClaim(resource_claim_name="x"))
    )
    done = msgspec.structs.replace(pod({GPU: 1}), status=WorkloadStatus(phase="Failed"))
    others = (pod({"cpu": "1"}), pod({"example.com/fpga": 1}), pod({GPU: 0}), pod({GPU: "many"}))
    for each in (placed, made, done, *others):
        assert extended.imagine_claim(each, MAP) is None


def test_what_a_device_plugin_serves_is_no_claim() -> None:
    nodes = {"n": make_node("n", allocatable={GPU: "8"})}
    world = World({}, {"team/p": pod({GPU: 1})}, nodes, CLASSES)
    assert list(demands.imagine_claims(world)) == []
    ((claim, waiting),) = demands.imagine_claims(World({}, world.pods, {"n": make_node("n")}, CLASSES))
    assert (claim.metadata.namespace, waiting.metadata.name) == ("team", "p")
