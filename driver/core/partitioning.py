"""What one accelerator offers: itself, its partitions, those that could be made. Called by `inventory`.

In dynamic mode every profile at every place is a device of its own, and shared counters (`counting`) keep two that
exclude each other from being allocated. It promises to offer nothing twice, nothing that could never be had, and the
same devices whether or not a partition of ours exists already, so that making one changes no slice. A partition that
somebody else made is offered as it is, and what overlaps it is not. What is left out has its reason.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from driver.core import counting
from driver.core.counting import Amounts
from driver.core.offering import Mode, Offer, Own
from driver.model.devices import Accelerator, Failure, Partition, Profile
from driver.model.prepared import PARTITION, Step
from driver.model.slices import MAX_COUNTERS_PER_SET

PARTITIONS: Final = "partitions"
WHOLE: Final = "whole device"
"""What of a device is not offered (`Failure.part`)."""


@dataclass(frozen=True, slots=True)
class Part:
    """One partition that is offered."""

    published: Partition
    """As it is described: without `uuid` if we make and remove it."""
    actual: Partition
    """As it is: with the `uuid` of now while it exists."""
    takes: Amounts
    """What it takes of the counters; nothing for one that is somebody else's, which is taken from them already."""


@dataclass(frozen=True, slots=True)
class Division:
    """What one accelerator offers, and what not."""

    accelerator: Accelerator
    whole: bool
    parts: tuple[Part, ...] = ()
    counters: Amounts = dataclasses.field(default_factory=dict)
    """What there is to be taken by those parts that take something, and by the whole device, which takes all of it."""
    omitted: tuple[Failure, ...] = ()


def owned(steps: Iterable[Step]) -> frozenset[Own]:
    """Return the partitions that steps of claims have made, or are about to make."""
    return frozenset(own for step in steps if step.name == PARTITION for own in _read(step))


def divide(accelerator: Accelerator, offer: Offer) -> Division:
    """Return what an accelerator offers under a node's mode."""
    existing = accelerator.partitions if accelerator.partitioned else ()
    ours = tuple(part for part in existing if is_ours(accelerator, part, offer.owned))
    foreign = tuple(part for part in existing if part not in ours)
    absent = tuple(_list_absent(accelerator, offer.owned, existing))
    ours += absent
    lent = tuple(part for part in foreign if not _is_promised(accelerator, part, offer.owned, existing))
    if offer.mode is Mode.DYNAMIC and accelerator.profiles:
        return _withhold(_divide_freely(accelerator, offer, ours, foreign), lent)
    # Claims hold what is ours, so it stays until they are gone, also in a mode that would not make it.
    kept = [Part(_describe(accelerator, part), part, {}) for part in ours]
    if offer.mode is not Mode.OFF:
        kept += [Part(part, part, {}) for part in foreign]
    reasons = [] if kept or not accelerator.partitioned else [*_fail(accelerator, _explain_empty(offer.mode))]
    if offer.mode is Mode.DYNAMIC and accelerator.partition_fault is not None:
        reasons += _fail(accelerator, f"it cannot be partitioned: {accelerator.partition_fault}", PARTITIONS)
    division = Division(
        accelerator,
        whole=not accelerator.partitioned and not absent,
        parts=tuple(kept),
        counters=counting.total(accelerator),
        omitted=tuple(reasons),
    )
    return _withhold(division, lent)


def _list_absent(accelerator: Accelerator, owned: frozenset[Own], existing: Sequence[Partition]) -> Iterator[Partition]:
    """Yield partitions that claims hold and that are not there: a boot took them, the next prepare brings them back.

    A stranger that took the place since is no reason to give the rest of it away; one that was there first is.
    """
    ours = {_place(part) for part in existing if is_ours(accelerator, part, owned)}
    there = [_size(accelerator, part) for part in existing]
    shapes = {
        _place(shape): shape
        for own, shape in _list_held(accelerator, owned)
        if _place(shape) not in ours and not any(part.uuid in own.present and _overlap(shape, part) for part in there)
    }
    yield from (shapes[place] for place in sorted(shapes))


def _list_held(accelerator: Accelerator, owned: frozenset[Own]) -> Iterator[tuple[Own, Partition]]:
    """Yield what claims hold on an accelerator, whether or not it is there, as far as it still has such places."""
    profiles = {profile.name: profile for profile in accelerator.profiles}
    for own in owned:
        profile = profiles.get(own.profile) if own.pci_address == accelerator.pci_address else None
        if profile is not None and own.placement in profile.placements:
            yield own, profile.shape(own.placement)


def _is_promised(
    accelerator: Accelerator, part: Partition, owned: frozenset[Own], existing: Sequence[Partition]
) -> bool:
    """Say whether a stranger stands where a claim has a partition that is gone: made since, and in its way."""
    mine = _size(accelerator, part)
    there = {_place(each) for each in existing if is_ours(accelerator, each, owned)}
    return any(
        part.uuid not in own.present and _place(shape) not in there and _overlap(shape, mine)
        for own, shape in _list_held(accelerator, owned)
    )


def _withhold(division: Division, lent: Sequence[Partition]) -> Division:
    """Leave out strangers that stand in the way of a claim: whoever were given them would be refused."""
    strangers = [part for part in division.parts if part.actual.uuid and part.published is part.actual]
    kept = tuple(part for part in division.parts if part not in strangers or part.actual in lent)
    reasons = tuple(
        Failure(
            division.accelerator.pci_address,
            division.accelerator.index,
            f"{_name(part.actual)} stands where a claim has a partition that is to be made again: remove one of them",
            PARTITIONS,
        )
        for part in strangers
        if part.actual not in lent
    )
    return dataclasses.replace(division, parts=kept, omitted=division.omitted + reasons)


def _overlap(one: Partition, other: Partition) -> bool:
    """Say whether two partitions cannot be beside each other; one of unknown size takes at least its own place."""
    ends = [part.placement + (part.size or 1) for part in (one, other)]
    return one.placement < ends[1] and other.placement < ends[0]


def _divide_freely(
    accelerator: Accelerator, offer: Offer, ours: Sequence[Partition], foreign: Sequence[Partition]
) -> Division:
    """Offer whatever can be made beside what somebody else made."""
    reason = _find_obstacle(accelerator, foreign)
    fixed = accelerator.partition_fault is not None
    taken = counting.take_together(_size(accelerator, part) for part in foreign)
    left = counting.subtract(counting.total(accelerator), taken)
    possible = [] if reason or (fixed and not accelerator.partitioned) else _list_possible(accelerator, offer, left)
    there = {_place(part): part for part in ours}
    parts = [_make_part(part, there.pop(_place(part), part)) for part in possible]
    # A stranger may have taken a part of what one of ours had before a boot: it takes what is left of that.
    parts += [_cap(_make_part(_describe(accelerator, part), part), left) for part in there.values()]
    parts += [Part(part, part, {}) for part in foreign]
    return Division(
        accelerator,
        whole=not foreign and not (fixed and accelerator.partitioned),
        parts=tuple(parts),
        counters=left,
        omitted=tuple(_explain_limits(accelerator, offer, foreign, reason)),
    )


def _list_possible(accelerator: Accelerator, offer: Offer, left: Amounts) -> list[Partition]:
    """Return every profile at every place for which there is enough. Of profiles with one name the first counts."""
    profiles: dict[str, Profile] = {}
    for profile in accelerator.profiles:
        if profile.size > 0 and (not offer.profiles or profile.name in offer.profiles):
            profiles.setdefault(profile.name, profile)
    parts = [profile.shape(place) for profile in profiles.values() for place in sorted(set(profile.placements))]
    return [part for part in parts if counting.fits(counting.take(part), left)]


def _make_part(published: Partition, actual: Partition) -> Part:
    return Part(published, actual, counting.take(published))


def _cap(part: Part, left: Amounts) -> Part:
    takes = {name: min(amount, left.get(name, 0)) for name, amount in part.takes.items()}
    return dataclasses.replace(part, takes={name: amount for name, amount in takes.items() if amount})


def _describe(accelerator: Accelerator, part: Partition) -> Partition:
    """Return a partition of ours as it was described before it was made."""
    profile = next((profile for profile in accelerator.profiles if profile.name == part.profile), None)
    return profile.shape(part.placement) if profile else dataclasses.replace(part, uuid=None)


def _size(accelerator: Accelerator, part: Partition) -> Partition:
    """Return a partition with its size, from its profile if its vendor does not say."""
    sizes = {profile.name: profile.size for profile in accelerator.profiles}
    return dataclasses.replace(part, size=part.size or sizes.get(part.profile))


def _find_obstacle(accelerator: Accelerator, foreign: Sequence[Partition]) -> str:
    """Return why no partition can be offered beside what exists; empty if they can."""
    for part in foreign:
        if _size(accelerator, part).size is None:
            return f"the place that {_name(part)} takes is not known"
    count = len(counting.total(accelerator))
    if count > MAX_COUNTERS_PER_SET:
        return f"its memory slices and engines are {count} counters; at most {MAX_COUNTERS_PER_SET} can be published"
    return ""


def _explain_limits(
    accelerator: Accelerator, offer: Offer, foreign: Sequence[Partition], obstacle: str
) -> Iterator[Failure]:
    """Yield what cannot be had of an accelerator that could be partitioned, and why."""
    fault = accelerator.partition_fault
    if obstacle:
        yield from _fail(accelerator, f"no partitions are made on it: {obstacle}", PARTITIONS)
    elif fault is not None and not accelerator.partitioned:
        yield from _fail(accelerator, f"it cannot be partitioned: {fault}", PARTITIONS)
    elif offer.profiles and not offer.profiles & {profile.name for profile in accelerator.profiles}:
        names = ", ".join(profile.name for profile in accelerator.profiles)
        yield from _fail(accelerator, f"none of its profiles ({names}) is among those that are set", PARTITIONS)
    if foreign:
        names = ", ".join(map(_name, foreign))
        text = f"whatever overlaps partitions that accel-dra did not make is not offered: {names}"
        yield from _fail(accelerator, text, WHOLE)
    elif fault is not None and accelerator.partitioned:
        yield from _fail(accelerator, f"it is in partition mode and cannot leave it: {fault}", WHOLE)


def _explain_empty(mode: Mode) -> str:
    if mode is Mode.OFF:
        return "it is in partition mode, and this node offers whole devices only (partitions: off)"
    return "it is in partition mode and has no partitions"


def _fail(accelerator: Accelerator, reason: str, part: str = "") -> Iterator[Failure]:
    yield Failure(accelerator.pci_address, accelerator.index, reason, part)


def is_ours(accelerator: Accelerator, part: Partition, owned: frozenset[Own]) -> bool:
    """Say whether a partition that exists was made by a step of a claim."""
    place = (accelerator.pci_address, part.profile, part.placement)
    return any(
        own.uuid == part.uuid or (not own.uuid and part.uuid not in own.present)
        for own in owned
        if (own.pci_address, own.profile, own.placement) == place
    )


def _read(step: Step) -> Iterator[Own]:
    known, facts = step.arguments, step.facts
    placement = known.get("placement", "")
    if placement.isdecimal():  # of a later version otherwise
        present = frozenset(facts.get("present", "").split())
        yield Own(known.get("pciAddress", ""), known.get("profile", ""), int(placement), facts.get("uuid", ""), present)


def _place(part: Partition) -> tuple[str, int, int | None]:
    return part.profile, part.placement, part.subplacement


def _name(part: Partition) -> str:
    return f"{part.profile} at {part.placement} ({part.uuid})"
