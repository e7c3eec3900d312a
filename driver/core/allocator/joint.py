"""Why requests that could each be had alone cannot be had together. Called by `explaining`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from driver.core.allocator import misses, wording
from driver.core.allocator.bounds import (
    CountersShort,
    NoCommonValue,
    Proof,
    TooFew,
    TooFewGroups,
    TooFewTogether,
    TooFewValues,
)
from driver.core.allocator.plans import Plan
from driver.core.allocator.reasons import Blocked, Code, Reason
from driver.core.allocator.reporting import Collecting
from driver.core.allocator.requests import Rule, Slot
from driver.core.allocator.tracking import Refusal

_CODES: Final = {
    Refusal.IN_USE: Code.NO_COMBINATION,
    Refusal.CAPACITY: Code.CAPACITY_EXCEEDED,
    Refusal.COUNTERS: Code.COUNTERS_EXHAUSTED,
    Refusal.TAINT: Code.TAINTED,
    Refusal.CONSTRAINT: Code.CONSTRAINT_UNSATISFIED,
}


def explain(plan: Plan, report: Collecting) -> Blocked:
    """Return what keeps the requests of a plan from being had together."""
    if report.proof is not None:
        return _block(plan, *_explain_proof(plan, report.proof))
    return _explain_search(plan, report)


def _explain_proof(plan: Plan, proof: Proof) -> tuple[Sequence[int], Reason]:
    match proof:
        case NoCommonValue(rule, slots, values):
            return slots, Reason(Code.CONSTRAINT_UNSATISFIED, _no_common_value(plan, rule, values))
        case TooFewValues(rule, slots, needed, found):
            text = f"{wording.count(needed, 'device')} must differ in {rule.attribute}, which has {found} values there"
            return slots, Reason(Code.CONSTRAINT_UNSATISFIED, text)
        case TooFewTogether(slots, needed, found):
            return slots, Reason(Code.NO_COMBINATION, f"together they need {needed} devices, {found} free")
        case TooFewGroups(attribute, sets, values):
            text = f"free devices {wording.places(attribute, values)}, too few for {sets} sets of one value each"
            return tuple(range(len(plan.slots))), Reason(Code.CONSTRAINT_UNSATISFIED, text)
        case CountersShort(counter, slots):
            text = f"together they need more of counter {counter} than is left"
            return slots, Reason(Code.COUNTERS_EXHAUSTED, text)
        case TooFew(slot):
            text = "constraints leave too few devices"
            return (slot,), Reason(Code.CONSTRAINT_UNSATISFIED, text)


def _no_common_value(plan: Plan, rule: Rule, values: Mapping[str, int]) -> str:
    if not values:
        hint = misses.suggest_attribute(rule.attribute, (device for pool in plan.pools for device in pool.devices))
        return f"no free device has the attribute {rule.attribute}, in which they must match{hint}"
    return f"free devices {wording.places(rule.attribute, values)}"


def _explain_search(plan: Plan, report: Collecting) -> Blocked:
    """Take the request that the search came furthest to, and what refused most of its candidates."""
    slot = max(report.refusals, default=0)
    refusals = Counter(
        (refusal, constraint.rule if constraint is not None else None)
        for refusal, constraint in report.refusals.get(slot, {}).values()
    )
    if not refusals:
        return _block(plan, range(len(plan.slots)), Reason(Code.NO_COMBINATION, "the devices do not go together"))
    (refusal, rule), number = max(refusals.items(), key=lambda each: each[1])
    return _block(plan, (slot,), Reason(_CODES[refusal], _describe_refusal(refusal, rule, number)))


def _describe_refusal(refusal: Refusal, rule: Rule | None, number: int) -> str:
    devices = wording.count(number, "device")
    match refusal:
        case Refusal.IN_USE:
            return f"{devices} are needed by other requests"
        case Refusal.CAPACITY:
            return f"what else is asked for leaves too little capacity of {devices}"
        case Refusal.COUNTERS:
            return f"what else is asked for leaves too little of the counters of {devices}"
        case Refusal.TAINT:
            return f"{devices} are tainted"
    kind = "matchAttribute" if rule is not None and rule.is_match else "distinctAttribute"
    return f"{devices} do not satisfy {kind} {rule.attribute if rule else ''}"


def _block(plan: Plan, slots: Sequence[int], reason: Reason) -> Blocked:
    concerned = [plan.slots[slot] for slot in slots] or list(plan.slots)
    claims = {each.claim for each in concerned}
    claim = str(plan.claims[concerned[0].claim].claim) if len(claims) == 1 else ""
    names = list(dict.fromkeys(_name(each) for each in concerned))
    return Blocked(claim, ", ".join(names[:4]) + ("…" if len(names) > 4 else ""), _wanted(concerned), reason)


def _name(slot: Slot) -> str:
    return slot.alternatives[0].name.partition("/")[0]


def _wanted(slots: Sequence[Slot]) -> str:
    return describe_count(slots[0]) if len(slots) == 1 else "their devices"


def describe_count(slot: Slot) -> str:
    """Return how many devices a request is for."""
    if any(each.is_all for each in slot.alternatives):
        return "all devices"
    counts = sorted({each.count for each in slot.alternatives})
    if len(counts) == 1:
        return wording.count(counts[0], "device")
    return f"{counts[0]} to {counts[-1]} devices"
