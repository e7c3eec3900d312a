"""Claims on one node, before the search: for every request the devices that it may get. Called by `allocating`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from driver.core.allocator import candidates
from driver.core.allocator.candidates import Candidates
from driver.core.allocator.devices import Device
from driver.core.allocator.outcomes import InvalidClaim
from driver.core.allocator.pools import DevicePool, Fault
from driver.core.allocator.reasons import Code
from driver.core.allocator.requests import MAX_RESULTS, CompiledClaim, Slot, Wanted
from driver.core.allocator.selectors import Evaluate, SelectorFault
from driver.core.allocator.usage import Usage


@dataclass(frozen=True, slots=True)
class Options:
    """What one request may get on the node."""

    wanted: Wanted
    devices: tuple[Device, ...]
    """In order. For allocation mode All: exactly those that are meant, also if they are in use or tainted."""
    faults: Mapping[Device, SelectorFault]

    @property
    def count(self) -> int:
        """How many devices it gets."""
        return len(self.devices) if self.wanted.is_all else self.wanted.count


@dataclass(frozen=True, slots=True)
class Plan:
    """All requests of all claims, in the order in which they are searched for."""

    pools: tuple[DevicePool, ...]
    claims: tuple[CompiledClaim, ...]
    slots: tuple[Slot, ...]
    options: tuple[tuple[Options, ...], ...]
    """For every slot one a alternative."""

    @property
    def may_abort(self) -> bool:
        """True if the search may meet something that no node can help with: then it must go where upstream goes.

        That is a device whose selector fails, or all devices under a constraint which some device does not satisfy.
        """
        return any(
            each.faults or (each.wanted.is_all and self._is_constrained(slot, each.wanted))
            for slot, alternatives in enumerate(self.options)
            for each in alternatives
        )

    def _is_constrained(self, slot: int, wanted: Wanted) -> bool:
        return any(rule.concerns(wanted) for rule in self.claims[self.slots[slot].claim].rules)


def make_plan(pools: Sequence[DevicePool], claims: Sequence[CompiledClaim], usage: Usage, evaluate: Evaluate) -> Plan:
    """Find what every request may get. Raises `InvalidClaim` for a claim that no node can satisfy."""
    slots: list[Slot] = []
    options: list[tuple[Options, ...]] = []
    for claim in claims:
        found = [
            tuple(_find(pools, claim, each, usage, evaluate) for each in slot.alternatives) for slot in claim.slots
        ]
        least = sum(min(each.count for each in alternatives) for alternatives in found)
        if least > MAX_RESULTS:
            raise InvalidClaim(
                f"claim {claim.claim}: number of requested devices {least} exceeds the claim limit of {MAX_RESULTS}",
                Code.TOO_MANY_DEVICES,
            )
        slots.extend(claim.slots)
        options.extend(found)
    return Plan(tuple(pools), tuple(claims), tuple(slots), tuple(options))


def _find(
    pools: Sequence[DevicePool], claim: CompiledClaim, wanted: Wanted, usage: Usage, evaluate: Evaluate
) -> Options:
    if wanted.is_all:
        return _find_all(pools, claim, wanted, usage, evaluate)
    faults: dict[Device, SelectorFault] = {}
    parts: list[Sequence[Device]] = []
    for pool in pools:
        found = candidates.find(pool, wanted.shape, evaluate)
        faults.update(found.faults)
        taken = {} if wanted.admin_access else usage.of_pool(pool.key).whole
        parts.append([each for each in found.usable if each.id[2] not in taken] if taken else found.usable)
    devices = tuple(parts[0]) if len(parts) == 1 else tuple(chain.from_iterable(parts))
    return Options(wanted, devices, faults)


def _find_all(
    pools: Sequence[DevicePool], claim: CompiledClaim, wanted: Wanted, usage: Usage, evaluate: Evaluate
) -> Options:
    who = f"claim {claim.claim}, request {wanted.name}"
    devices: list[Device] = []
    for pool in pools:
        if pool.fault is not None:
            code = Code.POOL_INVALID if pool.fault is Fault.INVALID else Code.POOL_INCOMPLETE
            what = f"resource pool {pool} {pool.fault.value}: {pool.reason}"
            raise InvalidClaim(f"{who}: asks for all devices, but {what}", code)
        found: Candidates = candidates.find(pool, wanted.shape, evaluate)
        for fault in found.faults.values():
            raise SelectorFailed(claim, wanted, next(iter(found.faults)), fault)
        devices.extend(each for each in found.selected if has_room(each, wanted, usage))
    return Options(wanted, tuple(devices), {})


def has_room(device: Device, wanted: Wanted, usage: Usage) -> bool:
    """Say whether the shares that are allocated of a device leave what a request takes."""
    share = usage.of_pool(device.id[:2]).shared.get(device.name)
    if share is None:
        return True
    amounts = candidates.amounts(device, wanted.shape)
    return all(
        amounts[each.name].nanos + share.consumed.get(each.name, 0) <= each.value.nanos for each in device.capacities
    )


class SelectorFailed(InvalidClaim):
    """A selector has no verdict for a device that the search has come to."""

    def __init__(self, claim: CompiledClaim, wanted: Wanted, device: Device, fault: SelectorFault) -> None:
        self.wanted = wanted
        self.device = device
        self.fault = fault
        self.where = f"class {wanted.device_class.metadata.name}" if fault.is_of_class else f"claim {claim.claim}"
        super().__init__(f"{self.where}: selector #{fault.index} on device {device}: {fault}", Code.SELECTOR_ERROR)
