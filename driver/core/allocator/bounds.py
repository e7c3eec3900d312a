"""Proofs that claims cannot be allocated, by counting, and options that no answer can use. Called by `allocating`.

Every bound is a relaxation: it forgets some of the rules, so what it calls impossible is. None looks at more than pairs
of request and device, so they cost little however many combinations there are.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from driver.core.allocator import matching
from driver.core.allocator.constraints import Values, read_values
from driver.core.allocator.devices import Device
from driver.core.allocator.plans import Options, Plan
from driver.core.allocator.pools import DevicePool
from driver.core.allocator.requests import Rule, Slot
from driver.core.allocator.usage import Usage


@dataclass(frozen=True, slots=True)
class TooFew:
    """A request has fewer candidates than it asks for, whichever alternative is taken."""

    slot: int


@dataclass(frozen=True, slots=True)
class NoCommonValue:
    """No value of an attribute is had by enough candidates of all requests that must agree on it."""

    rule: Rule
    slots: tuple[int, ...]
    values: Mapping[str, int]
    """Candidates by value, as text."""


@dataclass(frozen=True, slots=True)
class TooFewValues:
    """Devices must differ in an attribute, and there are not enough values."""

    rule: Rule
    slots: tuple[int, ...]
    needed: int
    found: int


@dataclass(frozen=True, slots=True)
class TooFewTogether:
    """Several requests want the same devices, and together more than there are."""

    slots: tuple[int, ...]
    needed: int
    found: int


@dataclass(frozen=True, slots=True)
class CountersShort:
    """What is left of a counter, over all counter sets, cannot hold all the devices that are asked for."""

    counter: str
    slots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TooFewGroups:
    """Several claims want a set of devices of one value each, and the values have too few devices for so many sets."""

    attribute: str
    sets: int
    values: Mapping[str, int]


Proof = TooFewGroups | TooFew | NoCommonValue | TooFewValues | TooFewTogether | CountersShort


def find_shortage(plan: Plan) -> TooFew | None:
    """Return the first request that has too few candidates by itself. The cheapest bound: always asked."""
    for slot, alternatives in enumerate(plan.options):
        if not any(_has_enough(each) for each in alternatives):
            return TooFew(slot)
    return None


def _has_enough(options: Options) -> bool:
    return bool(options.devices) if options.wanted.is_all else len(options.devices) >= options.count


def prove(plan: Plan, usage: Usage, *, with_lists: bool) -> Plan | Proof:
    """Return a proof that there is no answer, or the plan with the candidates that may be in one."""
    narrowed = narrow(plan, with_lists=with_lists)
    if not isinstance(narrowed, Plan):
        return narrowed
    return (
        find_crowding(narrowed)
        or find_group_shortage(narrowed, with_lists=with_lists)
        or find_counter_shortage(narrowed, usage)
        or narrowed
    )


def narrow(plan: Plan, *, with_lists: bool) -> Plan | Proof:
    """Return the plan without candidates that constraints rule out in every answer, or a proof that there is none.

    Values that too few devices have are struck out, which leaves fewer candidates, which may strike out more.
    """
    while True:
        before = sum(len(each.devices) for alternatives in plan.options for each in alternatives)
        for claim in plan.claims:
            for rule in claim.written_rules:
                found = _apply(plan, rule, with_lists=with_lists)
                if not isinstance(found, Plan):
                    return found
                plan = found
        short = find_shortage(plan)
        if short is not None:
            return short
        if sum(len(each.devices) for alternatives in plan.options for each in alternatives) == before:
            return plan


def _apply(plan: Plan, rule: Rule, *, with_lists: bool) -> Plan | Proof:
    slots = [slot for slot, _ in enumerate(plan.slots) if _always_concerns(plan.slots[slot], rule)]
    if not slots:
        return plan
    values = {device: _values(device, rule, with_lists=with_lists) for slot in slots for device in _devices(plan, slot)}
    if not rule.is_match:
        return _apply_distinct(plan, rule, slots, values)
    fitting = {value for value in set().union(*values.values()) if _can_all_have(plan, slots, values, value)}
    if not fitting and _least_of(plan, slots) > 0:
        counts = Counter(str(value[1]) for found in values.values() for value in found)
        return NoCommonValue(rule, tuple(slots), dict(sorted(counts.items())))
    kept = {device for device, found in values.items() if found & fitting}
    return _keep(plan, slots, kept)


def _always_concerns(slot: Slot, rule: Rule) -> bool:
    """Say whether a constraint is about a request whichever alternative is taken, and devices can be left out."""
    return slot.claim == rule.claim and all(rule.concerns(each) and not each.is_all for each in slot.alternatives)


def _values(device: Device, rule: Rule, *, with_lists: bool) -> Values:
    """Return the values; a device of whose attribute the kind is unknown can only be alone, and counts as its own."""
    attribute = device.find_attribute(rule.attribute)
    if attribute is None:
        return frozenset()
    return read_values(attribute, with_lists=with_lists) or frozenset({("device", str(device))})


def _can_all_have(plan: Plan, slots: Sequence[int], values: Mapping[Device, Values], value: object) -> bool:
    """Say whether every request has enough candidates with a value, also if nobody shares one."""
    having = {
        slot: [[each for each in options.devices if value in values[each]] for options in plan.options[slot]]
        for slot in slots
    }
    for slot, found in having.items():
        pairs = zip(plan.options[slot], found, strict=True)
        if not any(len(devices) >= options.count for options, devices in pairs):
            return False
    return not _crowd(plan, {slot: {each for part in found for each in part} for slot, found in having.items()})


def _crowd(plan: Plan, wishes: Mapping[int, Collection[Device]]) -> list[int]:
    """Return requests that together want more of these devices than there are, if devices are not shared."""
    exclusive = {
        slot: devices
        for slot, devices in wishes.items()
        if not _is_admin(plan, slot) and not any(each.is_shareable for each in devices)
    }
    people = [slot for slot in exclusive for _ in range(_least(plan, slot))]
    return [people[each] for each in matching.find_crowd([exclusive[slot] for slot in people])]


def _apply_distinct(plan: Plan, rule: Rule, slots: Sequence[int], values: Mapping[Device, Values]) -> Plan | Proof:
    people = [slot for slot in slots for _ in range(_least(plan, slot))]
    wishes = {slot: set().union(*(values[device] for device in _devices(plan, slot))) for slot in slots}
    crowd = [people[each] for each in matching.find_crowd([wishes[slot] for slot in people])]
    if crowd:
        found = len(set().union(*(wishes[slot] for slot in crowd)))
        return TooFewValues(rule, tuple(sorted(set(crowd))), len(crowd), found)
    return _keep(plan, slots, {device for device, found in values.items() if found})


def _keep(plan: Plan, slots: Sequence[int], kept: set[Device]) -> Plan:
    """Return the plan in which these slots have no other candidates than those that are kept."""
    options = list(plan.options)
    for slot in slots:
        options[slot] = tuple(
            replace(each, devices=tuple(device for device in each.devices if device in kept)) for each in options[slot]
        )
    return replace(plan, options=tuple(options))


def _devices(plan: Plan, slot: int) -> Iterable[Device]:
    return (device for each in plan.options[slot] for device in each.devices)


def _least(plan: Plan, slot: int) -> int:
    return min(each.count for each in plan.options[slot])


def _least_of(plan: Plan, slots: Iterable[int]) -> int:
    return sum(_least(plan, slot) for slot in slots)


def _is_admin(plan: Plan, slot: int) -> bool:
    return any(each.wanted.admin_access for each in plan.options[slot])


def find_crowding(plan: Plan) -> TooFewTogether | None:
    """Return requests that want more devices together than all of them have as candidates."""
    wishes = {slot: set(_devices(plan, slot)) for slot, _ in enumerate(plan.slots)}
    crowd = _crowd(plan, wishes)
    if not crowd:
        return None
    found = set().union(*(wishes[slot] for slot in crowd))
    slots = tuple(sorted(set(crowd)))
    return TooFewTogether(slots, max(_least_of(plan, slots), len(crowd)), len(found))


def find_group_shortage(plan: Plan, *, with_lists: bool) -> TooFewGroups | None:
    """Return an attribute whose values have too few devices for all the sets that claims want of one value each."""
    wanted: dict[str, list[tuple[int, tuple[int, ...]]]] = defaultdict(list)
    for claim in plan.claims:
        for rule in claim.written_rules[:1]:
            slots = tuple(slot for slot, each in enumerate(plan.slots) if _always_concerns(each, rule))
            if rule.is_match and slots and not any(_is_admin(plan, slot) for slot in slots):
                wanted[rule.attribute].append((_least_of(plan, slots), slots))
    for attribute, sets in wanted.items():
        devices = {device for _, slots in sets for slot in slots for device in _devices(plan, slot)}
        sizes = _count_values(devices, attribute, with_lists=with_lists)
        if not any(device.is_shareable for device in devices) and not _fit(sizes, [size for size, _ in sets]):
            return TooFewGroups(attribute, len(sets), sizes)
    return None


def _count_values(devices: Iterable[Device], attribute: str, *, with_lists: bool) -> Mapping[str, int]:
    found = (device.find_attribute(attribute) for device in devices)
    values = (read_values(each, with_lists=with_lists) for each in found if each is not None)
    return dict(sorted(Counter(str(value[1]) for each in values for value in each).items()))


def _fit(rooms: Mapping[str, int], sizes: Sequence[int]) -> bool:
    """Say whether things of these sizes might fit into these rooms, judged by how many of each size do."""
    return all(
        sum(each >= size for each in sizes) <= sum(room // size for room in rooms.values()) for size in sizes if size
    )


def find_counter_shortage(plan: Plan, usage: Usage) -> CountersShort | None:
    """Return a counter of which too little is left for the devices that are asked for, counter set by counter set."""
    free = _free_by_name(plan.pools, usage)
    uses = {device: _use(plan, device) for slot, _ in enumerate(plan.slots) for device in _devices(plan, slot)}
    for name, amounts in free.items():
        least = ((_least_use(plan, slot, name, uses), slot) for slot, _ in enumerate(plan.slots))
        needs = sorted(least, key=lambda each: -each[0])
        count, total = 0, 0
        for position, (need, slot) in enumerate(needs):
            if need <= 0:
                break
            count += _least(plan, slot)
            total += need * _least(plan, slot)
            if count > sum(max(amount, 0) // need for amount in amounts) or total > sum(amounts):
                return CountersShort(name, tuple(sorted(slot for _, slot in needs[: position + 1])))
    return None


def _free_by_name(pools: Sequence[DevicePool], usage: Usage) -> Mapping[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for pool in pools:
        if pool.fault is None:
            free = usage.of_pool(pool.key).free(pool.generation)
            for (_, name), position in pool.generation.positions.items():
                found[name].append(free[position])
    return found


def _least_use(plan: Plan, slot: int, name: str, uses: Mapping[Device, Mapping[str, int]]) -> int:
    """Return what a device for a request takes at least of one counter of that name; 0 if it may take none."""
    return min((uses[device].get(name, 0) for device in _devices(plan, slot)), default=0)


def _use(plan: Plan, device: Device) -> Mapping[str, int]:
    """Return the most that a device takes of one counter, by the counter's name. Shares may take none."""
    found: dict[str, int] = {}
    names = next(pool.generation.names for pool in plan.pools if pool.key == device.id[:2])
    for position, amount in () if device.is_shareable else device.counters:
        name = names[position]
        found[name] = max(found.get(name, 0), amount)
    return found
