"""The objective of `best-fit`, written down a second time, and every set that there is to choose from.

Slow and simple: a set is judged by comparing the node before and after, never step by step. What is feasible is asked
of the allocator's own books, which have tests of their own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb, prod

from driver.core.allocator import NodeView, Snapshot
from driver.core.allocator.choosing import make_question
from driver.core.allocator.devices import Device
from driver.core.allocator.outcomes import InvalidClaim
from driver.core.allocator.plans import Options, Plan, make_plan
from driver.core.allocator.tracking import Ledger, Taken
from driver.model import quantities
from driver.model.policies import Policy, Preference
from driver.model.wanted import Claim

Score = tuple[tuple[int, ...], tuple[int, ...]]
DOMAIN = "accel-dra.dev/interconnectDomain"
NUMA = "resource.kubernetes.io/numaNode"
ROOT = "resource.kubernetes.io/pcieRoot"


@dataclass(frozen=True)
class Answer:
    """One feasible set: the alternatives taken, and the devices."""

    ranks: tuple[int, ...]
    taken: tuple[Taken, ...]


def count_choices(snapshot: Snapshot, node: NodeView, claims: Sequence[Claim], policies: Sequence[Policy]) -> int:
    """Return how many sets there are, feasible or not."""
    question = make_question(claims, policies, snapshot.classes)
    plan = make_plan(snapshot.pools.gather(node), question.claims, snapshot.usage, snapshot.evaluate)
    return prod(sum(comb(len(each.devices), each.count) for each in alternatives) for alternatives in plan.options)


def list_answers(
    snapshot: Snapshot, node: NodeView, claims: Sequence[Claim], policies: Sequence[Policy]
) -> Iterator[Answer]:
    """Yield every feasible set there is."""
    question = make_question(claims, policies, snapshot.classes)
    plan = make_plan(snapshot.pools.gather(node), question.claims, snapshot.usage, snapshot.evaluate)
    ledger = Ledger(plan.pools, plan.claims, snapshot.usage, with_lists=False)
    return _go_on(plan, ledger, 0, ())


def _go_on(plan: Plan, ledger: Ledger, slot: int, ranks: tuple[int, ...]) -> Iterator[Answer]:
    if slot == len(plan.slots):
        yield Answer(ranks, tuple(ledger.taken))
        return
    for rank, options in enumerate(plan.options[slot]):
        chosen = (*ranks, rank) if plan.slots[slot].is_list else ranks
        if ledger.counts[plan.slots[slot].claim] + options.count > 32 or (
            options.wanted.is_all and not options.devices
        ):
            continue
        for devices in combinations(options.devices, options.count):
            taken = _take_all(ledger, plan.slots[slot].claim, options, devices)
            if taken == len(devices):
                yield from _go_on(plan, ledger, slot + 1, chosen)
            for _ in range(taken):
                ledger.give_back()


def _take_all(ledger: Ledger, claim: int, options: Options, devices: Sequence[Device]) -> int:
    for count, device in enumerate(devices):
        try:
            if device in options.faults or ledger.take(claim, options.wanted, device, 1) is not None:
                return count
        except InvalidClaim:
            return count
    return len(devices)


class Judge:
    """Scores sets of devices of one node."""

    def __init__(self, snapshot: Snapshot, node: NodeView, policies: Sequence[Policy]) -> None:
        self._policies = policies
        self._pools = [pool for pool in snapshot.pools.gather(node) if not pool.fault]
        self._devices = [device for pool in self._pools for device in pool.devices]
        self._usage = snapshot.usage
        self._units = list(self._find_units())

    def score(self, answer: Answer) -> Score:
        """Return the score of a set: the smaller, the better."""
        before, after = self._look(()), self._look(answer.taken)
        return answer.ranks, (
            sum(self._count_values(answer, claim, DOMAIN) for claim, _ in enumerate(self._policies)),
            sum(self._count_values(answer, claim, NUMA) for claim, _ in enumerate(self._policies)),
            _count_unpaired([each.device for each in answer.taken]),
            sum(_size(each, is_memory=True) for each in answer.taken),
            sum(_size(each, is_memory=False) for each in answer.taken),
            sum(before.fresh) - sum(after.fresh),
            self._squares(before.fresh, DOMAIN) - self._squares(after.fresh, DOMAIN),
            self._squares(before.fresh, NUMA) - self._squares(after.fresh, NUMA),
            sum(before.values) - sum(after.values),
        )

    def _find_units(self) -> Iterator[list[Device]]:
        """Yield devices that share a counter with one another, directly or over others."""
        rest = list(self._devices)
        while rest:
            unit = [rest.pop(0)]
            for member in unit:
                near = [each for each in rest if each.id[:2] == member.id[:2] and _counters(each) & _counters(member)]
                unit.extend(near)
                rest = [each for each in rest if each not in near]
            yield sorted(unit, key=self._devices.index)

    def _look(self, taken: Sequence[Taken]) -> _Look:
        return _Look(
            [self._is_fresh(unit, taken) for unit in self._units], [self._value(unit, taken) for unit in self._units]
        )

    def _is_fresh(self, unit: Sequence[Device], taken: Sequence[Taken]) -> bool:
        held = {each.device for each in taken}
        if any(device in held or self._usage.of_pool(device.id[:2]).holds(device.name) for device in unit):
            return False
        return self._left(unit, taken) == self._whole(unit)

    def _whole(self, unit: Sequence[Device]) -> Mapping[int, int]:
        pool = next(pool for pool in self._pools if pool.key == unit[0].id[:2])
        return {index: pool.generation.counters[index] for device in unit for index in _counters(device)}

    def _left(self, unit: Sequence[Device], taken: Sequence[Taken]) -> Mapping[int, int]:
        pool = next(pool for pool in self._pools if pool.key == unit[0].id[:2])
        free = self._usage.of_pool(pool.key).free(pool.generation)
        left = {index: free[index] for device in unit for index in _counters(device)}
        for each in taken:
            for index, amount in each.device.counters if each.device in unit and each.took_counters else ():
                left[index] -= amount
        return left

    def _value(self, unit: Sequence[Device], taken: Sequence[Taken]) -> int:
        if unit[0].counters:
            left, whole = self._left(unit, taken), self._whole(unit)
            possible = [each for each in unit if all(left[index] >= amount for index, amount in each.counters)]
            return sum(_weight(each, whole) for each in possible)
        return self._headroom(unit[0], taken) ** 2 if unit[0].is_shareable else 0

    def _headroom(self, device: Device, taken: Sequence[Taken]) -> int:
        share = self._usage.of_pool(device.id[:2]).shared.get(device.name)
        rooms = []
        for each in device.capacities:
            left = each.value.nanos - (share.consumed.get(each.name, 0) if share else 0)
            left -= sum(one.consumed[each.name].nanos for one in taken if one.device is device and one.consumed)
            rooms.append(left * 1000 // each.value.nanos)
        return min(rooms, default=1000 if not share and not any(one.device is device for one in taken) else 0)

    def _squares(self, fresh: Sequence[bool], name: str) -> int:
        sizes: Counter[tuple[str, object]] = Counter()
        for unit, is_fresh in zip(self._units, fresh, strict=True):
            values = [value for device in unit if (value := _value_of(device, name)) is not None]
            if is_fresh and values:
                sizes[unit[0].driver, values[0]] += 1
        return sum(size**2 for size in sizes.values())

    def _count_values(self, answer: Answer, claim: int, name: str) -> int:
        policy = self._policies[claim]
        if (policy.interconnect if name == DOMAIN else policy.numa) is Preference.IGNORE:
            return 0
        found = {
            value if (value := _value_of(each.device, name)) is not None else each.device
            for each in answer.taken
            if each.claim == claim and (name == NUMA or _is_linkable(each.device))
        }
        return max(len(found) - 1, 0)


@dataclass
class _Look:
    fresh: list[bool]
    values: list[int]


def _counters(device: Device) -> set[int]:
    return {index for index, _ in device.counters}


def _weight(device: Device, whole: Mapping[int, int]) -> int:
    share = sum(amount * 1000 // whole[index] for index, amount in device.counters if whole[index])
    return max(1, share // len(whole))


def _value_of(device: Device, name: str) -> object:
    attribute = device.find_attribute(name)
    if attribute is None:
        return None
    return attribute.int_ if attribute.int_ is not None else attribute.string


def _is_linkable(device: Device) -> bool:
    kind = device.find_attribute("accel-dra.dev/type")
    return _value_of(device, DOMAIN) is not None or (kind is not None and kind.string in ("gpu", "partition", "vfio"))


def _count_unpaired(devices: Sequence[Device]) -> int:
    roots: dict[str, set[object]] = defaultdict(set)
    rooted = [device for device in devices if _value_of(device, ROOT) is not None]
    for device in rooted:
        roots[device.driver].add(_value_of(device, ROOT))
    if len(roots) < 2:
        return 0
    return sum(
        not any(_value_of(device, ROOT) in found for driver, found in roots.items() if driver != device.driver)
        for device in rooted
    )


def _size(taken: Taken, *, is_memory: bool) -> int:
    found = taken.consumed
    if found is None:
        texts = taken.device.published.capacity
        found = {name: quantities.parse(capacity.value) for name, capacity in texts.items()}
    chosen = [each.nanos for name, each in found.items() if (name.rpartition("/")[2] == "memory") is is_memory]
    return sum(chosen) // 10**9
