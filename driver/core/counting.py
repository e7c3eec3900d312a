"""How much of an accelerator each of its devices takes, as shared counters (KEP-4815). Called by `partitioning`.

One counter set an accelerator: a counter of 1 for each memory slice, so that partitions cannot overlap, and one for
each kind of engine, so that together they cannot take more than there is. A whole device takes all of it. A counter's
value is the most that the whole device or any profile has, because a vendor's numbers for the two need not agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Final

from driver.core import naming
from driver.model.devices import Accelerator, Partition, Profile
from driver.model.slices import Counter, CounterConsumption, CounterSet

Amounts = Mapping[str, int]
"""By name of the counter. A counter of 0 is left out."""

SLICE: Final = "memory-slice"
MULTIPROCESSORS: Final = "multiprocessors"
ENGINES: Final = {
    MULTIPROCESSORS: "multiprocessors",
    "copy-engines": "copyEngines",
    "decoders": "decoders",
    "encoders": "encoders",
    "jpeg-engines": "jpegEngines",
    "ofa-engines": "ofaEngines",
}
"""Counters beside memory slices, and the capacity that says the same of one device."""


def total(accelerator: Accelerator) -> Amounts:
    """Return what there is. A device that cannot be partitioned is one memory slice.

    It depends on what could be made and never on what exists, so that making a partition changes no counter.
    """
    ends = [place + profile.size for profile in accelerator.profiles for place in profile.placements]
    slices = dict.fromkeys(map(_name_slice, range(max(ends, default=1))), 1)
    engines = [_count_engines(accelerator), *(_count_engines(profile) for profile in accelerator.profiles)]
    return slices | {name: max(counts) for name, counts in _collect(engines).items()}


def take(part: Partition) -> Amounts:
    """Return what a partition takes of its accelerator; `size` has to be known."""
    slices = range(part.placement, part.placement + (part.size or 0))
    return dict.fromkeys(map(_name_slice, slices), 1) | _count_engines(part)


def take_together(parts: Iterable[Partition]) -> Amounts:
    """Return what partitions that exist take.

    Several compute instances of one place share its memory and engines, and have multiprocessors of their own.
    """
    taken: dict[str, int] = {}
    for _, shared in groupby(sorted(parts, key=_place), key=_place):
        group = list(shared)
        for name, counts in _collect(map(take, group)).items():
            taken[name] = taken.get(name, 0) + (sum(counts) if name == MULTIPROCESSORS else max(counts))
    return taken


def subtract(amounts: Amounts, taken: Amounts) -> Amounts:
    """Return what is left, never less than nothing."""
    left = {name: amount - taken.get(name, 0) for name, amount in amounts.items()}
    return {name: amount for name, amount in left.items() if amount > 0}


def fits(wanted: Amounts, left: Amounts) -> bool:
    """Say whether there is enough of everything."""
    return all(amount <= left.get(name, 0) for name, amount in wanted.items())


def make_set(accelerator: Accelerator, amounts: Amounts) -> CounterSet:
    """Return the counter set of an accelerator, which is named like the whole device."""
    return CounterSet(name=naming.name_accelerator(accelerator), counters=_write(amounts))


def consume(counter_set: CounterSet, amounts: Amounts) -> tuple[CounterConsumption, ...]:
    """Return what a device says about the counters it draws."""
    return (CounterConsumption(counter_set=counter_set.name, counters=_write(amounts)),)


def read(counters: Mapping[str, Counter]) -> Amounts:
    """Return counters as numbers, as they were written here."""
    return {name: int(counter.value) for name, counter in counters.items()}


def _write(amounts: Amounts) -> dict[str, Counter]:
    return {name: Counter(value=str(amount)) for name, amount in sorted(amounts.items())}


def _name_slice(number: int) -> str:
    return f"{SLICE}-{number}"


def _count_engines(part: Accelerator | Profile | Partition) -> dict[str, int]:
    counts: dict[str, int | None] = {MULTIPROCESSORS: part.multiprocessors}
    if not isinstance(part, Accelerator):  # of a whole device nobody says how many engines it has
        engines = (part.copy_engines, part.decoders, part.encoders, part.jpeg_engines, part.ofa_engines)
        counts |= zip(tuple(ENGINES)[1:], engines, strict=True)
    return {name: count for name, count in counts.items() if count is not None and count > 0}


def _collect(parts: Iterable[Amounts]) -> dict[str, Sequence[int]]:
    found: dict[str, list[int]] = {}
    for part in parts:
        for name, count in part.items():
            found.setdefault(name, []).append(count)
    return {**found}


def _place(part: Partition) -> tuple[int, int]:
    return part.placement, part.size or 0
