"""Requests of a simulated day: when they come, what they want, how long they stay. The same seed gives the same day."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from hack.fragmentation.machines import GPUS, WHOLE, Model

MIX: Final[Mapping[str, float]] = {
    "1g.5gb": 0.34,
    "1g.10gb": 0.06,
    "2g.10gb": 0.22,
    "3g.20gb": 0.16,
    "4g.20gb": 0.06,
    "7g.40gb": 0.06,
    WHOLE: 0.10,
}
"""Share of each kind among the requests."""
HOUR: Final = 60.0
DAY: Final = 24 * HOUR
WARM_UP: Final = DAY / 4
"""Minutes before the day that is counted, for the cluster to fill."""
MEDIAN_STAY: Final = 60.0
SIGMA: Final = 1.0
"""Stays are log-normal: half are shorter than `MEDIAN_STAY` minutes, and some last for days."""
SWING: Final = 0.35
"""By night so much less comes than on average, by day so much more."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request."""

    number: int
    minute: float
    kind: str
    stay: float


def make_day(seed: int, model: Model, nodes: int, load: float) -> Iterator[Arrival]:
    """Yield requests in order; `load` is the memory slices that they want on average, as a share of all there are."""
    source = random.Random(seed)
    mean_stay = MEDIAN_STAY * math.exp(SIGMA**2 / 2)
    mean_size = sum(share * model.weight(kind) for kind, share in MIX.items())
    rate = load * nodes * GPUS / (mean_stay * mean_size)
    minute, number = 0.0, 0
    while True:
        minute += source.expovariate(rate * (1 + SWING))
        if minute >= WARM_UP + DAY:
            return
        now = 1 - SWING * math.cos(2 * math.pi * minute / DAY)
        if source.random() * (1 + SWING) >= now:
            continue
        kind = source.choices(list(MIX), list(MIX.values()))[0]
        yield Arrival(number, minute, kind, source.lognormvariate(math.log(MEDIAN_STAY), SIGMA))
        number += 1
