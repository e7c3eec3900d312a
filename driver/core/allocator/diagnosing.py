"""Why one request cannot be had on a node by itself: the first step at which too few devices are left.

Called by `explaining`. The steps: devices on the node, selectors, nodes of the devices, capacity, taints, in use, what
shares have left, counters. Each gives a part of a sentence, with the nearest miss where there is one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from driver.core.allocator import candidates, misses, wording
from driver.core.allocator.devices import Device
from driver.core.allocator.pools import DevicePool
from driver.core.allocator.reasons import Code, Reason
from driver.core.allocator.requests import Wanted
from driver.core.allocator.sieve import Sieve
from driver.core.allocator.usage import PoolUsage, Usage
from driver.model import vocabulary
from driver.model.slices import DeviceTaint


@dataclass(frozen=True, slots=True)
class Case:
    """One request on one node."""

    wanted: Wanted
    sieve: Sieve
    pools: Mapping[tuple[str, str], DevicePool]
    usage: Usage

    @property
    def need(self) -> int:
        """How many devices must be left at every step."""
        return max(self.sieve.matched, 1) if self.wanted.is_all else self.wanted.count

    def usage_of(self, device: Device) -> PoolUsage:
        """Return what is held of a device's pool."""
        return self.usage.of_pool(device.id[:2])


def diagnose(case: Case) -> Reason | None:
    """Return why the request cannot be had by itself; None if it could be."""
    sieve, need = case.sieve, case.need
    if not sieve.total:
        return Reason(Code.NO_DEVICES, "there are no devices")
    steps: Sequence[tuple[int, Callable[[Case], Reason]]] = (
        (sieve.matched + len(sieve.elsewhere), _mismatch if sieve.unmatched else _too_few),
        (sieve.matched, _elsewhere),
        (sieve.large_enough, _too_small),
        (len(sieve.usable), _tainted),
    )
    for left, say in steps:
        if left < need and not (case.wanted.is_all and say is _too_small and left):
            return say(case)
    return _diagnose_use(case)


def _diagnose_use(case: Case) -> Reason | None:
    """Go on with what allocated claims have left of the usable devices."""
    usable = case.sieve.usable
    need = len(usable) if case.wanted.is_all else case.need
    free = [each for each in usable if case.wanted.admin_access or each.name not in case.usage_of(each).whole]
    if len(free) < need:
        return _in_use(case, free)
    roomy = [each for each in free if _has_room(case, each)]
    if len(roomy) < (1 if case.wanted.is_all else need):
        return _no_room(case, free)
    short = {each: found for each in roomy if (found := _find_short_counter(case, each)) is not None}
    if len(roomy) - len(short) < (len(roomy) if case.wanted.is_all else need):
        return _no_counters(case, short, len(roomy))
    return None


def _too_few(case: Case) -> Reason:
    return Reason(Code.NO_DEVICES, f"there {_are(case.sieve.total)} {wording.count(case.sieve.total, 'device')}")


def _are(number: int) -> str:
    return "is only" if number == 1 else "are only"


def _mismatch(case: Case) -> Reason:
    """Name the selector that the devices come furthest to."""
    is_of_class, index = max(case.sieve.unmatched, key=lambda each: (not each[0], each[1]))
    shape = case.wanted.shape
    expression = (shape.class_selectors if is_of_class else shape.selectors)[index]
    devices = case.sieve.unmatched[is_of_class, index]
    name = f"selector #{index}" + (f" of class {case.wanted.source.device_class_name}" if is_of_class else "")
    left = case.sieve.matched + len(case.sieve.elsewhere)
    if is_of_class and left:
        what = f"there {_are(left)} {wording.count(left, 'device')} of class {case.wanted.source.device_class_name}"
        return Reason(Code.SELECTOR_MISMATCH, what)
    miss = misses.describe(expression, devices)
    shortfall = miss if isinstance(miss, misses.Shortfall) else None
    said = shortfall.describe() if shortfall else miss
    if said and not left:
        return Reason(Code.SELECTOR_MISMATCH, f"{said} ({name})", shortfall=shortfall, source=name)
    reached = left + len(devices)
    what = f"{left} of {wording.count(reached, 'device')} match {name} {wording.quoted(expression)}"
    return Reason(Code.SELECTOR_MISMATCH, f"{what}: {said}" if said else what)


def _elsewhere(case: Case) -> Reason:
    number = len(case.sieve.elsewhere)
    return Reason(Code.OTHER_NODES, f"{wording.count(number, 'matching device')} can be used on other nodes only")


def _too_small(case: Case) -> Reason:
    """Name the capacity that is missing, or the device that comes closest to what is asked."""
    asked = case.wanted.shape.asked
    for name in asked:
        having = [each for device in case.sieve.small for each in device.capacities if each.name == name]
        if not having:
            known = sorted({each.name for device in case.sieve.small for each in device.capacities})
            return Reason(Code.CAPACITY_EXCEEDED, f"no device has a capacity named {name} ({wording.listed(known)})")
        largest = max(having, key=lambda each: each.value)
        if asked[name] > largest.value:
            shortfall = misses.Shortfall(name, ">=", asked[name], largest.value)
            left = case.sieve.large_enough
            if not left:
                return Reason(Code.CAPACITY_EXCEEDED, shortfall.describe(), shortfall=shortfall)
            reached = wording.count(left + len(case.sieve.small), "device")
            what = f"{left} of {reached} are large enough: {shortfall.describe(is_one_of_many=True)}"
            return Reason(Code.CAPACITY_EXCEEDED, what)
    refused = [name for name in asked if any(_refuses(device, name, case) for device in case.sieve.small)]
    text = (
        f"the request policy of the devices does not allow {', '.join(f'{asked[name]} of {name}' for name in refused)}"
    )
    return Reason(Code.CAPACITY_EXCEEDED, text)


def _refuses(device: Device, name: str, case: Case) -> bool:
    asked = case.wanted.shape.asked[name]
    return any(each.name == name and not each.allows(each.take(asked)) for each in device.capacities)


def _tainted(case: Case) -> Reason:
    taints = Counter(_describe_taint(each) for each in case.sieve.tainted.values())
    text, number = min(taints.items(), key=lambda each: (-each[1], each[0]))
    what = f"{wording.count(number, 'device')} {'has' if number == 1 else 'have'} the taint {text}"
    if text.startswith(vocabulary.TAINT_CONTROLLER_ONLY):
        reason = "only accel-dra's controller allocates these devices"
        return Reason(Code.TAINTED, f"{reason} (taint {vocabulary.TAINT_CONTROLLER_ONLY})")
    usable = len(case.sieve.usable)
    left = f"{usable} of {case.sieve.large_enough} usable, " if usable else ""
    return Reason(Code.TAINTED, f"{left}{what}, which the request does not tolerate")


def _describe_taint(taint: DeviceTaint) -> str:
    return f"{taint.key}{'=' if taint.value else ''}{taint.value}:{taint.effect}"


def _in_use(case: Case, free: Sequence[Device]) -> Reason:
    total = len(case.sieve.usable)
    holders = _join(case.usage_of(each).whole.get(each.name, ()) for each in case.sieve.usable if each not in set(free))
    wanted = "all wanted, " if case.wanted.is_all else ""
    return Reason(Code.IN_USE, f"{wanted}{len(free)} of {total} free", holders)


def _has_room(case: Case, device: Device) -> bool:
    return all(left >= 0 for _, left in _rooms(case, device))


def _rooms(case: Case, device: Device) -> Iterable[tuple[str, int]]:
    """Yield for each capacity what would be left of a device after the request, below 0 if it does not fit."""
    share = case.usage_of(device).shared.get(device.name)
    if share is None:
        return
    amounts = candidates.amounts(device, case.wanted.shape)
    for each in device.capacities:
        yield each.name, each.value.nanos - share.consumed.get(each.name, 0) - amounts[each.name].nanos


def _no_room(case: Case, free: Sequence[Device]) -> Reason:
    """Name the device that comes closest."""
    misses_of = {
        device: min(_rooms(case, device), key=lambda each: each[1]) for device in free if not _has_room(case, device)
    }
    nearest = max(misses_of, key=lambda each: misses_of[each][1])
    name, left = misses_of[nearest]
    asked = candidates.amounts(nearest, case.wanted.shape)[name].nanos
    share = case.usage_of(nearest).shared[nearest.name]
    text = f"{name}: {wording.amount(left + asked)} left, {wording.amount(asked)} asked"
    return Reason(Code.CAPACITY_EXCEEDED, text, _join([share.holders]))


def _find_short_counter(case: Case, device: Device) -> int | None:
    """Return the position of the first counter of which too little is left for a device."""
    usage = case.usage_of(device)
    share = usage.shared.get(device.name)
    if not device.draws_counters or (device.is_shareable and share is not None and share.counted):
        return None
    free = usage.free(case.pools[device.id[:2]].generation)
    overdrawn = next((position for position, left in enumerate(free) if left < 0), None)
    return next((position for position, amount in device.counters if free[position] < amount), overdrawn)


def _no_counters(case: Case, short: Mapping[Device, int], total: int) -> Reason:
    """Name the counter of the device that lacks least of it."""
    nearest = min(short, key=lambda each: _lack(case, each, short[each]))
    position = short[nearest]
    generation, usage = case.pools[nearest.id[:2]].generation, case.usage_of(nearest)
    left = usage.free(generation)[position]
    need = dict(nearest.counters).get(position, 0)
    have = total - len(short)
    which = f"{have} of {wording.count(total, 'device')} can be had, " if have else ""
    text = f"{which}counter {generation.names[position]}: {wording.amount(left)} left, {wording.amount(need)} needed"
    holders = (
        (*usage.whole.get(name, ()), *(usage.shared[name].holders if name in usage.shared else ()))
        for name, devices in generation.devices.items()
        if any(position in dict(each.counters) for each in devices)
    )
    return Reason(Code.COUNTERS_EXHAUSTED, text, _join(holders))


def _lack(case: Case, device: Device, position: int) -> int:
    free = case.usage_of(device).free(case.pools[device.id[:2]].generation)
    return dict(device.counters).get(position, 0) - free[position]


def _join(holders: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(sorted({name for names in holders for name in names}))
