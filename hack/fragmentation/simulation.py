"""One day, played with one allocator: who found a place when they came."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from driver.core.allocator import NodeView
from driver.model.published import PublishedSlice
from driver.model.wanted import Claim
from hack.fragmentation.allocators import Allocator, BestFit, FirstFit, make_claim
from hack.fragmentation.days import HOUR, WARM_UP, make_day
from hack.fragmentation.machines import GPUS, load_model, make_nodes

Maker = Callable[[Sequence[NodeView], Sequence[PublishedSlice]], Allocator]
ALLOCATORS: Final[Mapping[str, Maker]] = {
    "best-fit": BestFit,
    "first-fit, emptiest node": lambda nodes, slices: FirstFit(nodes, slices, spreads=True),
    "first-fit, first node": lambda nodes, slices: FirstFit(nodes, slices, spreads=False),
}
"""The second is what kube-scheduler does by default."""
HOURS: Final = 24


@dataclass(slots=True)
class Day:
    """What happened, without the warm-up."""

    asked: Counter[str] = field(default_factory=Counter)
    """Requests by kind."""
    placed: Counter[str] = field(default_factory=Counter)
    wanted: list[float] = field(default_factory=lambda: [0.0] * HOURS)
    """GPUs' worth of requests, by hour."""
    given: list[float] = field(default_factory=lambda: [0.0] * HOURS)
    used: list[float] = field(default_factory=list)
    """Share of all memory slices that is taken, as each hour begins."""

    @property
    def share(self) -> float:
        """Share of the requests that found a place."""
        return self.placed.total() / max(self.asked.total(), 1)

    @property
    def weighted_share(self) -> float:
        """The same, each request counted with the share of a GPU that it wants."""
        return sum(self.given) / max(sum(self.wanted), 1e-9)

    def share_of(self, *kinds: str) -> float:
        """Return the share of the requests of these kinds that found a place."""
        return sum(self.placed[kind] for kind in kinds) / max(sum(self.asked[kind] for kind in kinds), 1)

    def count(self, kind: str, hour: int, weight: float, *, is_placed: bool) -> None:
        """Count one request."""
        self.asked[kind] += 1
        self.wanted[hour] += weight
        if is_placed:
            self.placed[kind] += 1
            self.given[hour] += weight


def play(name: str, seed: int, node_count: int, load: float) -> Day:
    """Play a day. Who finds no place when it comes goes away."""
    model = load_model()
    allocator = ALLOCATORS[name](*make_nodes(model, node_count))
    day, used = Day(), 0.0
    leaving: list[tuple[float, int, Claim, float]] = []
    for arrival in make_day(seed, model, node_count, load):
        while leaving and leaving[0][0] <= arrival.minute:
            _, _, claim, weight = heapq.heappop(leaving)
            allocator.remove(claim)
            used -= weight
        claim, weight = make_claim(arrival.number, arrival.kind), model.weight(arrival.kind)
        is_placed = allocator.place(claim, arrival.kind, weight)
        if is_placed:
            used += weight
            heapq.heappush(leaving, (arrival.minute + arrival.stay, arrival.number, claim, weight))
        if arrival.minute >= WARM_UP:
            hour = int((arrival.minute - WARM_UP) // HOUR)
            while len(day.used) <= hour:
                day.used.append(used / (node_count * GPUS))
            day.count(arrival.kind, hour, weight, is_placed=is_placed)
    return day
