"""Finds nodes and devices for one unit after the other, each seeing what the ones before it were given.

Called once a round. A member is placed on the best of the nodes where its pod can run; a group in the fullest domain
that holds all of it. What is found is held in the stock and in the loads until the round ends, so a later unit never
gets the same device. A search that fails leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import msgspec

from driver.core.deciding import demands, placing
from driver.core.deciding.candidates import Candidates, Finder
from driver.core.deciding.memory import Memory
from driver.core.deciding.world import Chosen, Detail, Failed, Member, Reason, Stock, World
from driver.model.errors import InvalidInput
from driver.model.workloads import ClusterNode

_REFUSED: Final = "kube-scheduler did not take the nodes that were chosen before; they are tried again later"


@dataclass(frozen=True, slots=True)
class Placed:
    """A member with its node and allocations."""

    member: Member
    chosen: Chosen


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
            claims, missing = demands.claims_of(pod, world)
            allocations = [each.status.allocation for each in claims if each.status.allocation is not None]
            if missing or len(allocations) < len(claims):
                continue  # it is counted when it gets the rest, and must not be in its own way until then
            nodes = placing.name_nodes(allocations)
            if nodes is not None and len(nodes) == 1:
                self._finder.occupy(pod, next(iter(nodes)))

    def place(self, member: Member, allowed: AbstractSet[str] | None = None) -> Placed | Failed:
        """Find a node (of those allowed) and devices, and hold them."""
        try:
            return self._place(member, allowed)
        except InvalidInput as error:
            return Failed(Reason.NO_DEVICES, str(error))
        except Exception as error:  # noqa: BLE001 - what one claim brings to light must not stop all the others
            return Failed(Reason.NO_DEVICES, f"a defect of the controller, please report it: {describe_defect(error)}")

    def kind(self, member: Member) -> object:
        """Return what is equal for members that ask for the same; where one fails the other one does."""
        return self._describe(member, self._finder.find(member))

    def count_nodes(self, member: Member, allowed: AbstractSet[str] | None) -> int:
        """Return on how many nodes (of those allowed) its pod can run, devices aside."""
        return len(self._finder.find(member).within(allowed))

    def redo(self, placed: Placed) -> None:
        """Hold again what was just undone."""
        self._hold(placed.member, placed.chosen)

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
        others, due, later = self._pass_over(member, nodes)
        failed = Failed(Reason.NO_NODE, _REFUSED)
        for some in filter(None, (others, due)):
            answer = self._choose(member, candidates, some)
            if isinstance(answer, Chosen):
                return self._hold(member, answer)
            failed = answer
        return replace(failed, again_at=later) if later else failed

    def _choose(self, member: Member, candidates: Candidates, nodes: dict[str, ClusterNode]) -> Chosen | Failed:
        # Equal wishes that failed fail again while nothing becomes free: nodes only fill up in between.
        limits = frozenset(nodes) if len(nodes) < len(candidates.nodes) else None
        alike = self._describe(member, candidates), limits
        if alike in self._failures:
            return self._failures[alike]
        answer = self.stock.choose(member, nodes)
        if isinstance(answer, Chosen):
            return answer
        obstacles = list(candidates.obstacles.values())
        failed = Failed(Reason.NO_DEVICES, Detail(partial(_join, answer.message, obstacles)))
        self._failures[alike] = failed
        return failed

    @staticmethod
    def _describe(member: Member, candidates: Candidates) -> object:
        wishes = tuple(msgspec.json.encode(claim.spec) for claim in member.claims)
        return wishes, member.policies, member.within, candidates.key

    def _hold(self, member: Member, chosen: Chosen) -> Placed:
        for claim, allocation in zip(member.claims, chosen.allocations, strict=True):
            self.stock.take(claim, allocation)
        if member.pod is not None and not member.pod.spec.node_name:
            self._finder.occupy(member.pod, chosen.node)
        return Placed(member, chosen)

    def _pass_over(
        self, member: Member, nodes: dict[str, ClusterNode]
    ) -> tuple[dict[str, ClusterNode], dict[str, ClusterNode], float]:
        """Return the nodes without those that were refused, those that may be tried again by now, and when others may.

        The second are for who finds nothing on the first.
        """
        barred: dict[str, float] = {}
        for claim in member.claims:
            for name, at in self._memory.list_barred(claim).items():
                if name in nodes:
                    barred[name] = max(at, barred.get(name, at))
        if not barred:
            return nodes, {}, 0.0
        others = {name: node for name, node in nodes.items() if name not in barred}
        due = {name: nodes[name] for name, at in sorted(barred.items()) if at <= self.now}
        return others, due, min((at for at in barred.values() if at > self.now), default=0.0)

    def _describe_nodes(self, member: Member, candidates: Candidates) -> str:
        who = f"pod {member.pod.metadata.name}" if member.pod else "the claim"
        if not self.nodes:
            return "there are no nodes"
        return f"no node can take {who}: {placing.summarize(candidates.obstacles.values())}"


def describe_defect(error: Exception) -> str:
    """Return an exception that nobody expected, and where it was raised."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f" ({place.tb_frame.f_globals.get('__name__')}:{place.tb_lineno})" if place is not None else ""
    return f"{type(error).__name__}: {error}{where}"


def _join(message: str | Detail, obstacles: Sequence[str]) -> str:
    return f"{message}; {placing.summarize(obstacles)}" if obstacles else str(message)
