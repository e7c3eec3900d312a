"""Where a pod can run, devices aside."""

from __future__ import annotations

import msgspec
import pytest

from driver.core.deciding.loads import Load, add_up
from driver.core.deciding.placing import Needs, find_obstacle, leave_out, name_nodes, summarize
from driver.model.claims import Allocation
from driver.model.quantities import NANO
from driver.model.selection import NodeSelector, Requirement, Term
from driver.model.workloads import (
    Affinity,
    ClusterNode,
    NodeAffinity,
    NodeCondition,
    NodeStatus,
    NodeTaint,
    PodToleration,
    Workload,
)
from tests.fakes.controlled import make_node, make_pod
from tests.fakes.stock import on_node


def obstacle(pod: Workload | None, node: ClusterNode, load: Load | None = None, *others: Allocation) -> str:
    return find_obstacle(Needs(pod, add_up(pod) if pod else {}, others), node, load or Load())


def test_an_ordinary_pod_can_run_on_an_ordinary_node() -> None:
    assert obstacle(make_pod("p", requests={"cpu": "1"}), make_node("n", allocatable={"cpu": "1", "pods": "1"})) == ""


@pytest.mark.parametrize(
    ("asked", "taken", "expected"),
    [("2", "2", ""), ("2001m", "2", "too little cpu"), ("1", "3500m", "too little cpu")],
)
def test_resources_have_to_suffice(asked: str, taken: str, expected: str) -> None:
    load = Load(add_up(make_pod("other", requests={"cpu": taken})), 1)
    node = make_node("n", allocatable={"cpu": "4", "pods": "110"})
    assert obstacle(make_pod("p", requests={"cpu": asked}), node, load) == expected


def test_a_node_without_a_resource_has_none_of_it() -> None:
    pod = make_pod("p", requests={"example.com/fpga": "1"})
    assert obstacle(pod, make_node("n", allocatable={"pods": "1"})) == "too little example.com/fpga"


def test_a_node_takes_so_many_pods() -> None:
    node = make_node("n", allocatable={"pods": "2"})
    assert obstacle(make_pod("p"), node, Load(pods=1)) == ""
    assert obstacle(make_pod("p"), node, Load(pods=2)) == "it runs 2 pods already"
    assert obstacle(None, node, Load(pods=2)) == "it runs 2 pods already"


def test_a_node_that_has_not_told_its_resources_is_not_judged_by_them() -> None:
    assert obstacle(make_pod("p", requests={"cpu": "1"}), make_node("n")) == ""


def test_what_claims_serve_is_not_asked_of_the_node() -> None:
    requests = {"accel-dra.dev/gpu": NANO, "deviceclass.resource.kubernetes.io/gpu": NANO, "cpu": NANO}
    assert leave_out(requests) == {"accel-dra.dev/gpu": NANO, "cpu": NANO}
    needs = Needs(make_pod("p"), {"accel-dra.dev/gpu": NANO}, served=frozenset({"accel-dra.dev/gpu"}))
    bare = make_node("n", allocatable={"pods": "9", "cpu": "1"})
    assert find_obstacle(needs, bare, Load()) == ""
    # A node with a device plugin for it serves it itself, whatever a DeviceClass says (KEP-5004).
    full = make_node("n", allocatable={"pods": "9", "accel-dra.dev/gpu": "1"})
    assert find_obstacle(needs, full, Load()) == ""
    assert find_obstacle(needs, full, Load({"accel-dra.dev/gpu": NANO})) == "too little accel-dra.dev/gpu"


def test_who_asks_for_nothing_fits_where_too_much_was_given_away() -> None:
    node = make_node("n", allocatable={"pods": "9", "cpu": "1"})
    overfull = Load({"cpu": 2 * NANO})
    assert obstacle(make_pod("p", requests={"cpu": "0"}), node, overfull) == ""
    assert obstacle(make_pod("p", requests={"cpu": "1m"}), node, overfull) == "too little cpu"


TAINT = NodeTaint(key="team", value="a", effect="NoSchedule")


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        (PodToleration(key="team", value="a"), True),
        (PodToleration(key="team", operator="Equal", value="a", effect="NoSchedule"), True),
        (PodToleration(key="team", operator="Exists"), True),
        (PodToleration(operator="Exists"), True),
        (PodToleration(key="team", value="b"), False),
        (PodToleration(key="team", value="a", effect="NoExecute"), False),
        (PodToleration(key="other", operator="Exists"), False),
    ],
)
def test_taints_are_tolerated_or_not(toleration: PodToleration, tolerated: bool) -> None:
    found = obstacle(make_pod("p", tolerations=(toleration,)), make_node("n", taints=[TAINT]))
    assert found == ("" if tolerated else "taint team=a is not tolerated")


def test_soft_taints_do_not_matter() -> None:
    soft = NodeTaint(key="team", effect="PreferNoSchedule")
    assert obstacle(make_pod("p"), make_node("n", taints=[soft])) == ""
    assert obstacle(None, make_node("n", taints=[TAINT])) == "taint team=a is not tolerated"


def test_a_cordoned_node_takes_only_who_tolerates_it() -> None:
    node = make_node("n", cordoned=True)
    assert obstacle(make_pod("p"), node) == "the node is cordoned"
    assert obstacle(make_pod("p", tolerations=(PodToleration(operator="Exists"),)), node) == ""


@pytest.mark.parametrize(("status", "expected"), [("True", ""), ("False", "not ready"), ("Unknown", "not ready")])
def test_a_node_has_to_be_ready(status: str, expected: str) -> None:
    conditions = (NodeCondition(type="Ready", status=status),)
    node = msgspec.structs.replace(make_node("n"), status=NodeStatus(conditions=conditions))
    assert expected in obstacle(make_pod("p"), node)


def test_a_node_that_is_being_deleted_takes_nobody() -> None:
    node = make_node("n")
    gone = msgspec.structs.replace(node, metadata=msgspec.structs.replace(node.metadata, deletion_timestamp="t"))
    assert obstacle(make_pod("p"), gone) == "the node is being deleted"


def test_node_selector_and_affinity_have_to_match() -> None:
    node = make_node("n", labels={"zone": "a"})
    assert obstacle(make_pod("p", node_selector={"zone": "a"}), node) == ""
    assert "node selector" in obstacle(make_pod("p", node_selector={"zone": "b"}), node)
    for zone, expected in (("a", ""), ("b", "the pod's node affinity does not match")):
        term = Term(match_expressions=(Requirement(key="zone", operator="In", values=(zone,)),))
        required = NodeSelector(node_selector_terms=(term,))
        affinity = Affinity(node_affinity=NodeAffinity(required_during_scheduling_ignored_during_execution=required))
        assert obstacle(make_pod("p", affinity=affinity), node) == expected


def test_a_pod_that_is_placed_only_wants_its_own_node() -> None:
    pod = make_pod("p", node="n", requests={"cpu": "9"})
    assert obstacle(pod, make_node("other")) == "the pod is on another node"
    assert obstacle(pod, make_node("n", allocatable={"cpu": "1"}, cordoned=True)) == ""


def test_claims_that_are_allocated_hold_the_pod_to_their_nodes() -> None:
    other = Allocation(node_selector=on_node("n"))
    assert obstacle(make_pod("p"), make_node("n"), None, other, Allocation()) == ""
    assert "another claim" in obstacle(make_pod("p"), make_node("m"), None, other)


def test_nodes_that_allocations_name() -> None:
    def several(*nodes: str) -> Allocation:
        fields = (Requirement(key="metadata.name", operator="In", values=nodes),)
        return Allocation(node_selector=NodeSelector(node_selector_terms=(Term(match_fields=fields),)))

    by_label = Term(match_expressions=(Requirement(key="zone", operator="Exists"),))
    assert name_nodes([several("a", "b"), several("b", "c"), Allocation()]) == frozenset("b")
    assert name_nodes([Allocation()]) is None
    assert name_nodes([Allocation(node_selector=NodeSelector(node_selector_terms=(by_label,)))]) is None


def test_obstacles_of_many_nodes_are_one_sentence() -> None:
    assert summarize(["b", "a", "b", "c"]) == "2 nodes: b; 1 node: a; 1 node: c"
    assert summarize([]) == ""
