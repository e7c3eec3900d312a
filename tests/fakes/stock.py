"""Devices that are all alike, in the shape in which the controller's rounds ask for them.

Each node has so many; a claim takes as many as its requests count. Keeps the allocator's promise: a device that a claim
holds is never chosen again. What the real stock adds (selectors, attributes, links) is tested with the allocator.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from driver.core.deciding.world import Chosen, Member, Refused
from driver.model.claims import Allocation, AllocationResult, DeviceAllocation
from driver.model.selection import NodeSelector, Requirement, Term
from driver.model.wanted import Claim
from driver.model.workloads import ClusterNode

DRIVER = "gpu.example.com"


def allocate(claim: Claim, node: str, *devices: str) -> Allocation:
    """Return an allocation of devices on a node for the first request of a claim."""
    requests = claim.spec.devices.requests
    results = tuple(
        AllocationResult(request=requests[0].name if requests else "r", driver=DRIVER, pool=node, device=device)
        for device in devices
    )
    return Allocation(devices=DeviceAllocation(results=results), node_selector=on_node(node))


def on_node(node: str) -> NodeSelector:
    fields = (Requirement(key="metadata.name", operator="In", values=(node,)),)
    return NodeSelector(node_selector_terms=(Term(match_fields=fields),))


class Stock:
    """Implements `core.deciding.world.Stock`; the first node with enough devices is the best."""

    def __init__(self, devices: Mapping[str, int]) -> None:
        self.devices = {node: [f"gpu-{index}" for index in range(count)] for node, count in devices.items()}
        self.held: dict[str, frozenset[tuple[str, str]]] = {}
        self.asked = 0

    def hold(self, claims: Iterable[Claim], nodes: Mapping[str, ClusterNode]) -> None:
        del nodes
        self.held.clear()
        for claim in claims:
            if claim.status.allocation is not None:
                self.take(claim, claim.status.allocation)

    def choose(self, member: Member, nodes: Mapping[str, ClusterNode]) -> Chosen | Refused:
        self.asked += 1
        for node in nodes:
            free = self._free(node)
            wanted = [_count(claim) for claim in member.claims]
            if sum(wanted) <= len(free):
                return Chosen(node, tuple(self._cut(member.claims, wanted, free, node)))
        return Refused(f"{len(nodes)} nodes: too few devices are free")

    def take(self, claim: Claim, allocation: Allocation) -> None:
        self.held[claim.metadata.uid] = frozenset((each.pool, each.device) for each in allocation.devices.results)

    def give_back(self, claim: Claim) -> None:
        self.held.pop(claim.metadata.uid, None)

    def count_free(self, name: str = "") -> Mapping[str, Mapping[str, int]]:
        return {} if name else {"": {node: len(self._free(node)) for node in self.devices}}

    def values(self, allocation: Allocation, name: str) -> frozenset[str]:
        del allocation, name
        return frozenset()

    def owns(self, allocation: Allocation) -> bool:
        return all(each.pool in self.devices for each in allocation.devices.results)

    def _free(self, node: str) -> list[str]:
        held = frozenset().union(*self.held.values())
        return [device for device in self.devices.get(node, ()) if (node, device) not in held]

    @staticmethod
    def _cut(claims: Sequence[Claim], wanted: Sequence[int], free: Sequence[str], node: str) -> list[Allocation]:
        allocations = []
        for claim, count in zip(claims, wanted, strict=True):
            allocations.append(allocate(claim, node, *free[:count]))
            free = free[count:]
        return allocations


def _count(claim: Claim) -> int:
    return sum(request.exactly.count for request in claim.spec.devices.requests if request.exactly)
