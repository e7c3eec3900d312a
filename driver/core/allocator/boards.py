"""Offers of all nodes for claims of one shape: the best node is on top, and only nodes that changed are asked again.

Called by `cluster`. A board knows nothing of claims' names, so it serves every claim of its shape.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from driver.core.allocator.best import Found

Rank = tuple[object, ...]
"""By what nodes are compared; the smaller, the better."""


class Offer(NamedTuple):
    """What a node would give."""

    rank: Rank
    node: str
    serial: int
    """Tells an offer from a later one of the same node; no two of a board have the same."""
    found: Found


class Board:
    """The offers of nodes, and which of them must be asked again."""

    def __init__(self, nodes: Iterable[str]) -> None:
        self.stale: set[str] = set(nodes)
        """Nodes that changed since they were asked."""
        self.invalid: set[str] = set()
        """Nodes for which the claims turned out to be wrong in themselves."""
        self._offers: dict[str, Offer] = {}
        self._heap: list[Offer] = []
        self._serial = 0

    def __len__(self) -> int:
        return len(self._offers)

    def put(self, node: str, found: Found | None, rank: Rank, *, is_invalid: bool) -> None:
        """Keep what a node offers in place of what it did before; None for nothing."""
        (self.invalid.add if is_invalid else self.invalid.discard)(node)
        if found is None:
            self._offers.pop(node, None)
            return
        self._serial += 1
        offer = self._offers[node] = Offer(rank, node, self._serial, found)
        heapq.heappush(self._heap, offer)

    def withdraw(self, node: str) -> None:
        """A node is gone."""
        self._offers.pop(node, None)
        self.invalid.discard(node)

    def find_best(self, nodes: Collection[str] | None, avoided: Collection[str]) -> Offer | None:
        """Return the best offer of these nodes; None for `nodes` means of all."""
        if nodes is not None and len(nodes) * 8 < len(self._offers):
            offers = (self._offers[node] for node in nodes if node in self._offers and node not in avoided)
            return min(offers, default=None)
        if nodes is None and not avoided:
            return self._find_top()
        return self._find_first(lambda node: (nodes is None or node in nodes) and node not in avoided)

    def _find_top(self) -> Offer | None:
        heap = self._heap
        if len(heap) > 4 * len(self._offers) + 64:
            heap[:] = sorted(self._offers.values())
        while heap and self._offers.get(heap[0].node) is not heap[0]:
            heapq.heappop(heap)
        return heap[0] if heap else None

    def _find_first(self, is_allowed: Callable[[str], bool]) -> Offer | None:
        """Return the best allowed offer; what is better but not allowed is put back."""
        passed: list[Offer] = []
        found = self._find_top()
        while found is not None and not is_allowed(found.node):
            passed.append(heapq.heappop(self._heap))
            found = self._find_top()
        for each in passed:
            heapq.heappush(self._heap, each)
        return found
