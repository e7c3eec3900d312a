"""One term, step by step: what it writes in which order, and what it does when a write goes astray."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest

from driver.controller.terms import Hands, Report, Term, TermEnded, one_by_one
from driver.core.deciding.memory import Memory, Patience
from driver.core.deciding.world import Reason, World
from driver.model.claims import DELETE_PROTECTION, Allocation
from driver.model.errors import Conflict, Forbidden, NotFound, Rejected, Unavailable
from driver.model.wanted import Claim
from tests.fakes import claim_store
from tests.fakes.claim_store import Copy, Network, Store
from tests.fakes.controlled import ask, make_claim, make_node, make_pod
from tests.fakes.stock import Stock, allocate

NODES = {"a": make_node("a")}


class Bench:
    """One controller, a store, and devices."""

    def __init__(self, devices: int = 1, *claims: Claim) -> None:
        self.store = Store()
        self.devices = devices
        self.time = 0.0
        self.leading = 0
        self.put(*claims)
        self.network, self.copy, self.term = self.join()

    def join(self) -> tuple[Network, Copy, Term]:
        """Return what a new leader has."""
        network, copy = Network(self.store), Copy(self.store)
        self.leading += 1
        number = self.leading
        self.hands = Hands(
            claims=network,
            leads=lambda: self.leading == number,
            do_all=one_by_one,
            clock=lambda: self.time,
            now=lambda: dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
        )
        copy.relist()
        return network, copy, Term(self.hands, Memory(Patience(grace=10)))

    def put(self, *claims: Claim) -> None:
        for claim in claims:
            self.store.create(claim)
            self.store.pods[f"team/{claim.metadata.name}"] = make_pod(claim.metadata.name, claim.metadata.name)

    def step(self, *, sees: bool = True) -> Report:
        if sees:
            self.copy.advance(1000)
        world = World(dict(self.copy.claims), dict(self.store.pods), NODES, {})
        return self.term.step(world, Stock({"a": self.devices}), ask)

    def take_over(self) -> None:
        """Let another controller lead from now on."""
        self.network, self.copy, self.term = self.join()
        self.term.open()
        self.copy.relist()

    def claim(self, name: str) -> Claim:
        return self.store.claims[f"team/{name}"]

    def holders(self) -> list[str]:
        return sorted(each.metadata.name for each in self.store.claims.values() if each.status.allocation)


def errors(report: Report) -> list[type]:
    return [type(each.error) for each in report.allocated if each.error]


def test_the_finalizer_is_written_before_the_allocation() -> None:
    bench = Bench(1, make_claim("c"))
    report = bench.step()
    assert bench.network.written == [("protect", "c"), ("allocate", "c")]
    assert [(each.node, each.devices, each.error) for each in report.allocated] == [("a", 1, None)]
    allocation = bench.claim("c").status.allocation
    assert allocation is not None
    assert allocation.allocation_timestamp == "2026-01-02T03:04:05Z"
    assert bench.claim("c").metadata.finalizers == (DELETE_PROTECTION,)


def test_a_finalizer_that_is_there_is_not_written_again() -> None:
    bench = Bench(1, make_claim("c"))
    bench.network.protect(bench.claim("c"))
    bench.network.written.clear()
    bench.step()
    assert bench.network.written == [("allocate", "c")]


def test_the_next_decision_knows_what_was_written_before_the_watch_does() -> None:
    bench = Bench(1, make_claim("c"), make_claim("d"))
    bench.step()
    assert bench.holders() == ["c"]
    report = bench.step(sees=False)
    assert [each.reason for each in report.decision.waiting] == [Reason.NO_DEVICES]
    assert bench.holders() == ["c"]


def test_an_allocation_is_never_overwritten() -> None:
    bench = Bench(2, make_claim("c"))
    other = allocate(bench.claim("c"), "a", "gpu-1")
    bench.store.change(bench.claim("c"), lambda now: claim_store.with_status(now, allocation=other))
    report = bench.step(sees=False)
    assert errors(report) == [Conflict]
    assert bench.claim("c").status.allocation == other
    assert not bench.step(sees=False).allocated  # it was read again at once


def test_nothing_of_a_bundle_is_allocated_if_one_of_its_claims_cannot_be_protected() -> None:
    group = [make_claim(f"g{index}", policy="group-2", group="g") for index in range(2)]
    bench = Bench(2, *group)
    bench.network.faults = {"protect": "refuse"}
    assert errors(bench.step()) == [Unavailable]
    assert bench.holders() == []
    bench.step()
    assert bench.holders() == ["g0", "g1"]


@pytest.mark.parametrize("fault", ["lose", "late", "refuse"])
def test_a_write_of_unknown_outcome_holds_its_devices_until_it_is_known(fault: str) -> None:
    bench = Bench(1, make_claim("c", at="2026-01-01T00:00:00Z"), make_claim("d"))
    bench.network.faults = {"allocate": fault}
    bench.step()
    bench.network.faults = {"read": "refuse"}
    urgent = make_pod("d", "d", priority=9)
    bench.store.pods["team/d"] = urgent
    bench.step()
    assert "d" not in bench.holders()  # nobody knows yet who has the device
    bench.step()
    for request in bench.network.late:
        with pytest.raises(Conflict):
            request()
    assert bench.holders() == (["c"] if fault == "lose" else ["d"])


def test_a_write_of_an_earlier_leader_that_arrives_late_is_refused() -> None:
    bench = Bench(1, make_claim("c"))
    bench.network.faults = {"allocate": "late"}
    bench.step()
    (late,) = bench.network.late
    bench.put(make_claim("urgent"))
    bench.store.pods["team/urgent"] = make_pod("urgent", "urgent", priority=9)
    bench.take_over()
    bench.step()
    assert bench.holders() == ["urgent"]
    with pytest.raises(Conflict):
        late()
    assert bench.holders() == ["urgent"]


def test_an_allocation_that_arrived_before_the_takeover_is_seen() -> None:
    bench = Bench(1, make_claim("c"))
    bench.network.faults = {"allocate": "late"}
    bench.step()
    bench.network.late[0]()
    bench.put(make_claim("urgent"))
    bench.take_over()
    bench.step()
    assert bench.holders() == ["c"]


def test_a_claim_that_is_being_deleted_is_fenced_off_as_well() -> None:
    bench = Bench(1, make_claim("c"))
    bench.network.faults = {"allocate": "late"}
    bench.step()
    (late,) = bench.network.late
    bench.store.delete(bench.claim("c"))
    bench.put(make_claim("d"))
    bench.take_over()
    bench.step()
    with pytest.raises(NotFound):
        late()
    assert bench.holders() == ["d"]


def test_a_term_that_cannot_be_opened_is_opened_again() -> None:
    bench = Bench(1, make_claim("c"), make_claim("d"))
    for name in ("c", "d"):
        bench.network.protect(bench.claim(name))
    network, _, term = bench.join()
    network.faults = {"unprotect": "refuse"}
    with pytest.raises(Unavailable):
        term.open()
    term.open()
    assert [bench.claim(name).metadata.finalizers for name in ("c", "d")] == [(), ()]


def test_a_claim_that_cannot_be_changed_holds_a_term_up_only_until_no_request_can_be_under_way() -> None:
    bench = Bench(1, make_claim("c"), make_claim("d"))
    bench.network.protect(bench.claim("c"))
    network, copy, term = bench.join()

    def refuse() -> None:
        raise Forbidden("denied by an admission policy")

    for time in (0.0, 119.0):
        bench.time = time
        network.faults = {"unprotect": refuse}
        with pytest.raises(Forbidden, match=r"claim team/c cannot be changed, .*: denied by an admission policy"):
            term.open()
    bench.time = 120.0
    network.faults = {"unprotect": refuse}
    term.open()
    bench.network, bench.copy, bench.term = network, copy, term
    copy.relist()
    bench.step()
    assert len(bench.holders()) == 1


def test_a_server_that_is_away_is_asked_about_one_doubt_only() -> None:
    bench = Bench(3, *(make_claim(name) for name in "abc"))
    faults = dict.fromkeys("abc", "late")

    class Dead(Network):
        def allocate(self, claim: Claim, allocation: Allocation) -> Claim:
            self.faults["allocate"] = faults[claim.metadata.name]
            return super().allocate(claim, allocation)

        def fetch(self, claim: Claim) -> Claim | None:
            asked.append(claim.metadata.name)
            raise Unavailable("away")

    asked: list[str] = []
    network = Dead(bench.store)
    bench.term = Term(dataclasses.replace(bench.hands, claims=network), Memory(Patience()))
    bench.step()
    bench.step()
    assert asked == ["a"]


def test_a_defect_while_writing_leaves_the_devices_held() -> None:
    bench = Bench(1, make_claim("c"), make_claim("d"))

    def fail() -> None:
        raise ZeroDivisionError

    bench.network.faults = {"allocate": fail}
    with pytest.raises(ZeroDivisionError):
        bench.step()
    bench.network.faults = {"read": "refuse"}
    bench.step()
    assert bench.holders() == []
    bench.step()
    assert len(bench.holders()) == 1


def test_a_conflict_that_cannot_be_looked_into_leaves_the_devices_held() -> None:
    bench = Bench(1, make_claim("c"), make_claim("d"))

    def send_twice() -> None:
        given = allocate(bench.claim("c"), "a", "gpu-0")
        bench.store.change(bench.claim("c"), lambda now: claim_store.with_status(now, allocation=given))
        bench.network.faults["read"] = "refuse"

    bench.network.faults = {"allocate": send_twice}
    assert errors(bench.step()) == [Conflict]
    bench.network.faults["read"] = "refuse"
    bench.step(sees=False)
    bench.step(sees=False)
    assert bench.holders() == ["c"]


def test_what_the_server_refuses_to_take_back_is_left_alone_for_a_while() -> None:
    bench = Bench(1, make_claim("c"))

    def refuse() -> None:
        raise Rejected("denied by policy")

    bench.network.faults = {"clear": refuse}
    report = release(bench)
    assert [outcome.error for outcome, _ in report.returned if isinstance(outcome.error, Rejected)]
    assert not bench.step().returned
    bench.time += 1.0
    bench.step()
    assert bench.holders() == []


def test_a_claim_that_somebody_allocates_while_it_is_fenced_off_is_left_alone() -> None:
    bench = Bench(1, make_claim("c"))
    bench.network.protect(bench.claim("c"))
    network, _, term = bench.join()
    given = allocate(bench.claim("c"), "a", "gpu-0")

    def allocate_meanwhile() -> None:
        bench.store.change(bench.claim("c"), lambda now: claim_store.with_status(now, allocation=given))

    network.faults = {"unprotect": allocate_meanwhile}
    term.open()
    assert bench.claim("c").metadata.finalizers == (DELETE_PROTECTION,)


def test_nothing_is_written_once_the_term_is_over() -> None:
    bench = Bench(2, make_claim("c"), make_claim("d"))

    def end() -> None:
        bench.leading += 1

    bench.network.faults = {"protect": end}
    with pytest.raises(TermEnded):
        bench.step()
    assert bench.network.written == [("protect", "c")]
    assert bench.holders() == []


def test_a_claim_that_the_server_refuses_to_change_is_left_alone_for_a_growing_while() -> None:
    bench = Bench(1, make_claim("c"), make_claim("d"))

    def refuse() -> None:
        raise Rejected("denied by policy")

    bench.network.faults = {"protect": refuse}
    assert errors(bench.step()) == [Rejected]
    report = bench.step()
    assert bench.holders() == ["d"]
    (waiting,) = report.decision.waiting
    assert (waiting.reason, waiting.text) == (Reason.REFUSED, "the API server refused the allocation: denied by policy")
    assert bench.step().retry_in == 1.0


def test_a_missing_right_is_told_and_tried_again() -> None:
    bench = Bench(1, make_claim("c"))

    def forbid() -> None:
        raise Forbidden("no resourceclaims/binding")

    bench.network.faults = {"allocate": forbid}
    assert errors(bench.step()) == [Forbidden]
    assert not bench.step().allocated
    bench.time += 1.0
    bench.step()
    assert bench.holders() == ["c"]


def release(bench: Bench) -> Report:
    """Delete the pod of claim c and let the grace time pass."""
    bench.step()
    del bench.store.pods["team/c"]
    bench.step()
    bench.time += 10
    return bench.step()


def test_what_nobody_uses_is_taken_back_allocation_first() -> None:
    bench = Bench(1, make_claim("c"))
    report = release(bench)
    assert [why for _, why in report.returned] == ["no pod uses it"]
    assert bench.network.written[-2:] == [("clear", "c"), ("unprotect", "c")]
    assert bench.claim("c").metadata.finalizers == ()


def test_a_claim_that_was_reserved_meanwhile_is_kept() -> None:
    bench = Bench(1, make_claim("c"))
    bench.step()
    del bench.store.pods["team/c"]
    bench.step()
    bench.time += 10
    bench.copy.advance(1000)
    claim_store.reserve(bench.store, bench.claim("c"), make_pod("late", "c"))
    report = bench.step(sees=False)
    assert [type(outcome.error) for outcome, _ in report.returned] == [Conflict]
    assert bench.holders() == ["c"]


def test_a_pod_that_only_the_api_server_knows_keeps_its_claim() -> None:
    bench = Bench(1, make_claim("c"))
    bench.step()
    pods = dict(bench.store.pods)
    bench.copy.advance(1000)
    world = World(dict(bench.copy.claims), {}, NODES, {})
    bench.term.step(world, Stock({"a": 1}), ask)
    bench.time += 10
    report = bench.term.step(world, Stock({"a": 1}), ask)
    assert pods
    assert [str(outcome.error) for outcome, _ in report.returned] == ["it is used by now"]
    assert bench.holders() == ["c"]


def test_devices_are_free_again_as_soon_as_they_were_taken_back() -> None:
    bench = Bench(1, make_claim("c"))
    release(bench)
    bench.put(make_claim("d"))
    bench.copy.advance(1)
    bench.step()
    assert bench.holders() == ["d"]
