"""What is kept of the cluster: all that is read, and as little else as possible."""

from __future__ import annotations

from typing import TypeVar

import msgspec
import pytest

from driver.controller.caches import Caches, trim_claim, trim_node, trim_pod, trim_slice
from driver.core.deciding.loads import Load, add_up
from driver.kube import allocations
from driver.kube.access import Access
from driver.kube.client import Client
from driver.model.claims import DELETE_PROTECTION
from driver.model.errors import InvalidInput
from driver.model.objects import ObjectMeta, OwnerReference
from driver.model.published import Capacity, PublishedDevice, PublishedSlice, PublishedSpec
from driver.model.quantities import NANO
from driver.model.slices import Pool
from driver.model.workloads import (
    ClusterNode,
    NodeCondition,
    NodeStatus,
    PodToleration,
    Workload,
    WorkloadCondition,
    WorkloadStatus,
)
from driver.simulation.access import CLAIMS, NODES, PODS, Body
from tests.controller.site import SPACE, Site
from tests.fakes.controlled import make_claim, make_node, make_pod
from tests.fakes.installing import ADMIN
from tests.fakes.waiting import wait_until

NOISE: dict[str, dict[str, str]] = {"labels": {"app": "x"}, "annotations": {"note": "long" * 100}}


T = TypeVar("T", Workload, ClusterNode, PublishedSlice)


def with_noise(item: T) -> T:
    meta = msgspec.structs.replace(item.metadata, **NOISE)
    return msgspec.structs.replace(item, metadata=meta)


def test_a_pod_without_claims_is_its_node_and_what_it_asks_for() -> None:
    pod = with_noise(make_pod("p", node="n", requests={"cpu": "2"}, tolerations=(PodToleration(operator="Exists"),)))
    kept = trim_pod(pod)
    assert add_up(kept) == add_up(pod)
    assert (kept.spec.node_name, kept.metadata.uid) == ("n", "uid-p")
    assert (kept.metadata.labels, kept.metadata.annotations, kept.spec.tolerations) == ({}, {}, ())


def test_a_pod_that_is_done_or_placed_nowhere_and_asks_for_no_claim_is_next_to_nothing() -> None:
    for pod in (make_pod("p", requests={"cpu": "2"}), make_pod("p", "c", node="n", phase="Succeeded")):
        kept = trim_pod(pod)
        assert kept.spec.containers == ()
        assert kept.is_done == pod.is_done


def test_a_pod_that_waits_for_claims_keeps_what_decides_where_it_can_run() -> None:
    pod = with_noise(make_pod("p", "c", priority=3, node_selector={"a": "b"}, requests={"cpu": "2"}))
    kept = trim_pod(pod)
    assert kept.spec == pod.spec
    assert kept.metadata.annotations == {}


def test_a_placed_pod_with_claims_keeps_the_claims() -> None:
    kept = trim_pod(make_pod("p", "c", node="n", priority=3, requests={"cpu": "2"}, node_selector={"a": "b"}))
    assert [each.resource_claim_name for each in kept.spec.resource_claims] == ["c"]
    assert (kept.spec.priority, kept.spec.node_selector) == (3, {})
    assert add_up(kept) == {"cpu": 2 * NANO}


def test_of_conditions_only_those_that_are_read_are_kept() -> None:
    conditions = tuple(WorkloadCondition(type=each, status="True") for each in ("Ready", "PodScheduled"))
    pod = msgspec.structs.replace(make_pod("p", "c"), status=WorkloadStatus(conditions=conditions))
    assert [each.type for each in trim_pod(pod).status.conditions] == ["PodScheduled"]
    own = tuple(NodeCondition(type=each, status="True") for each in ("Ready", "DiskPressure"))
    node = msgspec.structs.replace(make_node("n"), status=NodeStatus(conditions=own))
    assert [each.type for each in trim_node(node).status.conditions] == ["Ready"]


def test_nodes_keep_their_labels_and_slices_none() -> None:
    assert trim_node(with_noise(make_node("n"))).metadata.labels == {"app": "x"}
    spec = PublishedSpec(driver="d", pool=Pool(name="p", generation=1, resource_slice_count=1))
    kept = trim_slice(with_noise(PublishedSlice(metadata=ObjectMeta(name="s"), spec=spec)))
    assert (kept.metadata.labels, kept.spec) == ({}, spec)


def test_claims_keep_what_is_written_back() -> None:
    claim = make_claim("c", group="g", owner="p")
    meta = msgspec.structs.replace(claim.metadata, finalizers=("other", DELETE_PROTECTION), annotations={"a": "b"})
    kept = trim_claim(msgspec.structs.replace(claim, metadata=meta))
    assert kept.metadata.finalizers == ("other", DELETE_PROTECTION)
    assert kept.metadata.owner_references == (
        OwnerReference(api_version="v1", kind="Pod", name="p", uid="uid-p", controller=True),
    )
    assert kept.metadata.annotations == {}


@pytest.fixture
def caches(site: Site) -> Caches:
    client = Client(Access(server=site.server.url, token="admin-token"))
    caches = Caches(client, lambda _: None, lambda _: None)
    site.stack.callback(client.close)
    site.stack.callback(caches.stop)
    return caches


def test_the_world_follows_the_cluster(site: Site, caches: Caches) -> None:
    site.machine("a")
    caches.start()
    assert "claims" not in caches.missing
    caches.open_claims()
    wait_until(lambda: not caches.missing)
    version = caches.devices_version
    site.workload("c")
    container: Body = {"name": "main", "image": "x", "resources": {"requests": {"cpu": "3"}}}
    site.objects.create(
        PODS, {"metadata": {"name": "plain"}, "spec": {"containers": [container], "nodeName": "a"}}, SPACE
    )
    wait_until(lambda: len(caches.world().claims) == 1 and caches.world().loads)
    world = caches.world()
    assert list(world.pods) == [f"{SPACE}/c"]
    assert world.loads == {"a": Load({"cpu": 3 * NANO}, 1)}
    assert list(world.nodes) == ["a"]
    assert "topology.accel-dra.dev" in world.classes
    assert {each.spec.node_name for each in caches.slices()} == {"a"}
    assert (caches.sizes.claims, caches.sizes.pods, caches.devices_version) == (1, 2, version)
    site.machine("b")
    site.delete_pod("plain")
    site.objects.delete(CLAIMS, site.objects.get(CLAIMS, "c", SPACE))
    wait_until(lambda: caches.devices_version > version and not caches.world().loads and not caches.world().claims)
    site.objects.delete(NODES, site.objects.get(NODES, "b"))
    wait_until(lambda: list(caches.world().nodes) == ["a"])


def test_claims_are_forgotten_with_the_term(site: Site, caches: Caches) -> None:
    site.claim("c")
    caches.start()
    caches.open_claims()
    wait_until(lambda: not caches.missing)
    assert caches.sizes.claims == 1
    caches.close_claims()
    assert caches.world().claims == {}
    assert caches.sizes.claims == 0


def test_what_changes_nothing_that_is_read_wakes_nobody(site: Site) -> None:
    site.machine("a")
    site.pod("p")
    woken: list[bool] = []
    client = Client(Access(server=site.server.url, token=ADMIN))
    caches = Caches(client, woken.append, lambda _: None)
    try:
        caches.start()
        wait_until(lambda: not caches.missing, "everything to be read")
        woken.clear()
        beat: Body = {"metadata": {"annotations": {"heartbeat": "now"}}}
        site.objects.patch(PODS, site.objects.get(PODS, "p", SPACE), beat)
        site.objects.patch(NODES, site.objects.get(NODES, "a"), beat)
        site.objects.patch(NODES, site.objects.get(NODES, "a"), {"metadata": {"labels": {"new": "label"}}})
        wait_until(lambda: caches.world().nodes["a"].metadata.labels.get("new") == "label", "the label")
        assert woken == [False]
    finally:
        caches.stop()
        client.close()


def test_a_claim_whose_spec_cannot_be_read_still_holds_its_devices() -> None:
    raw = {
        "metadata": {"name": "c", "namespace": "team", "uid": "u", "finalizers": [DELETE_PROTECTION]},
        "spec": {"devices": {"requests": "of a later version"}},
        "status": {
            "allocation": {"devices": {"results": [{"request": "r", "driver": "d", "pool": "p", "device": "x"}]}}
        },
    }
    claim = allocations.salvage(msgspec.Raw(msgspec.json.encode(raw)))
    assert claim is not None
    assert claim.status.allocation is not None
    assert [each.device for each in claim.status.allocation.devices.results] == ["x"]
    assert claim.metadata.finalizers == (DELETE_PROTECTION,)
    assert allocations.salvage(msgspec.Raw(b'{"metadata": 7}')) is None


def test_a_slice_that_nobody_could_use_is_left_out() -> None:
    pool = Pool(name="p", generation=1, resource_slice_count=1)
    broken = PublishedDevice(name="gpu-0", capacity={"memory": Capacity(value="much")})
    spec = PublishedSpec(driver="d", pool=pool, devices=(broken,))
    with pytest.raises(InvalidInput, match="ResourceSlice s: device gpu-0: capacity memory: 'much'"):
        trim_slice(PublishedSlice(metadata=ObjectMeta(name="s"), spec=spec))
