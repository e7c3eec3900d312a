"""The index over all nodes: the best of them is found, and it stays right whatever changes."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from driver.core.allocator import Allocated, InvalidClaim, NodeView
from driver.core.allocator.choosing import allocate_best
from driver.core.allocator.cluster import Choice, Cluster, Wish
from driver.core.allocator.scopes import Scope
from driver.core.fencing import FENCE
from driver.model.claims import Allocation, AllocationResult, ClaimStatus
from driver.model.policies import Policy, Spreading
from driver.model.published import PublishedDevice, PublishedSlice
from driver.model.requests import DeviceRequest, Request
from driver.model.wanted import Claim
from tests.fakes.clusters import ask, make_claim
from tests.fakes.neighbourhoods import CLASSES, GPUS, NICS, make_gpu, make_partitions, publish

POLICY = Policy()
NODES = ("node-a", "node-b", "node-c")


def make_cluster(nodes: dict[str, Sequence[PublishedDevice]], broken: Sequence[str] = ()) -> Cluster:
    cluster = Cluster(CLASSES)
    slices = [each for node, devices in nodes.items() for each in publish(GPUS, devices, node=node, broken=broken)]
    cluster.put_slices(slices)
    for node in nodes:
        cluster.put_node(NodeView(node))
    return cluster


def gpus(count: int, **facts: str | int) -> list[PublishedDevice]:
    return [make_gpu(f"gpu-{index}", **facts) for index in range(count)]  # type: ignore[arg-type]


def place(cluster: Cluster, claim: Claim, **wish: object) -> Choice:
    choice = cluster.choose(Wish((claim,), (POLICY,), **wish))  # type: ignore[arg-type]
    assert choice is not None
    cluster.take(claim, choice.allocated.allocations[0])
    return choice


def names(choice: Choice | None) -> list[str]:
    assert choice is not None
    return [each.device for one in choice.allocated.allocations for each in one.devices.results]


def want(number: int, count: int = 1, kind: str = "gpu") -> Claim:
    return make_claim(f"claim-{number}", ask("r", kind, count=count))


def test_nodes_are_packed_one_after_the_other() -> None:
    cluster = make_cluster({"node-a": gpus(2), "node-b": gpus(2)})
    assert [place(cluster, want(number)).node for number in range(4)] == ["node-a", "node-a", "node-b", "node-b"]
    assert cluster.choose(Wish((want(9),), (POLICY,))) is None


def test_nodes_are_spread_if_the_policy_says_so() -> None:
    cluster = make_cluster({"node-a": gpus(2), "node-b": gpus(2)})
    spread = (Policy(placement=Spreading.SPREAD),)
    found = []
    for number in range(4):
        choice = cluster.choose(Wish((want(number),), spread))
        assert choice is not None
        cluster.take(want(number), choice.allocated.allocations[0])
        found.append(choice.node)
    assert found == ["node-a", "node-b", "node-a", "node-b"]


def test_only_nodes_that_are_allowed_and_not_avoided_are_chosen() -> None:
    cluster = make_cluster({node: gpus(1) for node in NODES})
    wish = Wish((want(0),), (POLICY,))
    assert cluster.choose(Wish((want(0),), (POLICY,), nodes={"node-b", "node-c"})).node == "node-b"  # type: ignore[union-attr]
    assert cluster.choose(Wish((want(0),), (POLICY,), avoided={"node-a", "node-b"})).node == "node-c"  # type: ignore[union-attr]
    assert cluster.choose(Wish((want(0),), (POLICY,), nodes={"node-x"})) is None
    assert cluster.fits(wish, "node-c")
    assert not cluster.fits(wish, "node-x")


def test_what_is_given_back_can_be_had_again() -> None:
    cluster = make_cluster({"node-a": gpus(1)})
    place(cluster, want(0))
    assert cluster.choose(Wish((want(1),), (POLICY,))) is None
    cluster.give_back(want(0))
    assert place(cluster, want(1)).node == "node-a"


def test_a_node_with_a_link_is_better_than_a_fuller_one_without() -> None:
    plain = [make_gpu("gpu-0"), make_gpu("gpu-1")]
    cluster = make_cluster({"node-a": plain, "node-b": gpus(4, domain="a")})
    assert place(cluster, want(0, 2)).node == "node-b"


def test_claims_of_one_pod_go_to_one_node() -> None:
    cluster = make_cluster({"node-a": gpus(1), "node-b": gpus(2)})
    choice = cluster.choose(Wish((want(0), want(1)), (POLICY, POLICY)))
    assert choice is not None
    assert choice.node == "node-b"
    assert names(choice) == ["gpu-0", "gpu-1"]


def test_a_gpu_is_chosen_beside_the_network_interface_that_the_pod_has() -> None:
    devices = [make_gpu("gpu-0", root="r0"), make_gpu("gpu-1", root="r1")]
    cluster = make_cluster({"node-a": devices})
    nics = [make_gpu("nic-0", root="r0", kind="", memory=""), make_gpu("nic-1", root="r1", kind="", memory="")]
    cluster.put_slices([*publish(GPUS, devices, node="node-a"), *publish(NICS, nics, node="node-a")])
    picky = Request(name="r", exactly=DeviceRequest(device_class_name="nic", count=2))
    nic = cluster.choose(Wish((make_claim("nic", picky),), (POLICY,)))
    assert nic is not None
    (allocation,) = nic.allocated.allocations
    results = tuple(each for each in allocation.devices.results if each.device == "nic-1")
    beside = msgspec.structs.replace(allocation, devices=msgspec.structs.replace(allocation.devices, results=results))
    assert names(cluster.choose(Wish((want(0),), (POLICY,)))) == ["gpu-0"]
    assert names(cluster.choose(Wish((want(0),), (POLICY,), beside=(beside,)))) == ["gpu-1"]


def test_only_devices_behind_the_fence_are_given_away() -> None:
    open_gpu, fenced = gpus(2)
    fenced = msgspec.structs.replace(fenced, taints=(FENCE,))
    cluster = make_cluster({"node-a": [open_gpu, fenced]})
    assert names(cluster.choose(Wish((want(0),), (POLICY,), scope=Scope(is_fenced=True)))) == ["gpu-1"]
    assert names(cluster.choose(Wish((want(0),), (POLICY,)))) == ["gpu-0"]


def test_a_group_stays_within_one_value_of_an_attribute_or_a_label() -> None:
    cluster = make_cluster({"node-a": gpus(1, domain="x"), "node-b": gpus(1, domain="y")})
    cluster.put_node(NodeView("node-c", {"rack": "r1"}))
    cluster.put_slices([*cluster.take_snapshot().slices, *publish(GPUS, gpus(1), node="node-c")])
    within = "accel-dra.dev/interconnectDomain"
    assert cluster.choose(Wish((want(0),), (POLICY,), scope=Scope(within=(within, "y")))).node == "node-b"  # type: ignore[union-attr]
    assert cluster.choose(Wish((want(0),), (POLICY,), scope=Scope(within=("rack", "r1")))).node == "node-c"  # type: ignore[union-attr]
    assert cluster.choose(Wish((want(0),), (POLICY,), scope=Scope(within=("rack", "r2")))) is None


def test_a_claim_that_is_wrong_in_itself_is_told_so() -> None:
    cluster = make_cluster({"node-a": gpus(1)})
    with pytest.raises(InvalidClaim, match="device class tpu does not exist"):
        cluster.choose(Wish((want(0, kind="tpu"),), (POLICY,)))
    broken = make_claim("c", ask("r", "gpu", selectors=["device.attributes['x.y'].z == 1"]))
    with pytest.raises(InvalidClaim, match="selector #0"):
        cluster.choose(Wish((broken,), (POLICY,)))
    assert cluster.choose(Wish((broken,), (POLICY,), nodes=())) is None


def test_many_shapes_of_claims_are_served() -> None:
    cluster = make_cluster({"node-a": gpus(2), "node-b": gpus(1)})
    for number in range(200):
        claim = make_claim(f"c{number}", ask("r", "gpu", selectors=[f"{number} == {number}"]))
        assert cluster.choose(Wish((claim,), (POLICY,))).node == "node-b"  # type: ignore[union-attr]


def answer_of(cluster: Cluster, wish: Wish) -> Choice | str | None:
    try:
        return cluster.choose(wish)
    except InvalidClaim as error:
        return str(error)


class Changes(RuleBasedStateMachine):
    """Nodes, slices and claims come and go; every answer is that of an index that is built anew."""

    @initialize()
    def begin(self) -> None:
        self.cluster = Cluster(CLASSES)
        self.views: dict[str, NodeView] = {}
        self.slices: dict[str, list[PublishedSlice]] = {}
        self.held: dict[str, Claim] = {}
        self.number = 0

    @rule(node=st.sampled_from(NODES), zone=st.sampled_from("xy"))
    def put_node(self, node: str, zone: str) -> None:
        self.views[node] = NodeView(node, {"zone": zone})
        self.cluster.put_node(self.views[node])

    @rule(node=st.sampled_from(NODES))
    def remove_node(self, node: str) -> None:
        self.views.pop(node, None)
        self.cluster.remove_node(node)

    @rule(
        node=st.sampled_from(NODES),
        kinds=st.lists(st.sampled_from(["gpu", "vfio"]), max_size=3),
        is_broken=st.booleans(),
        missing=st.booleans(),
    )
    def publish(self, node: str, kinds: list[str], is_broken: bool, missing: bool) -> None:
        devices = [make_gpu(f"gpu-{index}", domain="ab"[index % 2], kind=kind) for index, kind in enumerate(kinds)]
        parents = [make_gpu("mig-0", numa=0)] if is_broken else []
        devices += [each for parent in parents for each in make_partitions(parent)]
        slices = publish(GPUS, devices, node=node, broken=[each.name for each in parents])
        self.slices[node] = slices[1:] if missing and is_broken else slices
        self.cluster.put_slices(self._all_slices())

    @rule(is_there=st.booleans())
    def publish_for_all(self, is_there: bool) -> None:
        slices = publish(NICS, [make_gpu("nic-0", kind="", memory="")], node="fabric")
        spec = msgspec.structs.replace(slices[0].spec, node_name="", all_nodes=True)
        self.slices["fabric"] = [msgspec.structs.replace(slices[0], spec=spec)] if is_there else []
        self.cluster.put_slices(self._all_slices())

    @rule(kind=st.sampled_from(["gpu", "partition", "nic", "any"]), count=st.integers(1, 2))
    def allocate(self, kind: str, count: int) -> None:
        self.number += 1
        claim = want(self.number, count, kind)
        choice = self.cluster.choose(Wish((claim,), (POLICY,)))
        if choice is not None:
            status = ClaimStatus(allocation=choice.allocated.allocations[0])
            self.held[str(claim)] = msgspec.structs.replace(claim, status=status)
            self.cluster.take(self.held[str(claim)])

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if self.held:
            self.cluster.give_back(self.held.pop(data.draw(st.sampled_from(sorted(self.held)))))

    @invariant()
    def answers_are_those_of_a_new_index(self) -> None:
        fresh = Cluster(CLASSES)
        fresh.put_slices(self._all_slices())
        for view in self.views.values():
            fresh.put_node(view)
        for claim in self.held.values():
            fresh.take(claim)
        everything = Request(name="r", exactly=DeviceRequest(device_class_name="gpu", allocation_mode="All"))
        probes = [ask("r", kind, count=count) for kind, count in (("gpu", 1), ("gpu", 2), ("partition", 1), ("nic", 1))]
        for probe in (*probes, everything):
            wish = Wish((make_claim("probe", probe),), (POLICY,))
            answer = answer_of(self.cluster, wish)
            assert answer == answer_of(fresh, wish)
            if isinstance(answer, Choice):
                self._check_devices(answer)

    def _check_devices(self, answer: Choice) -> None:
        taken = {(each.driver, each.pool, each.device) for claim in self.held.values() for each in _results(claim)}
        for one in answer.allocated.allocations:
            assert not taken & {(each.driver, each.pool, each.device) for each in one.devices.results}

    def _all_slices(self) -> list[PublishedSlice]:
        return [each for node in sorted(self.slices) for each in self.slices[node]]


def _results(claim: Claim) -> Sequence[AllocationResult]:
    allocation: Allocation | None = claim.status.allocation
    return allocation.devices.results if allocation else ()


TestChanges = Changes.TestCase
TestChanges.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=4), st.integers(1, 3))
def test_the_chosen_node_is_the_best_of_all(sizes: list[tuple[int, int]], count: int) -> None:
    """Each node is asked by itself; no other one gives a better set, nor an equally good one with less left."""
    nodes = {}
    for index, (linked, alone) in enumerate(sizes):
        devices = [make_gpu(f"linked-{number}", domain="a") for number in range(linked)]
        nodes[f"node-{index}"] = [*devices, *(make_gpu(f"alone-{number}", numa=number) for number in range(alone))]
    cluster = make_cluster(nodes)  # type: ignore[arg-type]
    snapshot = cluster.take_snapshot()
    wish = Wish((want(0, count),), (POLICY,))
    choice = cluster.choose(wish)
    offers = {node: cluster.choose(Wish(wish.claims, wish.policies, nodes=(node,))) for node in nodes}
    costs = {node: (offer.cost, sum(sizes[int(node[-1])]), node) for node, offer in offers.items() if offer}
    assert (choice and choice.node) == (min(costs, key=lambda node: costs[node]) if costs else None)
    if choice is not None:
        single = allocate_best(snapshot, NodeView(choice.node), wish.claims, wish.policies)
        assert isinstance(single, Allocated)
        assert single.allocations == choice.allocated.allocations
