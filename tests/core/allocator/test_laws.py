"""Laws of the allocator, on random clusters: whatever is given away is there, and nothing that fits is refused."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from hypothesis import given, settings

from driver.core.allocator import FIRST_FIT, Allocated, InvalidClaim, Snapshot, Unsatisfiable, allocate, bounds
from driver.core.allocator.devices import DeviceId
from driver.core.allocator.plans import Plan, make_plan
from driver.core.allocator.requests import compile_claim
from driver.core.allocator.search import Outcome, Search
from driver.core.allocator.tracking import Ledger
from driver.model.claims import Allocation, ClaimStatus
from driver.model.objects import ObjectMeta
from driver.model.published import PublishedSlice
from driver.model.wanted import Claim
from tests.fakes import clusters
from tests.fakes.allocation_checker import World, check
from tests.fakes.clusters import CLASSES, NODE, Problem

EXAMPLES = settings(max_examples=60, deadline=None)


def answer(snapshot: Snapshot, claims: Sequence[Claim]) -> Allocated | Unsatisfiable | InvalidClaim:
    try:
        return allocate(snapshot, NODE, claims)
    except InvalidClaim as error:
        return error


def allocated(claim: Claim, allocation: Allocation) -> Claim:
    return msgspec.structs.replace(claim, status=ClaimStatus(allocation=allocation))


@EXAMPLES
@given(clusters.problems())
def test_every_result_is_valid(problem: Problem) -> None:
    outcome = answer(problem.snapshot, problem.claims)
    if isinstance(outcome, Allocated):
        assert check(World(NODE, problem.slices, CLASSES), problem.claims, outcome.allocations) == []


@EXAMPLES
@given(clusters.problems())
def test_nothing_is_ever_given_away_twice_until_the_node_is_full(problem: Problem) -> None:
    snapshot = problem.snapshot
    for number in range(12):
        claims = [msgspec.structs.replace(each, metadata=_rename(each, number)) for each in problem.claims]
        outcome = answer(snapshot, claims)
        if not isinstance(outcome, Allocated):
            return
        assert check(World(NODE, problem.slices, CLASSES, snapshot.allocated), claims, outcome.allocations) == []
        pairs = zip(claims, outcome.allocations, strict=True)
        snapshot = snapshot.with_claims(*(allocated(claim, allocation) for claim, allocation in pairs))


def _rename(claim: Claim, number: int) -> ObjectMeta:
    name, uid = f"{claim.metadata.name}-{number}", f"{claim.metadata.uid}-{number}"
    return msgspec.structs.replace(claim.metadata, name=name, uid=uid)


@EXAMPLES
@given(clusters.problems())
def test_the_same_question_has_the_same_answer_whatever_was_asked_before(problem: Problem) -> None:
    snapshot = problem.snapshot
    outcome = answer(snapshot, problem.claims)
    again, fresh = answer(snapshot, problem.claims), answer(problem.snapshot, problem.claims)
    if isinstance(outcome, InvalidClaim):
        assert str(outcome) == str(again) == str(fresh)
    else:
        assert outcome == again == fresh


@EXAMPLES
@given(clusters.problems())
def test_what_is_given_back_can_be_had_again(problem: Problem) -> None:
    outcome = answer(problem.snapshot, problem.claims)
    if isinstance(outcome, Allocated):
        held = [allocated(claim, each) for claim, each in zip(problem.claims, outcome.allocations, strict=True)]
        released = problem.snapshot.with_claims(*held).without_claims(*held)
        assert answer(released, problem.claims) == outcome


@EXAMPLES
@given(clusters.problems())
def test_a_device_that_is_not_needed_can_be_taken_away(problem: Problem) -> None:
    outcome = answer(problem.snapshot, problem.claims)
    wants_all = any(
        each.allocation_mode == "All"
        for claim in problem.claims
        for request in claim.spec.devices.requests
        for each in (request.exactly, *request.first_available)
        if each is not None
    )
    if isinstance(outcome, Allocated) and not wants_all:
        used = {result.device for each in outcome.allocations for result in each.devices.results}
        kept = [_keep(each, used) for each in problem.slices]
        smaller = answer(Snapshot(kept, CLASSES), problem.claims)
        assert isinstance(smaller, Allocated)
        assert smaller.allocations == outcome.allocations


def _keep(each: PublishedSlice, names: set[str]) -> PublishedSlice:
    devices = tuple(device for device in each.spec.devices if device.name in names)
    return msgspec.structs.replace(each, spec=msgspec.structs.replace(each.spec, devices=devices))


@EXAMPLES
@given(clusters.problems())
def test_without_one_of_its_devices_an_answer_is_another_one(problem: Problem) -> None:
    outcome = answer(problem.snapshot, problem.claims)
    if isinstance(outcome, Allocated):
        used = {result.device for each in outcome.allocations for result in each.devices.results}
        published = {device.name for each in problem.slices for device in each.spec.devices}
        for name in used:
            kept = [_keep(each, published - {name}) for each in problem.slices]
            smaller = answer(Snapshot(kept, CLASSES), problem.claims)
            if isinstance(smaller, Allocated):
                assert check(World(NODE, kept, CLASSES), problem.claims, smaller.allocations) == []
                assert smaller.allocations != outcome.allocations


@EXAMPLES
@given(clusters.problems())
def test_what_the_search_skips_holds_no_answer(problem: Problem) -> None:
    """The same search that skips nothing finds the same devices, or none either."""
    try:
        plan = _plan(problem)
        quick, thorough = (_search(problem, plan, is_thorough=each) for each in (False, True))
        ahead = _search(problem, plan, is_thorough=False, looks_ahead=True)
    except InvalidClaim:
        return
    assert quick == thorough
    assert ahead == thorough


@EXAMPLES
@given(clusters.problems())
def test_what_is_proved_impossible_is_and_what_is_struck_out_is_in_no_answer(problem: Problem) -> None:
    try:
        plan = _plan(problem)
        found = _search(problem, plan, is_thorough=True)
    except InvalidClaim:
        return
    narrowed = bounds.prove(plan, problem.snapshot.usage, with_lists=False)
    if isinstance(narrowed, Plan):
        assert _search(problem, narrowed, is_thorough=False) == found
    else:
        assert found is None


def _plan(problem: Problem) -> Plan:
    snapshot = problem.snapshot
    compiled = [compile_claim(claim, position, CLASSES) for position, claim in enumerate(problem.claims)]
    return make_plan(snapshot.pools.gather(NODE), compiled, snapshot.usage, snapshot.evaluate)


def _search(problem: Problem, plan: Plan, *, is_thorough: bool, looks_ahead: bool = False) -> list[DeviceId] | None:
    ledger = Ledger(plan.pools, plan.claims, problem.snapshot.usage, with_lists=False)
    search = Search(plan, ledger, FIRST_FIT, is_thorough=is_thorough, looks_ahead=looks_ahead)
    outcome = search.run(1_000_000)
    return [each.device.id for each in ledger.taken] if outcome is Outcome.FOUND else None
