"""Allocate claims on a node: compile, plan, search, write down. The allocator's one verb."""

from __future__ import annotations

from collections.abc import Sequence

from driver.core.allocator import results
from driver.core.allocator.nodes import NodeView
from driver.core.allocator.orders import FIRST_FIT, CandidateOrder
from driver.core.allocator.outcomes import Allocated, Unsatisfiable
from driver.core.allocator.plans import Plan, make_plan
from driver.core.allocator.pools import DevicePool, Fault
from driver.core.allocator.requests import compile_claim
from driver.core.allocator.search import Search
from driver.core.allocator.snapshots import Snapshot
from driver.core.allocator.tracking import Ledger
from driver.model.wanted import Claim


def allocate(
    snapshot: Snapshot, node: NodeView, claims: Sequence[Claim], *, order: CandidateOrder = FIRST_FIT
) -> Allocated | Unsatisfiable:
    """Find devices on a node for claims that belong together, in their order. The snapshot is not changed.

    Raises `InvalidClaim` if the claims cannot be allocated on any node: the scheduling of their pod is aborted, also
    for other nodes.
    """
    compiled = [compile_claim(claim, position, snapshot.classes) for position, claim in enumerate(claims)]
    pools = snapshot.pools.gather(node)
    plan = make_plan(pools, compiled, snapshot.usage, snapshot.evaluate)
    ledger = Ledger(pools, plan.claims, snapshot.usage, with_lists=snapshot.list_attributes)
    search = Search(plan, ledger, order)
    if not search.run():
        return Unsatisfiable(_find_message(pools), search.steps)
    return _describe(plan, search, node)


def _find_message(pools: Sequence[DevicePool]) -> str:
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
