"""All nodes at once: which node is the best for claims, found without looking at every node every time.

Called by the controller. It has no clock and no threads. What it is told (slices, nodes, claims that hold devices) is
its state; all the rest can be forgotten and found out again. Claims of the same shape share a survey of offers, for
which only nodes that changed are asked again.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from driver.core.allocator import choosing, layouts, selectors
from driver.core.allocator.boards import Offer
from driver.core.allocator.choosing import Question
from driver.core.allocator.contents import Contents
from driver.core.allocator.devices import PoolKey
from driver.core.allocator.nodes import NodeView
from driver.core.allocator.outcomes import Allocated
from driver.core.allocator.pools import PoolIndex
from driver.core.allocator.requests import Classes
from driver.core.allocator.scopes import EVERYTHING, Scope
from driver.core.allocator.selectors import Evaluate
from driver.core.allocator.snapshots import Snapshot
from driver.core.allocator.spots import Node
from driver.core.allocator.surveys import Survey, Where
from driver.core.allocator.tallies import Companion, Cost
from driver.core.allocator.usage import Usage
from driver.model.claims import Allocation
from driver.model.policies import Policy
from driver.model.published import PublishedSlice
from driver.model.wanted import Claim

_MAX_SURVEYS: Final = 64
"""Shapes of claims for which offers are kept; the one that was asked for longest ago goes first."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Claims to be allocated together on one node, and where."""

    claims: Sequence[Claim]
    policies: Sequence[Policy]
    """Of each claim. The nodes are spread if one of them says so."""
    nodes: Collection[str] | None = None
    """The nodes that may be chosen; None: all."""
    avoided: Collection[str] = ()
    scope: Scope = EVERYTHING
    beside: Sequence[Allocation] = ()
    """What the same pod has already."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The best node for claims, and their allocations there."""

    node: str
    allocated: Allocated
    cost: Cost
    is_proven: bool
    """False if the search for the best set of devices on the node was cut short."""


class _LiveUsage(Usage):
    """A usage that changes: copying the books of a large cluster for each claim would cost more than the claim."""

    def change(self, claim: Claim, *, is_taken: bool) -> None:
        """Let a claim hold what is allocated to it, or give it back."""
        self._change(claim, adding=is_taken)


class Cluster:
    """The index over all nodes."""

    def __init__(
        self, classes: Classes | None = None, *, evaluate: Evaluate = selectors.evaluate, list_attributes: bool = False
    ) -> None:
        self.classes: Classes = classes or {}
        """By name. They may be replaced at any time."""
        self.evaluate = evaluate
        self.list_attributes = list_attributes
        self._contents = Contents(evaluate)
        self._live = _LiveUsage()
        self._slices: Sequence[PublishedSlice] = ()
        self._pools = PoolIndex(())
        self._nodes: dict[str, Node] = {}
        self._viewers: dict[PoolKey, set[str]] = {}
        """Nodes that see each pool."""
        self._held: dict[str, Claim] = {}
        self._surveys: dict[Hashable, Survey] = {}

    @property
    def usage(self) -> Usage:
        """What claims hold. It changes with the cluster."""
        return self._live

    @property
    def nodes(self) -> Mapping[str, Node]:
        """The nodes, by name."""
        return self._nodes

    def take_snapshot(self) -> Snapshot:
        """Return the cluster as a value, for explanations; what is compiled is shared."""
        held = tuple(self._held.values())
        snapshot = Snapshot(self._slices, self.classes, held, self.evaluate, self.list_attributes)
        snapshot.__dict__["pools"] = self._pools  # where cached_property keeps it
        return snapshot

    def put_slices(self, slices: Sequence[PublishedSlice]) -> None:
        """Let these be all slices there are. Pools whose slices are the same objects stay as they are."""
        before, after = self._pools, self._pools.updated(slices)
        self._slices, self._pools = slices, after
        changed = {
            key for key in before.pools.keys() | after.pools.keys() if before.pools.get(key) is not after.pools.get(key)
        }
        pools = [pool for key in changed for pool in (before.pools.get(key), after.pools.get(key)) if pool is not None]
        if before.unfit != after.unfit or any(pool.is_wide for pool in pools):
            changed_nodes: Iterable[str] = list(self._nodes)
        else:
            changed_nodes = {name for pool in pools for name in pool.nodes if name in self._nodes}
        for name in changed_nodes:
            self.put_node(self._nodes[name].view, is_changed=True)

    def put_node(self, view: NodeView, *, is_changed: bool = False) -> None:
        """Add a node or change its labels."""
        known = self._nodes.get(view.name)
        if known is not None and known.view == view and not is_changed:
            return
        self._unsee(view.name)
        node = self._nodes[view.name] = Node(view, self._pools.gather(view))
        node.find_spot(EVERYTHING)
        for pool in node.pools:
            self._viewers.setdefault(pool.key, set()).add(view.name)
        self._tell(view.name)

    def remove_node(self, name: str) -> None:
        """A node is gone."""
        self._unsee(name)
        self._nodes.pop(name, None)
        self._tell(name)

    def take(self, claim: Claim, allocation: Allocation | None = None) -> None:
        """Let a claim hold an allocation, by default that of its status; what it held before is given back."""
        self.give_back(claim)
        if allocation is not None:
            claim = msgspec.structs.replace(claim, status=msgspec.structs.replace(claim.status, allocation=allocation))
        self._held[_identify(claim)] = claim
        self._change(claim, is_taken=True)

    def give_back(self, claim: Claim) -> None:
        """Let a claim hold nothing."""
        held = self._held.pop(_identify(claim), None)
        if held is not None:
            self._change(held, is_taken=False)

    def choose(self, wish: Wish) -> Choice | None:
        """Return the best node with devices for all claims together, or None if there is none.

        Raises `InvalidClaim` for claims that no node can satisfy, unless a node does.
        """
        question = choosing.make_question(wish.claims, wish.policies, self.classes, wish.scope)
        where = (wish.nodes, wish.avoided)
        if wish.beside:
            offer = self._ask_beside(question, where, wish.beside)
        else:
            offer = self._find_survey(question).find_best(question, self, self._nodes, where)
        if offer is None:
            return None
        node = self._nodes[offer.node]
        allocated = choosing.describe(offer.found, node.find_spot(wish.scope).place, question, node.view)
        return Choice(offer.node, allocated, offer.found.cost, offer.found.is_proven)

    def fits(self, wish: Wish, node: str) -> bool:
        """Say whether a node has devices for all claims together. Raises `InvalidClaim`."""
        return self.choose(replace(wish, nodes=frozenset({node}))) is not None

    def _find_survey(self, question: Question) -> Survey:
        """Return the survey of a shape; the one asked for last is the last in the table."""
        survey = self._surveys.pop(question.shape, None)
        if survey is None:
            if len(self._surveys) >= _MAX_SURVEYS:
                del self._surveys[next(iter(self._surveys))]
            survey = Survey(self._nodes, self._contents)
        self._surveys[question.shape] = survey
        return survey

    def _ask_beside(self, question: Question, where: Where, beside: Sequence[Allocation]) -> Offer | None:
        """Ask the allowed nodes with what the pod has there; it differs from pod to pod, so nothing is remembered."""
        survey = Survey((), self._contents)
        allowed, avoided = where
        taken = {(each.driver, each.pool, each.device) for one in beside for each in one.devices.results}
        for name in sorted(self._nodes if allowed is None else allowed):
            if name in self._nodes and name not in avoided:
                companions = _find_companions(self._nodes[name], taken)
                survey.ask_alone(question, self, self._nodes[name], companions)
        return survey.find_best(question, self, self._nodes, where)

    def _tell(self, node: str) -> None:
        """Tell the surveys of a node that is another one now, or gone."""
        for survey in self._surveys.values():
            survey.forget(node, with_devices=True)

    def _unsee(self, name: str) -> None:
        node = self._nodes.get(name)
        for pool in node.pools if node else ():
            self._viewers[pool.key].discard(name)
            if not self._viewers[pool.key]:
                del self._viewers[pool.key]

    def _change(self, claim: Claim, *, is_taken: bool) -> None:
        self._live.change(claim, is_taken=is_taken)
        allocation = claim.status.allocation
        results = allocation.devices.results if allocation else ()
        for key in {(each.driver, each.pool) for each in results if not each.admin_access}:
            for name in self._viewers.get(key, ()):
                self._nodes[name].forget_usage()
                for survey in self._surveys.values():
                    survey.forget(name)


def _identify(claim: Claim) -> str:
    return claim.metadata.uid or str(claim)


def _find_companions(node: Node, taken: Collection[tuple[str, str, str]]) -> list[Companion]:
    devices = (device for pool in node.pools for device in pool.devices if device.id in taken)
    return [(device.driver, layouts.read_roots(device)) for device in devices]
