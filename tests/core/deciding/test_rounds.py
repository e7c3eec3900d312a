"""One round: what is granted where, what waits and why, what is taken back."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from driver.core.deciding import rounds
from driver.core.deciding.memory import Memory, Patience
from driver.core.deciding.world import Chosen, Decision, Member, Reason, Refused, World
from driver.model.claims import Allocation
from driver.model.wanted import Claim
from driver.model.workloads import ClaimReference, ClusterNode, GeneratedClaim, Workload, WorkloadStatus
from tests.fakes.controlled import ask, make_claim, make_node, make_pod, make_world
from tests.fakes.stock import Stock, allocate

PATIENCE = Patience(refusal=300, grace=60)


class Table:
    """Rounds over objects that change in between."""

    def __init__(self, devices: Mapping[str, int], *objects: Claim | Workload | ClusterNode) -> None:
        self.stock = Stock(devices)
        self.memory = Memory(PATIENCE)
        self.now = 1000.0
        self.objects = {(type(each), each.metadata.name): each for each in objects}
        for name in devices:
            self.objects.setdefault((ClusterNode, name), make_node(name))

    @property
    def world(self) -> World:
        return make_world(*self.objects.values())

    def put(self, *objects: Claim | Workload | ClusterNode) -> None:
        self.objects.update({(type(each), each.metadata.name): each for each in objects})

    def drop(self, kind: type[Claim | Workload], name: str) -> None:
        del self.objects[kind, name]

    def decide(self) -> Decision:
        return rounds.decide(self.world, self.stock, self.memory, ask, self.now)

    def run(self) -> Decision:
        """Decide and let everything that is decided come true."""
        decision = self.decide()
        for bundle in decision.bundles:
            for grant in bundle.grants:
                self.allocate(grant.claim.metadata.name, grant.allocation)
            self.memory.note_granted(bundle)
        for each in decision.returns:
            self.allocate(each.claim.metadata.name, None)
            self.memory.note_returned(each.claim)
        return decision

    def allocate(self, name: str, allocation: Allocation | None) -> None:
        claim = self.claim(name)
        status = msgspec.structs.replace(claim.status, allocation=allocation)
        self.put(msgspec.structs.replace(claim, status=status))

    def claim(self, name: str) -> Claim:
        found = self.objects[Claim, name]
        assert isinstance(found, Claim)
        return found

    def nodes(self) -> dict[str, str]:
        """Where the allocated claims are."""
        claims = (claim for claim in self.world.claims.values() if claim.status.allocation)
        return {
            claim.metadata.name: claim.status.allocation.devices.results[0].pool
            for claim in claims
            if claim.status.allocation
        }


def reasons(decision: Decision) -> dict[str, Reason]:
    return {each.claim.metadata.name: each.reason for each in decision.waiting}


def message(decision: Decision, claim: str) -> str:
    return next(each.text for each in decision.waiting if each.claim.metadata.name == claim)


def test_a_claim_is_allocated_where_its_pod_can_run() -> None:
    table = Table({"a": 8, "b": 8}, make_claim("c"), make_pod("p", "c", node_selector={"zone": "b"}))
    table.put(make_node("b", labels={"zone": "b"}))
    table.run()
    assert table.nodes() == {"c": "b"}
    assert table.decide() == Decision()


def test_a_claim_waits_for_a_pod_unless_it_is_immediate() -> None:
    table = Table({"a": 8}, make_claim("first"), make_claim("now", policy="immediate"))
    assert reasons(table.run()) == {"first": Reason.NO_CONSUMER}
    assert table.nodes() == {"now": "a"}


def test_an_immediate_claim_with_a_pod_goes_where_the_pod_can_run() -> None:
    table = Table({"a": 8, "b": 8}, make_claim("c", policy="immediate"), make_pod("p", "c", node_selector={"z": "b"}))
    table.put(make_node("b", labels={"z": "b"}))
    table.run()
    assert table.nodes() == {"c": "b"}


def test_pods_that_will_not_run_are_no_consumers() -> None:
    gated = make_pod("gated", "c", gated=True)
    table = Table({"a": 8}, make_claim("c"), gated, make_pod("gone", "c", deleted=True))
    table.put(make_pod("done", "c", phase="Failed"))
    decision = table.decide()
    assert reasons(decision) == {"c": Reason.NO_CONSUMER}
    assert message(decision, "c") == "waiting for pod gated, which has scheduling gates: wait"


def test_claims_that_do_not_ask_are_left_alone() -> None:
    table = Table({"a": 8}, make_claim("c", policy="none"), make_pod("p", "c"))
    decision = table.decide()
    assert decision == Decision(foreign=((table.claim("c"), table.world.pods["team/p"]),))


def test_a_wrong_policy_is_told_and_stops_the_pod() -> None:
    table = Table({"a": 8}, make_claim("wrong", policy="bad"), make_claim("fine"), make_pod("p", "wrong", "fine"))
    decision = table.decide()
    assert reasons(decision) == {"wrong": Reason.INVALID_POLICY, "fine": Reason.INVALID_POLICY}
    assert message(decision, "wrong") == "when: 'Never' is not allowed; allowed: FirstConsumer or Immediate"
    assert message(decision, "fine").startswith("claim wrong of the same pod: when:")
    assert not decision.bundles


def test_a_group_needs_a_name() -> None:
    table = Table({"a": 8}, make_claim("c", policy="group-2"), make_pod("p", "c"))
    assert reasons(table.decide()) == {"c": Reason.INVALID_POLICY}


def test_all_claims_of_a_pod_go_to_one_node_together() -> None:
    table = Table({"a": 3, "b": 4}, make_claim("x", 2), make_claim("y", 2), make_pod("p", "x", "y"))
    decision = table.run()
    assert table.nodes() == {"x": "b", "y": "b"}
    assert [len(bundle.grants) for bundle in decision.bundles] == [2]


def test_a_pod_that_waits_for_another_claim_gets_nothing_yet() -> None:
    entries = (
        ClaimReference(name="x", resource_claim_name="x"),
        ClaimReference(name="t", resource_claim_template_name="t"),
    )
    pod = make_pod("p", resource_claims=entries)
    table = Table({"a": 8}, make_claim("x"), pod)
    assert message(table.decide(), "x") == "waiting for pod p, which waits for the claim for its entry t"
    generated = WorkloadStatus(resource_claim_statuses=(GeneratedClaim(name="t", resource_claim_name="p-t"),))
    table.put(msgspec.structs.replace(pod, status=generated))
    assert message(table.decide(), "x") == "waiting for pod p, which waits for claim p-t"
    table.put(make_claim("p-t", owner="somebody-else"))
    assert not table.decide().bundles
    table.put(make_claim("p-t", owner="p"))
    table.run()
    assert table.nodes() == {"x": "a", "p-t": "a"}


def test_an_entry_that_needs_no_claim_is_not_waited_for() -> None:
    entries = (
        ClaimReference(name="x", resource_claim_name="x"),
        ClaimReference(name="t", resource_claim_template_name="t"),
    )
    pod = make_pod("p", resource_claims=entries)
    table = Table({"a": 8}, make_claim("x"))
    table.put(msgspec.structs.replace(pod, status=WorkloadStatus(resource_claim_statuses=(GeneratedClaim(name="t"),))))
    table.run()
    assert table.nodes() == {"x": "a"}


def test_a_claim_that_is_allocated_holds_the_others_of_the_pod_to_its_node() -> None:
    nic = make_claim("nic", policy="none", allocation=allocate(make_claim("nic"), "b", "nic-0"))
    table = Table({"a": 8, "b": 8}, nic, make_claim("gpu"), make_pod("p", "nic", "gpu"))
    table.run()
    assert table.nodes() == {"nic": "b", "gpu": "b"}


def test_a_shared_claim_goes_to_the_pod_with_the_highest_priority_then_the_oldest() -> None:
    nodes = [make_node(name, labels={"name": name}) for name in "abc"]
    table = Table({"a": 8, "b": 8, "c": 8}, make_claim("shared"), *nodes)
    table.put(make_pod("young", "shared", at="2026-01-03T00:00:00Z", node_selector={"name": "a"}))
    table.put(make_pod("old", "shared", at="2026-01-02T00:00:00Z", node_selector={"name": "b"}))
    assert table.decide().bundles[0].grants[0].node == "b"
    table.put(make_pod("urgent", "shared", at="2026-01-04T00:00:00Z", priority=9, node_selector={"name": "c"}))
    assert table.decide().bundles[0].grants[0].node == "c"


def test_the_other_claims_of_a_later_consumer_wait_for_the_shared_one() -> None:
    table = Table({"a": 8}, make_claim("shared"), make_claim("own"))
    table.put(make_pod("first", "shared", priority=1), make_pod("second", "shared", "own"))
    decision = table.run()
    assert message(decision, "own") == "claim shared of the same pod is allocated for another pod first"
    table.run()
    assert table.nodes() == {"shared": "a", "own": "a"}


def test_priority_then_age_decides_who_gets_the_last_device() -> None:
    claims = [make_claim(name) for name in ("x", "y", "z")]
    table = Table({"a": 1}, *claims, make_pod("old", "x", at="2026-01-01T00:00:00Z"))
    table.put(make_pod("young", "y", at="2026-01-02T00:00:00Z"), make_pod("urgent", "z", at="2026-01-03T00:00:00Z"))
    assert table.decide().bundles[0].name == "pod team/old"
    table.put(make_pod("urgent", "z", at="2026-01-03T00:00:00Z", priority=1))
    decision = table.decide()
    assert [bundle.name for bundle in decision.bundles] == ["pod team/urgent"]
    assert reasons(decision) == {"x": Reason.NO_DEVICES, "y": Reason.NO_DEVICES}


def test_units_of_one_round_share_no_device() -> None:
    table = Table({"a": 2, "b": 1}, *(make_claim(f"c{index}") for index in range(4)))
    table.put(*(make_pod(f"p{index}", f"c{index}") for index in range(4)))
    decision = table.run()
    results = [each for bundle in decision.bundles for each in bundle.grants[0].allocation.devices.results]
    assert len({(each.pool, each.device) for each in results}) == 3
    assert len(reasons(decision)) == 1


def test_pods_that_wait_to_be_bound_take_room_on_their_node() -> None:
    table = Table({"a": 8, "b": 8}, *(make_claim(f"c{index}") for index in range(3)))
    table.put(*(make_node(name, allocatable={"cpu": "4", "pods": "9"}) for name in "ab"))
    table.put(*(make_pod(f"p{index}", f"c{index}", requests={"cpu": "3"}) for index in range(3)))
    decision = table.run()
    assert sorted(table.nodes().values()) == ["a", "b"]
    assert reasons(decision) == {"c2": Reason.NO_NODE}
    assert "2 nodes: too little cpu" in message(decision, "c2")
    assert reasons(table.run()) == {"c2": Reason.NO_NODE}


def test_a_pod_that_waits_for_the_rest_of_its_claims_is_not_in_its_own_way() -> None:
    shared = make_claim("shared", allocation=allocate(make_claim("shared"), "a", "gpu-0"), reserved="other")
    room = make_node("a", allocatable={"cpu": "1", "pods": "9"})
    pod = make_pod("p", "shared", "own", requests={"cpu": "1"})
    table = Table({"a": 8}, room, shared, make_claim("own"), pod)
    table.run()
    assert table.nodes() == {"shared": "a", "own": "a"}


def test_a_pod_gets_nothing_while_another_claim_of_it_is_being_deleted() -> None:
    leaving = make_claim("old", allocation=allocate(make_claim("old"), "a", "gpu-0"), reserved="other")
    meta = msgspec.structs.replace(leaving.metadata, deletion_timestamp="2026-01-02T00:00:00Z")
    table = Table({"a": 8}, msgspec.structs.replace(leaving, metadata=meta), make_claim("c"), make_pod("p", "c", "old"))
    decision = table.run()
    assert table.nodes() == {"old": "a"}
    assert message(decision, "c") == "waiting for pod p, which waits for claim old, which is being deleted"


class Broken(Stock):
    """A stock that fails on one claim."""

    def choose(self, member: Member, nodes: Mapping[str, ClusterNode]) -> Chosen | Refused:
        if member.claims[0].metadata.name == "poison":
            raise ZeroDivisionError("division by zero")
        return super().choose(member, nodes)


def test_a_claim_that_brings_a_defect_to_light_does_not_stop_the_others() -> None:
    table = Table({"a": 8}, make_claim("poison"), make_pod("p", "poison"), make_claim("c"), make_pod("q", "c"))
    table.stock = Broken({"a": 8})
    decision = table.run()
    assert table.nodes() == {"c": "a"}
    assert "ZeroDivisionError: division by zero (tests.core.deciding.test_rounds:" in message(decision, "poison")


def test_equal_wishes_that_cannot_be_met_are_looked_at_once() -> None:
    table = Table({"a": 1}, *(make_claim(f"c{index}", 2) for index in range(50)))
    table.put(*(make_pod(f"p{index}", f"c{index}") for index in range(50)))
    assert len(table.decide().waiting) == 50
    assert table.stock.asked == 1


def test_a_claim_that_is_being_deleted_is_not_allocated() -> None:
    claim = make_claim("c")
    gone = msgspec.structs.replace(claim, metadata=msgspec.structs.replace(claim.metadata, deletion_timestamp="t"))
    assert Table({"a": 1}, gone, make_pod("p", "c")).decide() == Decision()


def test_no_nodes_at_all_is_said() -> None:
    table = Table({}, make_claim("c"), make_pod("p", "c"))
    assert message(table.decide(), "c") == "there are no nodes"


# What kube-scheduler refuses.


def test_a_node_that_kube_scheduler_refused_is_passed_over() -> None:
    table = Table({"a": 8, "b": 8}, make_claim("c"), make_pod("p", "c"))
    table.run()
    assert table.nodes() == {"c": "a"}
    table.allocate("c", None)
    table.run()
    assert table.nodes() == {"c": "b"}


def test_the_only_node_is_tried_again_after_a_growing_pause() -> None:
    table = Table({"a": 8}, make_claim("c"), make_pod("p", "c"))
    for pause in (5, 10, 20):
        table.run()
        assert table.nodes() == {"c": "a"}
        table.allocate("c", None)
        decision = table.run()
        assert (table.nodes(), decision.again_in) == ({}, pause)
        assert "did not take" in message(decision, "c")
        table.now += pause


def test_a_refused_node_is_tried_again_when_the_others_have_no_devices() -> None:
    table = Table({"a": 8, "b": 0}, make_claim("c"), make_pod("p", "c"))
    table.run()
    table.allocate("c", None)
    decision = table.run()
    assert (table.nodes(), decision.again_in) == ({}, 5)
    table.now += 5
    table.run()
    assert table.nodes() == {"c": "a"}


def test_a_refusal_of_one_claim_does_not_keep_another_like_it_from_the_node() -> None:
    table = Table({"a": 1, "b": 0}, make_claim("c"), make_pod("p", "c"))
    table.run()
    table.allocate("c", None)
    table.put(make_claim("d", at="2026-02-01T00:00:00Z"), make_pod("q", "d", at="2026-02-01T00:00:00Z"))
    table.run()
    assert table.nodes() == {"d": "a"}


def test_a_refusal_is_forgotten() -> None:
    table = Table({"a": 8, "b": 8}, make_claim("c"), make_pod("p", "c"))
    table.run()
    table.allocate("c", None)
    table.run()
    table.now += PATIENCE.refusal
    table.drop(Workload, "p")
    table.allocate("c", None)
    table.decide()
    table.put(make_pod("p", "c"))
    table.run()
    assert table.nodes() == {"c": "a"}


def test_an_allocation_that_was_in_use_was_not_refused() -> None:
    table = Table({"a": 8, "b": 8}, make_claim("c"), make_pod("p", "c"))
    table.run()
    table.put(make_claim("c", allocation=table.claim("c").status.allocation, reserved="p"))
    table.decide()
    table.put(make_claim("c"))
    table.run()
    assert table.nodes() == {"c": "a"}


# What is taken back.


def test_an_allocation_that_nobody_uses_is_taken_back_after_the_grace_time() -> None:
    table = Table({"a": 8}, make_claim("c"), make_pod("p", "c"))
    table.run()
    table.drop(Workload, "p")
    assert table.run().again_in == 60
    table.now += 59
    assert table.run().again_in == 1
    table.now += 1
    assert [each.why for each in table.run().returns] == ["no pod uses it"]
    assert table.nodes() == {}


def test_a_pod_that_comes_back_stops_the_clock() -> None:
    table = Table({"a": 8}, make_claim("c"), make_pod("p", "c"))
    table.run()
    table.drop(Workload, "p")
    table.run()
    table.now += 59
    table.put(make_pod("q", "c"))
    table.run()
    table.drop(Workload, "q")
    table.now += 10
    assert table.run().again_in == 60


def test_used_immediate_foreign_and_unknown_allocations_stay() -> None:
    used = make_claim("used", allocation=allocate(make_claim("x"), "a", "gpu-0"), reserved="gone")
    immediate = make_claim("now", policy="immediate", allocation=allocate(make_claim("x"), "a", "gpu-1"))
    foreign = make_claim("foreign", policy="none", allocation=allocate(make_claim("x"), "a", "gpu-2"))
    unknown = make_claim("unknown", policy="bad", allocation=allocate(make_claim("x"), "a", "gpu-3"))
    other = make_claim("other", allocation=allocate(make_claim("x"), "elsewhere", "gpu-4"))
    kept = make_claim("kept", allocation=allocate(make_claim("x"), "a", "gpu-5"))
    table = Table({"a": 8}, used, immediate, foreign, unknown, other, kept, make_pod("gated", "kept", gated=True))
    table.run()
    table.now += 1000
    assert table.run() == Decision()


def test_a_claim_whose_fellows_do_not_fit_beside_it_is_taken_back() -> None:
    """The controller ended between the two writes, and meanwhile somebody took the rest of the node."""
    table = Table({"a": 2, "b": 3}, make_claim("x"), make_claim("y", 2), make_pod("p", "x", "y"))
    table.allocate("x", allocate(table.claim("x"), "a", "gpu-0"))
    decision = table.run()
    assert [each.claim.metadata.name for each in decision.returns] == ["x"]
    table.run()
    assert table.nodes() == {"x": "b", "y": "b"}


def test_a_claim_of_another_pod_is_not_taken_back_for_its_fellows() -> None:
    table = Table({"a": 2}, make_claim("shared"), make_claim("y", 2), make_pod("first", "shared", priority=1))
    table.put(make_pod("second", "shared", "y"))
    table.allocate("shared", allocate(table.claim("shared"), "a", "gpu-0"))
    assert table.run().returns == ()
    foreign = make_claim("shared", allocation=allocate(table.claim("shared"), "elsewhere", "nic-0"))
    assert Table({"a": 1}, foreign, make_claim("y"), make_pod("p", "shared", "y")).run().returns == ()
