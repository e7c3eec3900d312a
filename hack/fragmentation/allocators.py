"""Who places the requests: `best-fit` on the node that it chooses, or `first-fit` as kube-scheduler tries nodes.

kube-scheduler scores nodes by what is allocated of them and takes the emptiest (NodeResourcesFit, LeastAllocated); it
does not score devices. A pod asks for as much of a node's other resources as of its GPUs here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Protocol

import msgspec

from driver.core.allocator import Allocated, Cluster, NodeView, Snapshot, Wish, allocate
from driver.model.claims import Allocation, ClaimStatus
from driver.model.objects import ObjectMeta
from driver.model.policies import Policy
from driver.model.published import PublishedSlice
from driver.model.requests import CelSelector, ClaimSpec, DeviceRequest, DevicesSpec, Request, Selector
from driver.model.vocabulary import DOMAIN
from driver.model.wanted import Claim
from hack.fragmentation.machines import WHOLE, make_classes

_POLICY: Final = (Policy(),)


class Allocator(Protocol):
    """Places claims and takes them back."""

    def place(self, claim: Claim, kind: str, weight: float) -> bool:
        """Give devices to a claim; say whether there were any."""
        ...

    def remove(self, claim: Claim) -> None:
        """Take them back."""
        ...


def make_claim(number: int, kind: str) -> Claim:
    """Return a claim for one GPU or one partition."""
    expression = f'device.attributes["{DOMAIN}"].profile == "{kind}"'
    selectors = () if kind == WHOLE else (Selector(cel=CelSelector(expression=expression)),)
    wanted = DeviceRequest(device_class_name=WHOLE if kind == WHOLE else "partition", selectors=selectors)
    return Claim(
        metadata=ObjectMeta(name=f"claim-{number}", namespace="default", uid=f"uid-{number}"),
        spec=ClaimSpec(devices=DevicesSpec(requests=(Request(name="r", exactly=wanted),))),
    )


class BestFit:
    """Our controller."""

    def __init__(self, nodes: Iterable[NodeView], slices: Sequence[PublishedSlice]) -> None:
        self._cluster = Cluster(make_classes())
        self._cluster.put_slices(slices)
        for node in nodes:
            self._cluster.put_node(node)

    def place(self, claim: Claim, kind: str, weight: float) -> bool:  # noqa: ARG002
        """Take the best node and the best devices there."""
        choice = self._cluster.choose(Wish((claim,), _POLICY))
        if choice is not None:
            self._cluster.take(claim, choice.allocated.allocations[0])
        return choice is not None

    def remove(self, claim: Claim) -> None:
        """Take the devices back."""
        self._cluster.give_back(claim)


class FirstFit:
    """kube-scheduler: the first devices that fit, on the emptiest node or on the first one."""

    def __init__(self, nodes: Sequence[NodeView], slices: Sequence[PublishedSlice], *, spreads: bool) -> None:
        self._nodes = {node.name: node for node in nodes}
        self._snapshots = {
            node.name: Snapshot([each for each in slices if each.spec.node_name == node.name], make_classes())
            for node in nodes
        }
        self._spreads = spreads
        self._used = dict.fromkeys(self._nodes, 0.0)
        self._held: dict[str, tuple[str, Claim, float]] = {}
        self._full: set[tuple[str, str]] = set()
        """Nodes that had no place for a kind, and of which nothing was given back since."""

    def place(self, claim: Claim, kind: str, weight: float) -> bool:
        """Try the nodes in their order."""
        order = sorted(self._nodes, key=lambda node: (self._used[node], node)) if self._spreads else list(self._nodes)
        for node in order:
            if (node, kind) in self._full:
                continue
            outcome = allocate(self._snapshots[node], self._nodes[node], [claim])
            if isinstance(outcome, Allocated):
                self._take(node, claim, outcome.allocations[0], weight)
                return True
            self._full.add((node, kind))
        return False

    def _take(self, node: str, claim: Claim, allocation: Allocation, weight: float) -> None:
        held = msgspec.structs.replace(claim, status=ClaimStatus(allocation=allocation))
        self._snapshots[node] = self._snapshots[node].with_claims(held)
        self._held[claim.metadata.uid] = (node, held, weight)
        self._used[node] += weight

    def remove(self, claim: Claim) -> None:
        """Take the devices back."""
        node, held, weight = self._held.pop(claim.metadata.uid)
        self._snapshots[node] = self._snapshots[node].without_claims(held)
        self._used[node] -= weight
        self._full = {each for each in self._full if each[0] != node}
