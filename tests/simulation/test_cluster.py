"""The whole path on the embedded cluster: a claim becomes a device in a container and nothing else does."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from driver.kube import access
from driver.kube.client import Client
from driver.model.errors import Forbidden, Rejected, Unavailable
from driver.simulation.access import CLAIMS, PODS, SLICES, Body, Objects
from driver.simulation.cluster import Cluster
from driver.simulation.nodes import NodeSpec
from tests.simulation.conftest import GPU, Start

MESH = NodeSpec(name="node-1", hardware="a100-mesh")


def _children() -> set[int]:
    """Return the PIDs of this process's children."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            found.add(int(path.parent.name))
    return found


def _count_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_claimed_device_is_in_the_container_and_the_claim_goes_with_the_pod(start: Start) -> None:
    e2e = start()
    e2e.template("one")
    e2e.pod("p", "one")
    pod = e2e.cluster.wait_running("p")
    contents = e2e.container(pod).contents
    assert len(contents.device_nodes) == 1
    assert contents.device_nodes[0].is_usable_by(1000, ())
    claim = e2e.claim_of(pod)
    assert claim.metadata.finalizers == ("resource.kubernetes.io/delete-protection",)
    assert claim.is_reserved_for(pod.metadata.uid)
    assert e2e.cdi_files("node-1")
    e2e.cluster.delete_pod("p")
    e2e.cluster.wait(lambda: not e2e.claims(), "the claim to be removed")
    assert e2e.cdi_files("node-1") == []


def test_an_unclaimed_pod_sees_nothing(start: Start) -> None:
    e2e = start()
    e2e.template("one")
    e2e.pod("with", "one")
    e2e.pod("without")
    e2e.cluster.wait_running("with")
    contents = e2e.container(e2e.cluster.wait_running("without")).contents
    assert (contents.env, contents.device_nodes, contents.mounts, contents.hooks) == ({}, (), (), ())


def test_a_claim_that_no_container_references_is_prepared_and_injects_nothing(start: Start) -> None:
    e2e = start()
    e2e.template("one")
    e2e.pod("p", "one", containers=[{"name": "main"}])
    pod = e2e.cluster.wait_running("p")
    assert e2e.cdi_files("node-1")
    assert e2e.container(pod).contents.device_nodes == ()


def test_the_conformance_scenario_of_secure_accelerator_access(start: Start) -> None:
    """test/ai_conformance_test.go of kubernetes-sigs/ai-conformance: positive, negative, two containers, cleanup."""
    e2e = start()
    namespace = "ai-conformance-x1y2z"
    e2e.cluster.create_namespace(namespace)
    slices = e2e.cluster.slices("node-1")
    assert slices
    assert all(each.spec.node_name for each in slices), "the suite dereferences spec.nodeName of every slice"
    request: Body = {"name": "single-accelerator", "exactly": {"deviceClassName": GPU, "count": 1}}
    e2e.template("accelerator-claim-template", request, namespace=namespace)
    claims: Body = {"resources": {"claims": [{"name": "gpu"}]}}
    e2e.pod("pos-pod", "accelerator-claim-template", namespace=namespace)
    e2e.pod("neg-pod", namespace=namespace)
    e2e.pod(
        "multi-container-pod",
        "accelerator-claim-template",
        containers=[{"name": "authorized", **claims}, {"name": "unauthorized"}],
        namespace=namespace,
    )
    found = {
        (pod, container): bool(e2e.container(e2e.cluster.wait_running(pod, namespace), container).contents.device_nodes)
        for pod, container in (
            ("pos-pod", "main"),
            ("neg-pod", "main"),
            ("multi-container-pod", "authorized"),
            ("multi-container-pod", "unauthorized"),
        )
    }
    assert [container for container, has_device in found.items() if has_device] == [
        ("pos-pod", "main"),
        ("multi-container-pod", "authorized"),
    ]
    e2e.cluster.delete_namespace(namespace)


def test_a_deleted_namespace_takes_pods_and_claims_with_it(start: Start) -> None:
    e2e = start()
    e2e.cluster.create_namespace("team")
    e2e.template("one", namespace="team")
    for name in ("a", "b"):
        e2e.pod(name, "one", namespace="team")
        e2e.cluster.wait_running(name, "team")
    e2e.cluster.delete_namespace("team")
    e2e.cluster.wait(lambda: not e2e.cdi_files("node-1"), "the claims to be unprepared")
    e2e.template("four", {"name": "gpu", "count": 4})
    e2e.pod("p", "four")
    e2e.cluster.wait_running("p")


def test_pods_wait_for_devices_and_get_them_when_others_end(start: Start) -> None:
    e2e = start()
    e2e.template("three", {"name": "gpu", "count": 3})
    e2e.pod("first", "three")
    e2e.cluster.wait_running("first")
    e2e.pod("second", "three")
    e2e.cluster.wait(lambda: e2e.messages("FailedScheduling"), "the second pod to be refused")
    message = e2e.messages("FailedScheduling")[0]
    assert "no node can give request gpu 3 devices: 1 node: 1 of 4 free, held by default/first" in message
    e2e.cluster.delete_pod("first")
    e2e.cluster.wait_running("second")


def test_a_new_node_helps_a_pod_that_waits(start: Start) -> None:
    e2e = start()
    e2e.template("eight", {"name": "gpu", "count": 8})
    e2e.pod("p", "eight")
    e2e.cluster.wait(lambda: e2e.messages("FailedScheduling"), "the pod to be refused")
    e2e.cluster.add_node(NodeSpec(name="node-2", hardware="hgx-h100"))
    assert e2e.cluster.wait_running("p").spec.node_name == "node-2"


def test_two_pods_share_a_claim_of_its_own_that_outlives_them(start: Start) -> None:
    e2e = start()
    e2e.claim("shared")
    for name in ("a", "b"):
        e2e.pod(name, claim="shared")
        e2e.cluster.wait_running(name)
    claim = e2e.cluster.objects.get(CLAIMS, "shared", "default")
    assert len(claim.status.reserved_for) == 2
    e2e.cluster.delete_pod("a")
    assert e2e.cdi_files("node-1"), "the other pod still uses it"
    e2e.cluster.delete_pod("b")

    def is_free() -> bool:
        now = e2e.cluster.objects.get(CLAIMS, "shared", "default")
        return now.status.allocation is None and not now.metadata.finalizers

    e2e.cluster.wait(is_free, "the claim to be deallocated")
    assert e2e.cdi_files("node-1") == []
    e2e.pod("c", claim="shared")
    e2e.cluster.wait_running("c")


def test_a_finished_pod_frees_its_devices_though_it_stays(start: Start) -> None:
    e2e = start()
    e2e.template("four", {"name": "gpu", "count": 4})
    e2e.pod("job", "four", restartPolicy="Never")
    pod = e2e.cluster.wait_running("job")
    e2e.cluster.nodes["node-1"].runtime.finish(pod.metadata.uid, 0)
    e2e.cluster.nodes["node-1"].kubelet.sync_soon()
    e2e.cluster.wait(lambda: e2e.cluster.pod("job").status.phase == "Succeeded", "the job to succeed")
    e2e.pod("next", "four", restartPolicy="Never")
    e2e.cluster.wait_running("next")


def test_peer_defect_11_a_claim_with_devices_of_two_drivers(start: Start) -> None:
    other = "other.accel-dra.dev"
    e2e = start(NodeSpec(name="node-1", hardware="t4", drivers=(GPU, other)))
    requests: list[Body] = [
        {"name": name, "selectors": [{"cel": {"expression": f"device.driver == '{driver}'"}}]}
        for name, driver in (("one", GPU), ("two", other))
    ]
    e2e.template("both", *requests)
    e2e.pod("p", "both")
    pod = e2e.cluster.wait_running("p")
    claim = e2e.claim_of(pod)
    allocation = claim.status.allocation
    assert allocation is not None
    assert [each.driver for each in allocation.devices.results] == [GPU, other]
    devices = e2e.cluster.nodes["node-1"].kubelet.claims.devices(pod, pod.spec.containers[0])
    assert len({each.cdi_device_ids for each in devices}) == 2
    assert len([name for name in e2e.container(pod).contents.env if "GPU_0000" in name]) >= 1
    e2e.cluster.delete_pod("p")
    assert e2e.cdi_files("node-1") == []


def test_a_device_that_another_claim_holds_is_refused_with_the_holders_name(start: Start) -> None:
    """An outside writer allocates a device twice; the API server lets it, the plugin is the last line of defence."""
    e2e = start()
    e2e.template("one")
    e2e.pod("first", "one")
    first = e2e.claim_of(e2e.cluster.wait_running("first"))
    stolen = e2e.claim("stolen")
    e2e.pod("second", claim="stolen", nodeName="node-1")
    second = e2e.cluster.pod("second")
    pool, device = e2e.devices(first)[0]
    results: list[Body] = [{"request": "gpu", "driver": GPU, "pool": pool, "device": device}]
    status: Body = {"allocation": {"devices": {"results": results}}, "reservedFor": [second.reference]}
    e2e.cluster.objects.patch(CLAIMS, stolen, {"status": status}, "status")
    e2e.cluster.wait(
        lambda: any(str(first) in message for message in e2e.messages("FailedPrepareDynamicResources")),
        "a refusal that names the holder",
    )
    assert e2e.cluster.pod("second").status.phase == "Pending"
    e2e.cluster.delete_pod("first")
    e2e.cluster.wait_running("second")


def test_a_force_deleted_pod_leaves_nothing_behind(start: Start) -> None:
    e2e = start()
    e2e.template("one")
    e2e.pod("p", "one")
    pod = e2e.cluster.wait_running("p")
    e2e.cluster.objects.delete(PODS, pod, grace=0)
    e2e.cluster.wait(lambda: not e2e.cdi_files("node-1"), "the claim to be unprepared")
    e2e.cluster.wait(lambda: not e2e.claims(), "the claim to be removed")
    assert e2e.cluster.sandbox(pod) is None


def test_nothing_is_left_when_a_cluster_ends() -> None:
    threads, children, files = set(threading.enumerate()), _children(), _count_files()
    for _ in range(2):
        with Cluster([MESH]) as cluster:
            cluster.wait_ready()
            folder = cluster.folder
            assert _children() - children
        assert not folder.exists()
    assert {thread for thread in set(threading.enumerate()) - threads if not thread.daemon} == set()
    assert _children() == children
    assert _count_files() <= files + 8, "grpc keeps a few descriptors for its own threads"


def test_a_plugin_that_cannot_start_is_reported_with_its_own_words() -> None:
    with (
        Cluster([NodeSpec(name="node-1", hardware="no-such-node")]) as cluster,
        pytest.raises(Exception, match="no-such-node") as raised,
    ):
        cluster.wait_ready(10)
    assert not isinstance(raised.value, Unavailable), "it does not wait for what cannot come"


def test_a_plugin_has_the_rights_of_its_role_and_node_and_no_others(start: Start) -> None:
    e2e = start(MESH, NodeSpec(name="node-2", hardware="t4"))
    client = Client(access.load(str(e2e.cluster.folder / "0" / "kubeconfig"), {}))
    plugin = Objects(client)
    (other,) = e2e.cluster.slices("node-2")
    assert plugin.list_all(SLICES, fields="spec.nodeName=node-1")
    with pytest.raises(Rejected, match="may not write ResourceSlices of node node-2"):
        plugin.delete(SLICES, other)
    with pytest.raises(Forbidden):
        plugin.list_all(PODS, "default")
    with pytest.raises(Forbidden):
        plugin.list_all(CLAIMS, "default")
    client.close()
