"""Shares on the embedded cluster, the whole path: allocated, limited, told, released."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from driver.model.claims import AllocationResult
from driver.model.vocabulary import INDEX, SHARING
from driver.simulation.access import PODS, Body, Json
from driver.simulation.cluster import Cluster
from driver.simulation.kubelet.kubelets import Options
from driver.simulation.kubelet.wire import V1BETA1
from driver.simulation.nodes import NodeSpec
from driver.simulation.objects import Pod
from tests.simulation.conftest import E2E, FAST, GPU, Start

MPS = NodeSpec(name="node-1", hardware="l40s", settings={"shares": "MPS"})
TURNS = NodeSpec(name="node-1", hardware="l40s", settings={"shares": "TimeSlicing"})
ENFORCED = "ACCEL_DRA_SHARE_ENFORCED"
THREADS = "SIMULATED_MPS_ACTIVE_THREAD_PERCENTAGE"
PIPE = "SIMULATED_MPS_PIPE_DIRECTORY"
MEMORY = "SIMULATED_MPS_PINNED_DEVICE_MEM_LIMIT"


def ask(memory: str, share: int, name: str = "gpu", **fields: Json) -> Body:
    requests = {"accel-dra.dev/memory": memory, "accel-dra.dev/share": str(share)}
    return {"name": name, "deviceClassName": "shared.accel-dra.dev", "capacity": {"requests": requests}, **fields}


def run(e2e: E2E, name: str, template: str) -> Pod:
    """Create a pod and wait until it runs: the next one then finds what is left."""
    e2e.pod(name, template)
    return e2e.cluster.wait_running(name)


def results(e2e: E2E, pod: Pod) -> list[AllocationResult]:
    allocation = e2e.claim_of(pod).status.allocation
    assert allocation is not None
    return list(allocation.devices.results)


def environment(e2e: E2E, pod: Pod, name: str = "main") -> dict[str, str]:
    return dict(e2e.container(pod, name).contents.env)


def checkpoint(e2e: E2E) -> str:
    node = e2e.cluster.nodes["node-1"]
    return "".join(path.read_text() for path in node.folders.root.glob("dra_manager_state*"))


def test_claims_share_a_device_within_their_limits_until_it_is_full(start: Start) -> None:
    e2e = start(MPS)
    e2e.template("half", ask("20Gi", 50))
    first, second, third = (run(e2e, name, "half") for name in ("a", "b", "c"))
    given = [results(e2e, pod)[0] for pod in (first, second, third)]
    assert given[0].device == given[1].device != given[2].device
    assert len({each.share_id for each in given}) == 3
    assert given[0].consumed_capacity["accel-dra.dev/memory"] == "20Gi"
    found = environment(e2e, first)
    assert (found[ENFORCED], found[THREADS], found[MEMORY]) == ("true", "50", "0=20480M")
    assert environment(e2e, second)[PIPE] == found[PIPE]
    assert all(str(each.share_id) in checkpoint(e2e) for each in given), "as the kubelet was told"


def test_who_does_not_fit_waits_and_runs_when_there_is_room(start: Start) -> None:
    e2e = start(MPS)
    index = 'device.attributes["accel-dra.dev"].index == 0'
    only: Json = [{"cel": {"expression": index}}]
    e2e.template("most", ask("30Gi", 60, selectors=only))
    e2e.template("whole", {"name": "gpu", "deviceClassName": GPU, "selectors": only})
    e2e.pod("a", "most")
    e2e.cluster.wait_running("a")
    e2e.pod("b", "most")
    e2e.pod("c", "whole")
    waits = e2e.cluster.wait(lambda: e2e.cluster.pod("b").condition("PodScheduled"), "a reason")
    assert waits.status == "False"
    assert "accel-dra.dev/memory" in waits.message
    e2e.cluster.delete_pod("a")
    e2e.cluster.wait_running("b")
    assert e2e.cluster.pod("c").status.phase != "Running"
    e2e.cluster.delete_pod("b")
    alone = e2e.cluster.wait_running("c")
    assert results(e2e, alone)[0].consumed_capacity["accel-dra.dev/share"] == "100"
    assert not {ENFORCED, THREADS, PIPE} & set(environment(e2e, alone)), "it is not limited, and needs no daemon"
    e2e.cluster.delete_pod("c")
    e2e.cluster.wait(lambda: not e2e.claims(), "the claims to be removed")
    assert e2e.cdi_files("node-1") == []


def test_two_shares_of_one_device_in_one_container_do_not_contradict_each_other(start: Start) -> None:
    e2e = start(MPS)
    together: Body = {"requests": ["a", "b"], "matchAttribute": "accel-dra.dev/uuid"}
    e2e.template("two", ask("10Gi", 20, "a"), ask("10Gi", 20, "b"), constraints=[together])
    containers: list[Body] = [
        {"name": "both", "resources": {"claims": [{"name": "gpu"}]}},
        {"name": "first", "resources": {"claims": [{"name": "gpu", "request": "a"}]}},
        {"name": "second", "resources": {"claims": [{"name": "gpu", "request": "b"}]}},
    ]
    e2e.pod("p", "two", containers=containers)
    pod = e2e.cluster.wait_running("p")
    first, second = results(e2e, pod)
    assert first.device == second.device
    assert first.share_id != second.share_id
    found = {name: environment(e2e, pod, name) for name in ("both", "first", "second")}
    assert found["first"] == found["second"] == found["both"]
    assert len(e2e.container(pod, "both").contents.device_nodes) == 1
    prepared = e2e.cluster.nodes["node-1"].kubelet.claims.devices(pod, pod.spec.containers[0])
    assert [each.share_id for each in prepared] == [first.share_id, second.share_id]
    assert len({each.cdi_device_ids[0] for each in prepared}) == 2


def test_turns_are_not_enforced_and_everyone_is_told(start: Start) -> None:
    e2e = start(TURNS)
    e2e.template("half", ask("20Gi", 50))
    e2e.pod("a", "half")
    pod = e2e.cluster.wait_running("a")
    found = environment(e2e, pod)
    assert found[ENFORCED] == "false"
    assert not {THREADS, PIPE} & set(found)
    (told,) = e2e.cluster.wait(lambda: e2e.messages("ShareNotEnforced"), "an Event on the claim")
    assert told.startswith(f"{results(e2e, pod)[0].device}: this share of the device is not enforced")
    told_inside = describe(e2e, pod)
    assert told_inside["accel-dra.dev/shareEnforced"] == {"bool": False}
    assert told_inside["accel-dra.dev/sharePercent"] == {"int": 50}


def test_peer_defect_09_a_kubelet_without_share_ids_still_tells_shares_apart_by_their_cdi_devices() -> None:
    old = dataclasses.replace(FAST, kubelet=Options(timings=FAST.kubelet.timings, services=(V1BETA1,)))
    with Cluster([MPS], old) as cluster:
        cluster.wait_ready()
        e2e = E2E(cluster)
        e2e.template("small", ask("10Gi", 20))
        e2e.template("large", ask("20Gi", 40))
        e2e.pod("small", "small")
        e2e.pod("large", "large")
        small, large = (e2e.cluster.wait_running(name) for name in ("small", "large"))
        assert results(e2e, small)[0].device == results(e2e, large)[0].device
        assert (environment(e2e, small)[THREADS], environment(e2e, large)[THREADS]) == ("20", "40")
        prepared = cluster.nodes["node-1"].kubelet.claims.devices(small, small.spec.containers[0])
        assert [each.share_id for each in prepared] == [None]
        assert str(results(e2e, small)[0].share_id) in prepared[0].cdi_device_ids[0]


def test_extended_resources_get_a_shared_device_alone(start: Start) -> None:
    e2e = start(MPS)
    limits = {"accel-dra.dev/gpu": "1"}
    e2e.pod("p", containers=[{"name": "main", "resources": {"limits": limits, "requests": limits}}])
    pod = e2e.cluster.wait_running("p")
    assert e2e.cluster.objects.get(PODS, "p", "default").status.phase == "Running"
    (claim,) = e2e.claims()
    allocation = claim.status.allocation
    assert allocation is not None
    assert allocation.devices.results[0].consumed_capacity["accel-dra.dev/share"] == "100"
    assert ENFORCED not in environment(e2e, pod)


def test_the_setting_changes_for_a_device_when_its_last_share_is_released(start: Start) -> None:
    e2e = start(MPS)
    e2e.template("half", ask("20Gi", 50))
    e2e.pod("a", "half")
    first = results(e2e, e2e.cluster.wait_running("a"))[0]
    node = e2e.cluster.nodes["node-1"]
    assert node.stop_plugin(GPU) == 0
    node.start_plugin(GPU, settings={"shares": "off"})
    e2e.cluster.wait(lambda: set(strategies(e2e).values()) == {"MPS", ""}, "the others to change")
    assert strategies(e2e)[first.device] == "MPS"
    e2e.pod("b", "half")
    second = e2e.cluster.wait_running("b")
    assert results(e2e, second)[0].device == first.device
    assert environment(e2e, second)[THREADS] == "50", "it is shared as it was"
    e2e.cluster.delete_pod("a")
    assert strategies(e2e)[first.device] == "MPS"
    e2e.cluster.delete_pod("b")
    e2e.cluster.wait(lambda: strategies(e2e)[first.device] == "", "the device to follow")


def strategies(e2e: E2E) -> dict[str, str]:
    """Return how each device is published, by name."""
    return {
        device.name: attribute.string or "" if (attribute := device.attributes.get(SHARING)) else ""
        for each in e2e.cluster.slices("node-1")
        for device in each.spec.devices
    }


def test_our_controller_packs_shares_too() -> None:
    fenced = dataclasses.replace(MPS, settings={"shares": "MPS", "allocation-authority": "controller"})
    with Cluster([fenced], dataclasses.replace(FAST, controllers=1)) as cluster:
        cluster.wait_ready()
        e2e = E2E(cluster)
        e2e.template("third", {**ask("14Gi", 33), "deviceClassName": "topology.accel-dra.dev"})
        for name in ("a", "b", "c", "d"):
            e2e.pod(name, "third")
        given = [results(e2e, cluster.wait_running(name))[0] for name in ("a", "b", "c", "d")]
        devices = [each.device for each in given]
        assert sorted(devices.count(device) for device in set(devices)) == [1, 3]
        assert len({each.share_id for each in given}) == 4


def test_two_claims_share_a_partition_that_is_made_once_and_removed_with_the_last(start: Start) -> None:
    node = NodeSpec(name="node-1", hardware="hgx-h100", settings={"shares": "MPS", "partitions": "dynamic"})
    e2e = start(node)
    profile: Json = [{"cel": {"expression": 'device.attributes["accel-dra.dev"].?profile.orValue("") == "3g.40gb"'}}]
    e2e.template("half", ask("15Gi", 50, selectors=profile))
    pods = [run(e2e, name, "half") for name in ("a", "b", "c")]
    devices = [results(e2e, pod)[0].device for pod in pods]
    assert devices[0] == devices[1] != devices[2]
    uuids = [describe(e2e, pod)["accel-dra.dev/uuid"] for pod in pods]
    assert uuids[0] == uuids[1] != uuids[2]
    assert {environment(e2e, pod)[THREADS] for pod in pods} == {"50"}
    e2e.cluster.delete_pod("a")
    assert describe(e2e, pods[1])["accel-dra.dev/uuid"] == uuids[1], "the other one still has it"
    for name in ("b", "c"):
        e2e.cluster.delete_pod(name)
    (gpu,) = [each for each in strategies(e2e) if devices[0].startswith(f"{each}-")]
    only: Json = [{"cel": {"expression": f'device.attributes["accel-dra.dev"].index == {index_of(e2e, gpu)}'}}]
    e2e.template("whole", {"name": "gpu", "deviceClassName": GPU, "selectors": only})
    e2e.pod("d", "whole")
    assert results(e2e, e2e.cluster.wait_running("d"))[0].device == gpu, "nothing is left of its partitions"


def describe(e2e: E2E, pod: Pod) -> dict[str, object]:
    """Return the attributes of a pod's device as its container reads them."""
    (mount,) = [each for each in e2e.container(pod).contents.mounts if "metadata" in each.container_path]
    (device,) = json.loads(Path(mount.host_path).read_text())["requests"][0]["devices"]
    return dict(device["attributes"])


def index_of(e2e: E2E, name: str) -> int | None:
    """Return the index of a device."""
    devices = [device for each in e2e.cluster.slices("node-1") for device in each.spec.devices]
    return next(device.attributes[INDEX].int_ for device in devices if device.name == name)
