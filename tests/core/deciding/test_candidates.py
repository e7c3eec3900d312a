"""Nodes where pods can run, remembered by what pods ask for and kept right as nodes fill up."""

from __future__ import annotations

from driver.core.deciding.candidates import Finder
from driver.core.deciding.world import Member
from driver.model.policies import Policy
from driver.model.workloads import ClusterNode, Workload
from tests.fakes.controlled import make_claim, make_node, make_pod, make_world
from tests.fakes.stock import allocate

ROOM = {"cpu": "2", "pods": "9"}


def member(pod: Workload | None, *held: str) -> Member:
    others = tuple(make_claim(f"on-{node}", allocation=allocate(make_claim("x"), node, "d")) for node in held)
    return Member((make_claim("c"),), (Policy(),), pod, others)


def finder(*nodes: ClusterNode) -> Finder:
    return Finder(make_world(*nodes))


def test_pods_that_ask_for_the_same_share_their_candidates() -> None:
    nodes = finder(make_node("b", allocatable=ROOM), make_node("a", allocatable=ROOM))
    first = nodes.find(member(make_pod("p", requests={"cpu": "1"})))
    assert nodes.find(member(make_pod("q", requests={"cpu": "1000m"}))) is first
    assert nodes.find(member(make_pod("r", requests={"cpu": "2"}))) is not first
    assert list(first.nodes) == ["a", "b"]


def test_everything_that_decides_keeps_pods_apart() -> None:
    nodes = finder(make_node("a", labels={"zone": "x"}), make_node("b"))
    assert list(nodes.find(member(make_pod("p"))).nodes) == ["a", "b"]
    assert list(nodes.find(member(make_pod("p", node_selector={"zone": "x"}))).nodes) == ["a"]
    assert list(nodes.find(member(make_pod("p", node="b"))).nodes) == ["b"]
    assert list(nodes.find(member(make_pod("p"), "b")).nodes) == ["b"]
    assert list(nodes.find(member(None)).nodes) == ["a", "b"]


def test_a_node_that_fills_up_is_left_out_and_comes_back_in_its_place() -> None:
    nodes = finder(*(make_node(name, allocatable=ROOM) for name in "abc"))
    pods = [make_pod(f"p{index}", requests={"cpu": "1"}) for index in range(2)]
    for pod in pods:
        nodes.occupy(pod, "b")
    found = nodes.find(member(pods[0]))
    assert list(found.nodes) == ["a", "c"]
    assert found.obstacles == {"b": "too little cpu"}
    nodes.occupy(pods[0], "b", times=-1)
    assert list(nodes.find(member(pods[0])).nodes) == ["a", "b", "c"]
    assert nodes.find(member(pods[0])).obstacles == {}


def test_only_allowed_nodes_are_offered() -> None:
    found = finder(*(make_node(name) for name in "abc")).find(member(make_pod("p")))
    assert list(found.within({"c", "a", "nowhere"})) == ["a", "c"]
    assert found.within(None) is found.nodes


def test_a_pod_that_is_held_to_a_node_by_its_claims_is_not_asked_about_others() -> None:
    found = finder(*(make_node(name, cordoned=name == "b") for name in "abc")).find(member(make_pod("p"), "b"))
    assert found.obstacles == {"b": "the node is cordoned"}
    assert found.nodes == {}


def test_a_place_that_is_no_node_any_more_does_not_matter() -> None:
    nodes = finder(make_node("a"))
    nodes.occupy(make_pod("p"), "gone")
    assert list(nodes.find(member(make_pod("p"))).nodes) == ["a"]
    nodes.occupy(make_pod("p"), "gone")
    assert list(nodes.find(member(make_pod("p"))).nodes) == ["a"]
