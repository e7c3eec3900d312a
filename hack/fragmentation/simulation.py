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


@dataclass(slots=True)
class Day:
    """What happened, without the warm-up."""

    asked: Counter[str] = field(default_factory=Counter)
    """Requests by kind."""
    placed: Counter[str] = field(default_factory=Counter)
    refused_weight: float = 0.0
    """GPUs' worth of requests that found no place."""
    weight: float = 0.0
    used: list[float] = field(default_factory=list)
    """Share of all memory slices that is taken, at each full hour."""
    refused_by_hour: Counter[int] = field(default_factory=Counter)
    asked_by_hour: Counter[int] = field(default_factory=Counter)

    @property
    def share(self) -> float:
        """Share of the requests that found a place."""
        return self.placed.total() / max(self.asked.total(), 1)

    @property
    def weighted_share(self) -> float:
        """The same, each request counted with the share of a GPU that it wants."""
        return 1 - self.refused_weight / max(self.weight, 1e-9)


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
            _count(day, arrival.kind, int((arrival.minute - WARM_UP) // HOUR), weight, is_placed=is_placed)
            while len(day.used) <= (arrival.minute - WARM_UP) // HOUR:
                day.used.append(used / (node_count * GPUS))
    return day


def _count(day: Day, kind: str, hour: int, weight: float, *, is_placed: bool) -> None:
    day.asked[kind] += 1
    day.asked_by_hour[hour] += 1
    day.weight += weight
    if is_placed:
        day.placed[kind] += 1
    else:
        day.refused_weight += weight
        day.refused_by_hour[hour] += 1
