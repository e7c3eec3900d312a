"""Finds nodes and devices for one unit after the other, each seeing what the ones before it were given.

Called once a round. A member is placed on the best of the nodes where its pod can run; a group in the fullest domain
that holds all of it. What is found is held in the stock and in the loads until the round ends, so a later unit never
gets the same device. A search that fails leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec

from driver.core.deciding import loads, placing
from driver.core.deciding.loads import Load, Requests
from driver.core.deciding.memory import Memory
from driver.core.deciding.placing import Needs
from driver.core.deciding.world import Chosen, Detail, Member, Reason, Refused, Stock, World
from driver.model.errors import InvalidInput
from driver.model.workloads import ClusterNode, Workload

_NOTHING: Final = Load()


@dataclass(frozen=True, slots=True)
class Placed:
    """A member with its node and allocations."""

    member: Member
    chosen: Chosen


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a unit cannot be placed now."""

    reason: Reason
    message: str | Detail
    again_at: float = 0.0
    """When a node that was refused may be tried once more; 0: not the matter."""


class Placement:
    """The state of one round. Not for several threads."""

    def __init__(self, world: World, stock: Stock, memory: Memory, now: float) -> None:
        self.stock = stock
        self.now = now
        self.nodes = [world.nodes[name] for name in sorted(world.nodes)]
        self._memory = memory
        self._served = frozenset(
            each.spec.extended_resource_name for each in world.classes.values() if each.spec.extended_resource_name
        )
        self._loads = dict(world.loads)
        self._requests: dict[str, Requests] = {}
        self._failures: dict[object, Failed] = {}
        self._add_pinned(world)

    def _add_pinned(self, world: World) -> None:
        """Count pods that wait to be bound where their claims are."""
        for pod in world.pods.values():
            if pod.spec.node_name or pod.is_done or pod.metadata.deletion_timestamp:
                continue
            names = (pod.claim_name(entry) for entry in pod.spec.resource_claims)
            claims = (world.claims.get(f"{pod.metadata.namespace}/{name}") for name in names if name)
            nodes = placing.name_nodes(each.status.allocation for each in claims if each and each.status.allocation)
            if nodes is not None and len(nodes) == 1:
                self._occupy(pod, next(iter(nodes)))

    def place(self, member: Member, allowed: AbstractSet[str] | None = None) -> Placed | Failed:
        """Find a node (of those allowed) and devices, and hold them."""
        try:
            return self._place(member, allowed)
        except InvalidInput as error:
            return Failed(Reason.NO_DEVICES, str(error))

    def undo(self, placed: Placed) -> None:
        """Hold nothing for a member any more."""
        for claim in placed.member.claims:
            self.stock.give_back(claim)
        if placed.member.pod is not None and not placed.member.pod.spec.node_name:
            self._occupy(placed.member.pod, placed.chosen.node, times=-1)
        self._failures.clear()

    def _place(self, member: Member, allowed: AbstractSet[str] | None) -> Placed | Failed:
        candidates, obstacles = self._find_candidates(member, allowed)
        if not candidates:
            return Failed(Reason.NO_NODE, self._describe_nodes(member, obstacles))
        nodes, again_at = self._pass_over(member, candidates)
        if not nodes:
            text = "kube-scheduler did not take the nodes that were chosen before; they are tried again later"
            return Failed(Reason.NO_NODE, text, again_at)
        alike = _key(member, nodes)
        if alike in self._failures:
            return self._failures[alike]
        answer = self.stock.choose(member, nodes)
        if isinstance(answer, Refused):
            failed = Failed(Reason.NO_DEVICES, Detail(partial(_join, answer.message, obstacles)), again_at)
            self._failures[alike] = failed
            return failed
        return self._hold(member, answer)

    def _hold(self, member: Member, chosen: Chosen) -> Placed:
        for claim, allocation in zip(member.claims, chosen.allocations, strict=True):
            self.stock.take(claim, allocation)
        if member.pod is not None and not member.pod.spec.node_name:
            self._occupy(member.pod, chosen.node)
        return Placed(member, chosen)

    def _find_candidates(self, member: Member, allowed: AbstractSet[str] | None) -> tuple[list[ClusterNode], list[str]]:
        """Return the nodes where the pod can run, and what is in the way on the others."""
        allocated = tuple(each.status.allocation for each in member.others if each.status.allocation is not None)
        needs = Needs(member.pod, self._ask(member.pod), allocated)
        candidates: list[ClusterNode] = []
        obstacles: list[str] = []
        for node in self.nodes:
            if allowed is not None and node.metadata.name not in allowed:
                continue
            obstacle = placing.find_obstacle(needs, node, self._loads.get(node.metadata.name, _NOTHING))
            if obstacle:
                obstacles.append(obstacle)
            else:
                candidates.append(node)
        return candidates, obstacles

    def _pass_over(self, member: Member, candidates: list[ClusterNode]) -> tuple[list[ClusterNode], float]:
        """Leave out nodes that were refused while there are others, and say when the first may be tried again."""
        barred = {
            node.metadata.name: max(self._memory.retry_at(claim, node.metadata.name) for claim in member.claims)
            for node in candidates
            if any(self._memory.is_barred(claim, node.metadata.name) for claim in member.claims)
        }
        if not barred:
            return candidates, 0.0
        others = [node for node in candidates if node.metadata.name not in barred]
        due = [node for node in candidates if barred.get(node.metadata.name, self.now + 1) <= self.now]
        later = min((at for at in barred.values() if at > self.now), default=0.0)
        return others or due, later

    def _ask(self, pod: Workload | None) -> Requests:
        if pod is None:
            return {}
        uid = pod.metadata.uid
        if uid not in self._requests:
            self._requests[uid] = placing.leave_out(loads.add_up(pod), self._served)
        return self._requests[uid]

    def _occupy(self, pod: Workload, node: str, *, times: int = 1) -> None:
        self._loads[node] = self._loads.get(node, _NOTHING).plus(self._ask(pod), times=times)

    def _describe_nodes(self, member: Member, obstacles: Sequence[str]) -> str:
        who = f"pod {member.pod.metadata.name}" if member.pod else "the claim"
        if not self.nodes:
            return "there are no nodes"
        return f"no node can take {who}: {placing.summarize(obstacles)}"


def hold_all(
    placement: Placement, members: Sequence[Member], allowed: AbstractSet[str] | None, budget: Callable[[], bool]
) -> list[Placed] | Failed:
    """Place all members or none: depth first, the next best node after a dead end while the budget lasts."""
    placed: list[Placed] = []
    closed: list[set[str]] = [set()]
    everywhere = {node.metadata.name for node in placement.nodes} if allowed is None else set(allowed)
    first: Failed | None = None
    while len(placed) < len(members):
        answer = placement.place(members[len(placed)], everywhere - closed[-1])
        if isinstance(answer, Placed):
            placed.append(answer)
            closed.append(set())
            continue
        first = first or answer
        closed.pop()
        if not placed or not budget():
            for each in reversed(placed):
                placement.undo(each)
            return first
        dead_end = placed.pop()
        placement.undo(dead_end)
        closed[-1].add(dead_end.chosen.node)
    return placed


def _key(member: Member, nodes: Sequence[ClusterNode]) -> object:
    """Return what makes two failures the same: the same wishes on the same nodes, while nothing becomes free."""
    wishes = tuple(msgspec.json.encode(claim.spec) for claim in member.claims)
    return wishes, member.policies, tuple(node.metadata.name for node in nodes)


def _join(message: str | Detail, obstacles: Sequence[str]) -> str:
    return f"{message}; {placing.summarize(obstacles)}" if obstacles else str(message)
