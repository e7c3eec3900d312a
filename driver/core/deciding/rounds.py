"""One round of the controller: a view of the cluster in, what to write and what to tell out.

Called by `controller.terms`, which leads. Level-triggered: it looks at everything and says what is missing, so that a
round after a crash, a lost lease or a failed write needs no knowledge of what went before.

Promises: no device is granted that a claim of the view holds; a unit is granted as a whole; the higher priority is
served first, then the older; an allocation that somebody uses is never taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from driver.core.deciding import demands, domains, grouping
from driver.core.deciding.demands import Ask
from driver.core.deciding.grouping import Grouped
from driver.core.deciding.memory import Memory
from driver.core.deciding.placement import Placed, Placement
from driver.core.deciding.world import (
    Bundle,
    Decision,
    Failed,
    Grant,
    Return,
    Stock,
    Unit,
    Waiting,
    World,
)
from driver.model.errors import InvalidInput
from driver.model.policies import When
from driver.model.wanted import Claim
from driver.model.workloads import Workload

_UNUSED: Final = "no pod uses it"


def decide(
    world: World,
    stock: Stock,
    memory: Memory,
    ask: Ask,
    now: float,
    has_time: Callable[[], bool] = lambda: True,
) -> Decision:
    """Return what to do. The stock holds what the claims of the world hold, and the grants as well afterwards.

    `has_time` says whether another unit may be looked at. Those that were not have their turn in the next rounds,
    before others that were looked at in vain are looked at again.
    """
    stock.hold(world.claims.values(), world.nodes)
    consumers = demands.find_consumers(world)
    memory.observe(world, consumers, now)
    found = demands.find(world, ask, consumers)
    arranged = grouping.arrange(world, ask, found)
    searching = Placement(world, stock, memory, now)
    bundles: list[Bundle] = []
    returns: list[Return] = []
    waiting = [*found.waiting, *arranged.waiting]
    again: list[float] = []
    turn = memory.begin_turn(arranged.units)
    for unit in arranged.units:
        answer = turn.recall(unit) or (domains.place_group(searching, unit) if has_time() else turn.postpone(unit))
        if answer is None:
            continue
        if isinstance(answer, Failed):
            turn.note(unit, answer)
            waiting += _wait(unit, answer)
            returns += _give_up(unit, stock, consumers)
            if answer.again_at:
                again.append(answer.again_at - now)
        else:
            bundles.append(Bundle(unit.name, tuple(_grant(answer))))
    if turn.is_cut_short:
        again.append(0.0)
    memory.end_turn(turn)
    idle, pauses = _find_idle(stock, memory, now, list(_list_idle(world, consumers, arranged, ask)))
    again_in = min([*again, *pauses], default=None)
    return Decision(tuple(bundles), (*returns, *idle), tuple(waiting), again_in, found.foreign, found.idle, consumers)


def _grant(placed: Iterable[Placed]) -> Iterable[Grant]:
    for each in placed:
        for claim, allocation in zip(each.member.claims, each.chosen.allocations, strict=True):
            yield Grant(claim, allocation, each.chosen.node, each.member.pod)


def _wait(unit: Unit, failed: Failed) -> Iterable[Waiting]:
    for member in unit.members:
        for claim in member.claims:
            yield Waiting(claim, failed.reason, failed.message, member.pod, unit.name if unit.group else "")


def _give_up(unit: Unit, stock: Stock, consumers: Mapping[str, Sequence[Workload]]) -> Iterable[Return]:
    """Take back what a part of the unit was given before: what cannot be completed holds nothing."""
    for claim in unit.anchors:
        if not claim.status.reserved_for:
            yield Return(claim, f"{unit.name} cannot be completed")
    for member in unit.members:
        for claim in member.others:
            line = consumers.get(demands.key(claim), ())
            is_first = bool(line) and line[0] is member.pod
            if is_first and _is_ours(claim, stock) and not claim.status.reserved_for:
                yield Return(claim, f"the other claims of {unit.name} cannot be allocated beside it")


def _is_ours(claim: Claim, stock: Stock) -> bool:
    return claim.status.allocation is not None and stock.owns(claim.status.allocation)


def _list_idle(
    world: World, consumers: Mapping[str, Sequence[Workload]], arranged: Grouped, ask: Ask
) -> Iterable[tuple[Claim, str]]:
    """Yield allocations that nobody has reserved and nobody will: no pod is there, or the group lacks members."""
    halves = {claim.metadata.uid for claim in arranged.halves}
    used = _list_used(world)
    for claim in world.claims.values():
        if claim.status.allocation is None or claim.status.reserved_for or claim.metadata.deletion_timestamp:
            continue
        if claim.metadata.uid in halves:
            yield claim, "its group is not complete any more"
        elif demands.key(claim) not in used and not consumers.get(demands.key(claim)) and _waits_for_pods(claim, ask):
            yield claim, _UNUSED


def _list_used(world: World) -> set[str]:
    """Return the claims of all pods that are not done, also of those that are being deleted."""
    return {
        demands.key(claim)
        for pod in world.pods.values()
        if not pod.is_done
        for claim in demands.claims_of(pod, world)[0]
    }


def _waits_for_pods(claim: Claim, ask: Ask) -> bool:
    """Say whether a claim is allocated by us, and only for pods; one that cannot be read any more is left alone."""
    try:
        policy = ask(claim)
    except InvalidInput:
        return False
    return policy is not None and policy.when is When.FIRST_CONSUMER


def _find_idle(
    stock: Stock, memory: Memory, now: float, idle: Sequence[tuple[Claim, str]]
) -> tuple[list[Return], list[float]]:
    """Return the idle allocations whose grace time is over, and the seconds that are left to the others."""
    memory.keep_idle(claim for claim, _ in idle)
    due: list[Return] = []
    pauses: list[float] = []
    for claim, why in idle:
        if not _is_ours(claim, stock):
            continue
        left = memory.remaining_grace(claim, now)
        if left:
            pauses.append(left)
        else:
            due.append(Return(claim, why, why == _UNUSED))
    return due, pauses
