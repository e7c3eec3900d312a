"""Finds nodes and devices for one unit after the other, each seeing what the ones before it were given.

Called once a round. A member is placed on the best of the nodes where its pod can run; a group in the fullest domain
that holds all of it. What is found is held in the stock and in the loads until the round ends, so a later unit never
gets the same device. A search that fails leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial

import msgspec

from driver.core.deciding import placing
from driver.core.deciding.candidates import Candidates, Finder
from driver.core.deciding.memory import Memory
from driver.core.deciding.world import Chosen, Detail, Member, Reason, Refused, Stock, World
from driver.model.errors import InvalidInput
from driver.model.workloads import ClusterNode


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
        self._memory = memory
        self._finder = Finder(world)
        self._failures: dict[object, Failed] = {}
        self._add_pinned(world)

    @property
    def nodes(self) -> Mapping[str, ClusterNode]:
        """All nodes, by name and in its order."""
        return self._finder.nodes

    def _add_pinned(self, world: World) -> None:
        """Count pods that wait to be bound where their claims are."""
        for pod in world.pods.values():
            if pod.spec.node_name or pod.is_done or pod.metadata.deletion_timestamp:
                continue
            names = (pod.claim_name(entry) for entry in pod.spec.resource_claims)
            claims = (world.claims.get(f"{pod.metadata.namespace}/{name}") for name in names if name)
            nodes = placing.name_nodes(each.status.allocation for each in claims if each and each.status.allocation)
            if nodes is not None and len(nodes) == 1:
                self._finder.occupy(pod, next(iter(nodes)))

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
            self._finder.occupy(placed.member.pod, placed.chosen.node, times=-1)
        self._failures.clear()

    def _place(self, member: Member, allowed: AbstractSet[str] | None) -> Placed | Failed:
        candidates = self._finder.find(member)
        nodes = candidates.within(allowed)
        if not nodes:
            return Failed(Reason.NO_NODE, self._describe_nodes(member, candidates))
        nodes, again_at = self._pass_over(member, nodes)
        if not nodes:
            text = "kube-scheduler did not take the nodes that were chosen before; they are tried again later"
            return Failed(Reason.NO_NODE, text, again_at)
        # Equal wishes that failed fail again while nothing becomes free: nodes only fill up in between.
        wishes = tuple(msgspec.json.encode(claim.spec) for claim in member.claims)
        limits = frozenset(nodes) if allowed is not None or again_at else None
        alike = wishes, member.policies, member.within, candidates.key, limits
        if alike in self._failures:
            return self._failures[alike]
        answer = self.stock.choose(member, nodes)
        if isinstance(answer, Refused):
            obstacles = list(candidates.obstacles.values())
            failed = Failed(Reason.NO_DEVICES, Detail(partial(_join, answer.message, obstacles)), again_at)
            self._failures[alike] = failed
            return failed
        return self._hold(member, answer)

    def _hold(self, member: Member, chosen: Chosen) -> Placed:
        for claim, allocation in zip(member.claims, chosen.allocations, strict=True):
            self.stock.take(claim, allocation)
        if member.pod is not None and not member.pod.spec.node_name:
            self._finder.occupy(member.pod, chosen.node)
        return Placed(member, chosen)

    def _pass_over(self, member: Member, nodes: dict[str, ClusterNode]) -> tuple[dict[str, ClusterNode], float]:
        """Leave out nodes that were refused while there are others, and say when the first may be tried again."""
        barred: dict[str, float] = {}
        for claim in member.claims:
            for name, at in self._memory.list_barred(claim).items():
                if name in nodes:
                    barred[name] = max(at, barred.get(name, at))
        if not barred:
            return nodes, 0.0
        others = {name: node for name, node in nodes.items() if name not in barred}
        due = {name: nodes[name] for name, at in sorted(barred.items()) if at <= self.now}
        later = min((at for at in barred.values() if at > self.now), default=0.0)
        return others or due, later

    def _describe_nodes(self, member: Member, candidates: Candidates) -> str:
        who = f"pod {member.pod.metadata.name}" if member.pod else "the claim"
        if not self.nodes:
            return "there are no nodes"
        return f"no node can take {who}: {placing.summarize(candidates.obstacles.values())}"


def hold_all(
    placement: Placement, members: Sequence[Member], allowed: AbstractSet[str] | None, budget: Callable[[], bool]
) -> list[Placed] | Failed:
    """Place all members or none: depth first, the next best node after a dead end while the budget lasts."""
    placed: list[Placed] = []
    closed: list[set[str]] = [set()]
    everywhere = placement.nodes.keys() if allowed is None else allowed
    first: Failed | None = None
    while len(placed) < len(members):
        answer = placement.place(members[len(placed)], everywhere - closed[-1] if closed[-1] else allowed)
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


def _join(message: str | Detail, obstacles: Sequence[str]) -> str:
    return f"{message}; {placing.summarize(obstacles)}" if obstacles else str(message)
