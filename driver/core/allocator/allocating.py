"""Allocate claims on a node: compile, plan, search, write down. The allocator's one verb."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from driver.core.allocator import bounds, results
from driver.core.allocator.bounds import Proof
from driver.core.allocator.nodes import NodeView
from driver.core.allocator.orders import FIRST_FIT, CandidateOrder
from driver.core.allocator.outcomes import Allocated, Unsatisfiable
from driver.core.allocator.plans import Plan, make_plan
from driver.core.allocator.pools import DevicePool, Fault
from driver.core.allocator.reporting import SILENT, Reporter
from driver.core.allocator.requests import compile_claim
from driver.core.allocator.search import Outcome, Search
from driver.core.allocator.snapshots import Books, Snapshot
from driver.core.allocator.tracking import Ledger
from driver.model.wanted import Claim

_EASY_STEPS: Final = 64
"""Most searches need no more; only then are the bounds that look at all candidates worth their time."""
_MAX_THOROUGH_STEPS: Final = 100_000
"""Where the search may abort, it first goes where upstream goes: what ends it for all nodes is found there too."""
MAX_STEPS: Final = 1_000_000
"""A few seconds at worst. Choosing under counters and constraints is bin packing: some claims have no quick answer."""


def allocate(
    snapshot: Snapshot,
    node: NodeView,
    claims: Sequence[Claim],
    *,
    order: CandidateOrder = FIRST_FIT,
    reporter: Reporter = SILENT,
    max_steps: int = MAX_STEPS,
) -> Allocated | Unsatisfiable:
    """Find devices on a node for claims that belong together, in their order. The snapshot is not changed.

    After `max_steps` choices the search is given up; the outcome then says that it is not proven.

    Raises `InvalidClaim` if the claims cannot be allocated on any node: the scheduling of their pod is aborted, also
    for other nodes.
    """
    compiled = [compile_claim(claim, position, snapshot.classes) for position, claim in enumerate(claims)]
    pools = snapshot.pools.gather(node)
    plan = make_plan(pools, compiled, snapshot.usage, snapshot.evaluate)
    if not reporter.is_silent:
        reporter.planned(plan)
    search, outcome, steps = search_first(plan, snapshot, order, reporter, max_steps)
    if search is None or outcome is not Outcome.FOUND:
        return Unsatisfiable(find_message(pools), steps, is_proven=outcome is Outcome.NONE)
    return _describe(plan, search, node)


def search_first(
    plan: Plan, books: Books, order: CandidateOrder = FIRST_FIT, reporter: Reporter = SILENT, max_steps: int = MAX_STEPS
) -> tuple[Search | None, Outcome, int]:
    """Return the search that found the first answer, how it ended, and the steps made. Raises `InvalidClaim`."""
    search, steps = _start(plan, books, order, reporter)
    if search is None:
        return None, Outcome.NONE, steps
    outcome = search.run(max_steps)
    return search, outcome, steps + search.steps


def _start(plan: Plan, books: Books, order: CandidateOrder, reporter: Reporter) -> tuple[Search | None, int]:
    """Return a search that is worth going on with, or None if there is no answer; and the steps made until then."""
    shortage = bounds.find_shortage(plan)
    if shortage is not None and not plan.may_abort:
        _tell(reporter, shortage)
        return None, 0
    search = Search(plan, open_ledger(plan, books), order, reporter, is_thorough=plan.may_abort)
    outcome = search.run(_MAX_THOROUGH_STEPS if plan.may_abort else _EASY_STEPS)
    if outcome is not Outcome.UNDECIDED:
        return (search if outcome is Outcome.FOUND else None), search.steps
    if plan.may_abort:
        search.be_quick()
        return search, 0
    narrowed = bounds.prove(plan, books.usage, with_lists=books.list_attributes)
    if not isinstance(narrowed, Plan):
        _tell(reporter, narrowed)
        return None, search.steps
    return Search(narrowed, open_ledger(narrowed, books), order, reporter, looks_ahead=True), search.steps


def _tell(reporter: Reporter, proof: Proof) -> None:
    if not reporter.is_silent:
        reporter.proved(proof)


def open_ledger(plan: Plan, books: Books) -> Ledger:
    """Return the books of a new search."""
    return Ledger(plan.pools, plan.claims, books.usage, with_lists=books.list_attributes)


def find_message(pools: Sequence[DevicePool]) -> str:
    """Say which pools of a node are invalid; empty if none is."""
    broken = [f"{pool} ({pool.reason})" for pool in pools if pool.fault is Fault.INVALID]
    return f"invalid resource pools were encountered: {', '.join(broken)}" if broken else ""


def _describe(plan: Plan, search: Search, node: NodeView) -> Allocated:
    allocations = []
    ranks = [search.ranks.get(slot, 0) for slot in range(len(plan.slots))]
    for position, claim in enumerate(plan.claims):
        own = [rank for slot, rank in zip(plan.slots, ranks, strict=True) if slot.claim == position]
        taken = [each for each in search.ledger.taken if each.claim == position]
        allocations.append(results.describe(claim, own, taken, node))
    chosen = tuple(rank for slot, rank in zip(plan.slots, ranks, strict=True) if slot.is_list)
    return Allocated(tuple(allocations), chosen, search.steps)
