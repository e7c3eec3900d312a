"""The driver's own allocator, as the scheduler of the simulation uses it: first fit, node by node.

Called by the scheduler with what its caches hold. Objects that have not changed stay the same values, so that slices
are compiled once and not for every pod.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from driver.core import allocator
from driver.core.allocator import Allocated, InvalidClaim, NodeView, Snapshot
from driver.model.claims import Allocation
from driver.model.published import PublishedSlice
from driver.simulation.access import Body
from driver.simulation.objects import Node
from driver.simulation.resources import Claim, DeviceClass, Slice

_ALTERNATIVES: Final = 8
"""Subrequests of one request (FirstAvailableDeviceRequestMaxSize); an earlier one scores more."""


class SchedulingError(Exception):
    """The pod cannot be scheduled on any node, whatever the devices: something it refers to is wrong."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Devices for all claims of a pod on one node."""

    allocations: tuple[Allocation, ...] = ()
    score: int = 0
    """Sum over requests with alternatives; an early alternative counts more."""


class Devices:
    """The devices of all nodes and who holds them, as of the last look."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Slice, PublishedSlice]] = {}
        self._snapshot = Snapshot()

    def look(self, slices: Iterable[Slice], classes: Iterable[DeviceClass], claims: Iterable[Claim]) -> None:
        """Take over what there is now."""
        known = {id(each): self._known.get(id(each)) or (each, each.published) for each in slices}
        self._known = known
        snapshot = Snapshot(
            classes={each.metadata.name: each.wanted for each in classes},
            allocated=[each.wanted for each in claims if each.status.allocation],
        )
        self._snapshot = snapshot.over(self._snapshot, [published for _, published in known.values()])

    def allocate(self, node: Node, claims: Sequence[Claim]) -> Answer | None:
        """Find devices on a node for claims that belong together. Raises `SchedulingError` if no node can help."""
        try:
            outcome = allocator.allocate(self._snapshot, _view(node), [each.wanted for each in claims])
        except InvalidClaim as error:
            raise SchedulingError(str(error)) from error
        if not isinstance(outcome, Allocated):
            return None
        return Answer(outcome.allocations, sum(_ALTERNATIVES - rank for rank in outcome.ranks))

    def explain(self, nodes: Sequence[Node], claims: Sequence[Claim]) -> str:
        """Say why none of these nodes can give the claims their devices."""
        wanted = [each.wanted for each in claims]
        return allocator.explain(self._snapshot, [_view(node) for node in nodes], wanted).text


def write_out(allocation: Allocation, timestamp: str) -> Body:
    """Return an allocation as it is sent."""
    body: Body = json.loads(msgspec.json.encode(allocation))
    return {**body, "allocationTimestamp": timestamp}


def _view(node: Node) -> NodeView:
    return NodeView(node.metadata.name, node.metadata.labels)
