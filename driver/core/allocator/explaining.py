"""Why claims cannot be had on a node: the allocator's answer, taken apart. Works for claims of any driver.

Called by the controller, by `accel-dra explain` and by the scheduler of the simulation. What selectors say of devices
is remembered with the slices, so that a claim is explained on many nodes for the price of looking at each device once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from driver.core.allocator import bounds, guards, joint, sieve, summarizing
from driver.core.allocator.allocating import allocate
from driver.core.allocator.diagnosing import Case, diagnose
from driver.core.allocator.nodes import NodeView, concerns
from driver.core.allocator.outcomes import InvalidClaim, Unsatisfiable
from driver.core.allocator.plans import Plan, SelectorFailed
from driver.core.allocator.pools import DevicePool, Fault
from driver.core.allocator.reasons import Blocked, Code, Explanation, NodeReport, Reason
from driver.core.allocator.reporting import Collecting
from driver.core.allocator.requests import Slot, Wanted
from driver.core.allocator.snapshots import Snapshot
from driver.model.wanted import Claim

_STEPS: Final = 2_000
"""The search is only made to hear what is in the way; the bounds have told what they can by then."""


def explain(snapshot: Snapshot, nodes: Iterable[NodeView], claims: Sequence[Claim]) -> Explanation:
    """Return why none of these nodes can give the claims their devices; without a text if one can."""
    reports: list[NodeReport] = []
    for node in sorted(nodes, key=lambda each: each.name):
        report = explain_node(snapshot, node, claims)
        if not report.blocked:
            return Explanation("")
        reports.append(report)
        if report.is_fatal:
            break
    return summarizing.summarize(reports)


def explain_node(snapshot: Snapshot, node: NodeView, claims: Sequence[Claim]) -> NodeReport:
    """Return what is in the way on one node; nothing if the claims can be had there."""
    report = Collecting()
    try:
        outcome = allocate(snapshot, node, claims, reporter=report, max_steps=_STEPS)
    except InvalidClaim as error:
        return NodeReport(node.name, (_describe_invalid(error, claims, snapshot, node),), is_fatal=True)
    if not isinstance(outcome, Unsatisfiable) or report.plan is None:
        return NodeReport(node.name)
    plan = report.plan
    blocked = [
        _block(plan, slot, reason)
        for position, slot in enumerate(plan.slots)
        if (reason := _diagnose_slot(snapshot, node, plan, position)) is not None
    ]
    if blocked:
        return NodeReport(node.name, tuple(blocked))
    if report.proof is None:
        proof = bounds.prove(plan, snapshot.usage, with_lists=snapshot.list_attributes)
        report.proof = None if isinstance(proof, Plan) else proof
    return NodeReport(node.name, (joint.explain(plan, report),))


def _describe_invalid(error: InvalidClaim, claims: Sequence[Claim], snapshot: Snapshot, node: NodeView) -> Blocked:
    claim = str(claims[0]) if len(claims) == 1 else ""
    if not isinstance(error, SelectorFailed):
        return Blocked(claim, "", "", Reason(error.code, str(error)))
    pools = [pool for pool in snapshot.pools.gather(node) if pool.fault is None]
    faulty = sieve.sift(pools, error.wanted.shape, snapshot.evaluate).faulty
    text = guards.describe(error, list(faulty), snapshot.evaluate)
    return Blocked(claim, error.wanted.name, "", Reason(error.code, text))


def _block(plan: Plan, slot: Slot, reason: Reason) -> Blocked:
    name = slot.alternatives[0].name.partition("/")[0]
    return Blocked(str(plan.claims[slot.claim].claim), name, joint.describe_count(slot), reason)


def _diagnose_slot(snapshot: Snapshot, node: NodeView, plan: Plan, position: int) -> Reason | None:
    """Return why a request cannot be had by itself: for a list, why none of its alternatives can."""
    slot = plan.slots[position]
    found: list[tuple[Wanted, Reason]] = []
    for wanted in slot.alternatives:
        reason = _diagnose(snapshot, node, plan, wanted)
        if reason is None:
            return None
        found.append((wanted, reason))
    return found[0][1] if not slot.is_list else _join(found)


def _diagnose(snapshot: Snapshot, node: NodeView, plan: Plan, wanted: Wanted) -> Reason | None:
    fit = [pool for pool in plan.pools if pool.fault is None]
    sifted = sieve.sift(fit, wanted.shape, snapshot.evaluate)
    reason = diagnose(Case(wanted, sifted, {pool.key: pool for pool in fit}, snapshot.usage))
    if reason is not None and reason.code in (Code.NO_DEVICES, Code.SELECTOR_MISMATCH) and not sifted.matched:
        return _find_unfit(snapshot, node, plan.pools) or reason
    return reason


def _find_unfit(snapshot: Snapshot, node: NodeView, pools: Sequence[DevicePool]) -> Reason | None:
    """Return the first pool of the node from which nothing is allocated now, and why."""
    for pool in pools:
        if pool.fault is not None and any(concerns(each.spec, node) for each in pool.generation.slices):
            code = Code.POOL_INVALID if pool.fault is Fault.INVALID else Code.POOL_INCOMPLETE
            return Reason(code, f"pool {pool} {pool.fault.value}: {pool.reason}")
    for key in snapshot.pools.find_replaced(node):
        return Reason(Code.POOL_OBSOLETE, f"pool {'/'.join(key)} is being replaced by a newer generation")
    return None


def _join(found: Sequence[tuple[Wanted, Reason]]) -> Reason:
    """Return one reason for a list of alternatives; those that fail alike are told together."""
    by_text: dict[str, list[str]] = {}
    for wanted, reason in found:
        by_text.setdefault(reason.text, []).append(wanted.name.partition("/")[2])
    text = ", ".join(f"{' and '.join(names)}: {text}" for text, names in by_text.items())
    holders = tuple(sorted({holder for _, reason in found for holder in reason.holders}))
    return Reason(found[-1][1].code, text, holders)
