"""Requests that are the same question twice. Called by `search`.

If two requests of a claim ask for the same under the same constraints, their devices can be exchanged in every answer;
the first answer is then the one in which the earlier request has the earlier device. So the later one need not try the
others. The same holds for the first requests of two claims that are equal as a whole.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from driver.core.allocator.plans import Plan


def find(plan: Plan) -> Mapping[int, int]:
    """Return for each slot that has an earlier twin the last such one."""
    found: dict[int, int] = {}
    seen: dict[Hashable, int] = {}
    for slot, _ in enumerate(plan.slots):
        key = _key(plan, slot)
        if key is not None:
            if key in seen:
                found[slot] = seen[key]
            seen[key] = slot
    return _find_in_claims(plan) | found


def _key(plan: Plan, slot: int) -> Hashable:
    """Return what two twins have in common; None for a slot that has none."""
    wanted = plan.slots[slot].alternatives[0]
    if plan.slots[slot].is_list or wanted.is_all or wanted.count < 1:
        return None
    claim = plan.slots[slot].claim
    rules = tuple(rule.concerns(wanted) for rule in plan.claims[claim].rules)
    return claim, wanted.shape, wanted.count, wanted.admin_access, rules


def _find_in_claims(plan: Plan) -> dict[int, int]:
    found: dict[int, int] = {}
    seen: dict[Hashable, int] = {}
    previous = -1
    for slot, each in enumerate(plan.slots):
        if each.claim != previous and _key(plan, slot) is not None:
            shape = plan.claims[each.claim].shape
            if shape in seen:
                found[slot] = seen[shape]
            seen[shape] = slot
        previous = each.claim
    return found
