"""Groups: all or none, in their order, completed or taken back."""

from __future__ import annotations

from driver.core.deciding.world import Reason
from driver.model.selection import NodeSelector, Requirement, Term
from driver.model.wanted import Claim
from driver.model.workloads import Affinity, NodeAffinity, Workload
from tests.core.deciding.test_rounds import Table, message, reasons
from tests.fakes.controlled import make_claim, make_node, make_pod
from tests.fakes.stock import allocate


def make_group(
    name: str, size: int, count: int = 1, *, within: str = "", priority: int = 0, at: int = 1
) -> list[Claim | Workload]:
    policy = f"group-{size}{f'@{within}' if within else ''}"
    time = f"2026-01-{at:02}T00:00:00Z"
    found: list[Claim | Workload] = []
    for index in range(size):
        found.append(make_claim(f"{name}{index}", count, policy=policy, group=name, at=time))
        found.append(make_pod(f"pod-{name}{index}", f"{name}{index}", priority=priority, at=time))
    return found


def test_a_group_is_allocated_whole() -> None:
    table = Table({"a": 2, "b": 2}, *make_group("g", 4))
    decision = table.run()
    assert [(bundle.name, len(bundle.grants)) for bundle in decision.bundles] == [("group team/g", 4)]
    assert sorted(table.nodes().values()) == ["a", "a", "b", "b"]


def test_a_group_that_does_not_fit_holds_nothing() -> None:
    table = Table(
        {"a": 2, "b": 1}, *make_group("g", 4), make_claim("small"), make_pod("p", "small", at="2026-02-01T00:00:00Z")
    )
    decision = table.run()
    assert set(reasons(decision)) == {"g0", "g1", "g2", "g3"}
    assert message(decision, "g0").startswith("group team/g: ")
    assert table.nodes() == {"small": "a"}


def test_a_group_waits_for_its_members_and_their_pods() -> None:
    objects = make_group("g", 3)
    table = Table({"a": 8}, *objects[:4])
    decision = table.decide()
    assert reasons(decision) == {"g0": Reason.GROUP_INCOMPLETE, "g1": Reason.GROUP_INCOMPLETE}
    assert message(decision, "g0") == "group g has 2 of 3 claims that can be allocated"
    table.put(objects[4])
    assert reasons(table.decide())["g2"] is Reason.NO_CONSUMER
    table.put(objects[5])
    table.run()
    assert len(table.nodes()) == 3


def test_two_groups_that_could_each_take_half_do_not_block_each_other() -> None:
    table = Table({"a": 2, "b": 2}, *make_group("g", 4, at=2), *make_group("h", 4, at=1))
    decision = table.run()
    assert set(table.nodes()) == {"h0", "h1", "h2", "h3"}
    assert {each.reason for each in decision.waiting} == {Reason.NO_DEVICES}


def test_the_group_with_the_higher_priority_goes_first() -> None:
    table = Table({"a": 4}, *make_group("g", 4, at=1), *make_group("h", 4, at=2, priority=5))
    table.run()
    assert set(table.nodes()) == {"h0", "h1", "h2", "h3"}


def test_a_group_keeps_to_one_domain_the_fullest_that_holds_it() -> None:
    nodes = {"a1": 2, "a2": 2, "b1": 2, "b2": 1, "c1": 1}
    table = Table(nodes, *(make_node(name, labels={"rack": name[0]}) for name in nodes), make_node("d"))
    table.put(*make_group("g", 3, within="rack"))
    table.run()
    assert {node[0] for node in table.nodes().values()} == {"b"}


def test_a_group_that_fits_into_no_domain_says_so_for_each() -> None:
    nodes = {"a1": 1, "a2": 1, "b1": 2}
    table = Table(nodes, *(make_node(name, labels={"rack": name[0]}) for name in nodes))
    table.put(*make_group("g", 3, within="rack"))
    decision = table.run()
    assert table.nodes() == {}
    expected = (
        "no rack has room for the whole group: a: 2 devices are left of 3 needed; b: 2 devices are left of 3 needed"
    )
    assert message(decision, "g0") == f"group team/g: {expected}"


def test_a_domain_that_nothing_has_is_said() -> None:
    table = Table({"a": 8}, *make_group("g", 2, within="rack"))
    assert message(table.decide(), "g0") == "group team/g: no device and no node has rack"


def test_the_search_goes_back_where_the_first_choice_was_wrong() -> None:
    """The first member can run anywhere and takes the node that the second one needs."""
    table = Table({"a": 1, "b": 1}, make_node("a", labels={"special": "yes"}))
    table.put(make_claim("x", policy="group-2", group="g"), make_claim("y", policy="group-2", group="g"))
    table.put(make_pod("p", "x"), make_pod("q", "y", node_selector={"special": "yes"}))
    table.run()
    assert table.nodes() == {"x": "b", "y": "a"}


def test_a_member_that_can_run_on_one_node_only_gets_it() -> None:
    objects = make_group("g", 32)
    last = make_pod("pod-g31", "g31", node_selector={"kind": "x"})
    nodes = [make_node(f"n{index:02}", labels={"kind": "x"} if index == 0 else {}) for index in range(32)]
    table = Table({node.metadata.name: 1 for node in nodes}, *nodes, *objects, last)
    table.run()
    assert len(table.nodes()) == 32
    assert table.nodes()["g31"] == "n00"


def test_members_make_room_for_each_other_however_many_have_to_move() -> None:
    size = 12
    nodes = [make_node(f"n{index:02}", labels={"place": str(index)}) for index in range(size)]
    table = Table({node.metadata.name: 1 for node in nodes}, *nodes)
    for index in range(size):
        # Each can run on its own node and the next one, the last one on the first node only.
        places = ["0"] if index == size - 1 else [str(index), str(index + 1)]
        required = NodeSelector(
            node_selector_terms=(
                Term(match_expressions=(Requirement(key="place", operator="In", values=tuple(places)),)),
            )
        )
        affinity = Affinity(node_affinity=NodeAffinity(required_during_scheduling_ignored_during_execution=required))
        table.put(
            make_claim(f"g{index:02}", policy=f"group-{size}", group="g"),
            make_pod(f"p{index:02}", f"g{index:02}", affinity=affinity, at=f"2026-01-{28 - index:02}T00:00:00Z"),
        )
    table.run()
    assert sorted(table.nodes().values()) == [node.metadata.name for node in nodes]
    assert table.nodes()["g11"] == "n00"


def test_a_higher_priority_goes_first_whether_group_or_single_claim() -> None:
    for group_first in (True, False):
        first, second = (5, 1) if group_first else (1, 5)
        single = make_claim("s", 2), make_pod("s", "s", priority=second)
        table = Table({"a": 2}, *make_group("g", 2, priority=first, at=20), *single)
        table.run()
        assert set(table.nodes()) == ({"g0", "g1"} if group_first else {"s"})


def test_a_half_written_group_is_completed_in_its_domain() -> None:
    nodes = {"a1": 4, "b1": 8}
    table = Table(nodes, *(make_node(name, labels={"rack": name[0]}) for name in nodes))
    table.put(*make_group("g", 4, within="rack"))
    table.allocate("g0", allocate(table.claim("g0"), "a1", "gpu-0"))
    decision = table.run()
    assert set(table.nodes().values()) == {"a1"}
    assert [len(bundle.grants) for bundle in decision.bundles] == [3]


def test_a_half_written_group_that_cannot_be_completed_is_taken_back() -> None:
    nodes = {"a1": 3, "b1": 4}
    table = Table(nodes, *(make_node(name, labels={"rack": name[0]}) for name in nodes))
    table.put(*make_group("g", 4, within="rack"))
    table.allocate("g0", allocate(table.claim("g0"), "a1", "gpu-0"))
    decision = table.run()
    assert [each.claim.metadata.name for each in decision.returns] == ["g0"]
    assert table.nodes() == {}
    table.run()
    assert set(table.nodes().values()) == {"b1"}


def test_members_that_run_already_stay_when_the_rest_cannot_be_placed() -> None:
    table = Table({"a": 2}, *make_group("g", 4))
    running = allocate(table.claim("g0"), "a", "gpu-0")
    table.put(make_claim("g0", policy="group-4", group="g", allocation=running, reserved="pod-g0"))
    table.allocate("g1", allocate(table.claim("g1"), "a", "gpu-1"))
    decision = table.run()
    assert [each.claim.metadata.name for each in decision.returns] == ["g1"]
    assert set(table.nodes()) == {"g0"}


def test_a_half_written_group_whose_members_are_gone_is_taken_back_after_the_grace_time() -> None:
    table = Table({"a": 4}, *make_group("g", 3))
    table.allocate("g0", allocate(table.claim("g0"), "a", "gpu-0"))
    for kind, name in ((Claim, "g1"), (Workload, "pod-g1"), (Claim, "g2"), (Workload, "pod-g2")):
        table.drop(kind, name)
    assert table.run().again_in == 60
    table.now += 60
    assert [each.why for each in table.run().returns] == ["its group is not complete any more"]


def test_a_member_that_comes_anew_joins_its_running_group() -> None:
    table = Table({"a": 4}, *make_group("g", 3))
    table.run()
    for index in (0, 1):
        name = f"g{index}"
        held = table.claim(name).status.allocation
        table.put(make_claim(name, policy="group-3", group="g", allocation=held, reserved=f"pod-{name}"))
    table.drop(Claim, "g2")
    table.put(make_claim("g9", policy="group-3", group="g"), make_pod("pod-g9", "g9"))
    table.run()
    assert set(table.nodes()) == {"g0", "g1", "g9"}


def test_a_group_of_more_claims_is_served_size_by_size() -> None:
    table = Table({"a": 8}, *make_group("g", 2))
    table.put(
        *(make_claim(f"more{index}", policy="group-2", group="g", at="2026-02-01T00:00:00Z") for index in range(3))
    )
    table.put(*(make_pod(f"pod-more{index}", f"more{index}", at="2026-02-01T00:00:00Z") for index in range(3)))
    decision = table.run()
    assert [len(bundle.grants) for bundle in decision.bundles] == [2, 2]
    assert reasons(decision) == {"more2": Reason.GROUP_INCOMPLETE}
    assert message(table.run(), "more2") == "group g has 1 of 2 claims that can be allocated"
    table.now += 1000
    assert table.run().returns == ()


def test_different_policies_in_one_group_are_refused() -> None:
    table = Table(
        {"a": 8}, *make_group("g", 2), make_claim("odd", policy="group-3@rack", group="g"), make_pod("p", "odd")
    )
    decision = table.run()
    assert set(reasons(decision).values()) == {Reason.INVALID_POLICY}
    text = "the claims of group g have different policies: size 2, FirstConsumer; size 3 within rack, FirstConsumer"
    assert message(decision, "odd") == text


def test_groups_of_other_namespaces_and_labels_without_a_policy_are_other_things() -> None:
    table = Table({"a": 8}, *make_group("g", 3)[:4], make_claim("alone", group="g"), make_pod("p", "alone"))
    table.run()
    assert set(table.nodes()) == {"alone"}


def test_a_pod_brings_all_its_claims_into_the_group() -> None:
    pods = [make_pod(f"p{index}", f"g{index}", f"own{index}") for index in range(2)]
    claims = [make_claim(f"g{index}", policy="group-2", group="g") for index in range(2)]
    table = Table({"a": 2, "b": 2}, *pods, *claims, *(make_claim(f"own{index}") for index in range(2)))
    table.run()
    nodes = table.nodes()
    assert (nodes["g0"], nodes["g1"]) == (nodes["own0"], nodes["own1"]) == ("a", "b")


def test_a_pod_between_two_groups_is_refused() -> None:
    table = Table({"a": 8}, make_claim("x", policy="group-1", group="g"), make_claim("y", policy="group-1", group="h"))
    table.put(make_pod("p", "x", "y"))
    decision = table.run()
    assert message(decision, "x") == "the pod has claims of several groups: g, h"
    assert table.nodes() == {}


def test_a_large_group_is_placed_and_refused_without_recursion() -> None:
    table = Table({"a": 2000}, *make_group("g", 1500))
    assert len(table.decide().bundles[0].grants) == 1500
    small = Table({"a": 1499}, *make_group("g", 1500))
    assert small.decide().bundles == ()
    assert small.stock.held == {}
