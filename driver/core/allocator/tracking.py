"""The books of one search: what the devices chosen so far leave for the others. Every entry is undone in reverse.

Called by `search`. `take` answers None, or the choices because of which a device cannot be taken: a set of bits, one a
choice. An empty set means that it cannot be taken whatever is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from driver.core.allocator import candidates
from driver.core.allocator.capacities import Amounts
from driver.core.allocator.constraints import Constraint
from driver.core.allocator.devices import Device
from driver.core.allocator.generations import Generation
from driver.core.allocator.outcomes import InvalidClaim
from driver.core.allocator.pools import DevicePool
from driver.core.allocator.reasons import Code
from driver.core.allocator.requests import CompiledClaim, Rule, Wanted
from driver.core.allocator.requirements import Requirement
from driver.core.allocator.usage import PoolUsage, Usage


class Refusal(Enum):
    """Why a candidate cannot be taken now."""

    IN_USE = "in use"
    CAPACITY = "capacity"
    COUNTERS = "counters"
    TAINT = "taint"
    CONSTRAINT = "constraint"


@dataclass(frozen=True, slots=True)
class Taken:
    """One device chosen for one request."""

    claim: int
    wanted: Wanted
    device: Device
    bit: int
    consumed: Amounts | None
    """For shares: what it takes of every capacity."""
    took_counters: bool
    rules: tuple[Constraint, ...]


class _Stock:
    """What is left of one pool."""

    def __init__(self, pool: DevicePool, usage: PoolUsage) -> None:
        self.usage = usage
        self.free = list(usage.free(pool.generation))
        self.is_overdrawn = min(self.free, default=0) < 0
        """One counter given away twice blocks every device with counters, as upstream does."""
        self.takers = [0] * len(self.free)
        """For each counter the choices that take of it."""


def _make(rule: Rule, *, with_lists: bool) -> Constraint:
    return (Requirement if rule.is_of_policy else Constraint)(rule, with_lists=with_lists)


class Ledger:
    """What is held while claims are searched for."""

    def __init__(
        self, pools: Sequence[DevicePool], claims: Sequence[CompiledClaim], usage: Usage, *, with_lists: bool
    ) -> None:
        self.taken: list[Taken] = []
        self.counts = [0] * len(claims)
        """Devices of each claim."""
        self.refusal = Refusal.IN_USE
        """Why `take` refused last."""
        self.refused_by: Constraint | None = None
        self._claims = claims
        self._constraints = [[_make(rule, with_lists=with_lists) for rule in claim.rules] for claim in claims]
        self._concerned: dict[tuple[int, str], tuple[Constraint, ...]] = {}
        self._stocks = {pool.key: _Stock(pool, usage.of_pool(pool.key)) for pool in pools if not pool.fault}
        self._holders: dict[Device, dict[int, int]] = {}
        self._shares: dict[Device, list[Taken]] = {}

    def is_held(self, claim: int, wanted: Wanted, device: Device) -> int | None:
        """Return None if a device is free for a request; else the choices that hold it, none if a claim has it."""
        holders = self._holders.get(device)
        if wanted.admin_access:
            return holders.get(claim) if holders else None
        if device.name in self._stock(device).usage.whole:
            return 0
        return sum({*holders.values()}) if holders else None

    def is_taken(self, device: Device) -> bool:
        """Say whether a request that is being searched for has taken a device as a whole."""
        return bool(self._holders.get(device))

    def left(self, generation: Generation, position: int) -> int:
        """Return what is left of a counter."""
        return self._stocks[generation.key].free[position]

    def take(self, claim: int, wanted: Wanted, device: Device, bit: int) -> int | None:
        """Take a device, or return the choices that prevent it. The order of the checks is upstream's."""
        held = self.is_held(claim, wanted, device)
        if held is not None:
            return self._refuse(Refusal.IN_USE, held)
        amounts = self._amounts(wanted, device)
        short = self._check_capacity(wanted, device, amounts)
        if short is not None:
            self._abort_before_capacity(claim, wanted, device)
            return self._refuse(Refusal.CAPACITY, short)
        needs_counters = device.draws_counters and not self._has_counters_already(device)
        if needs_counters:
            short = self._check_counters(device)
            if short is not None:
                return self._refuse(Refusal.COUNTERS, short)
        if wanted.is_all and candidates.find_taint(device, wanted.shape.tolerations) is not None:
            return self._refuse(Refusal.TAINT, 0)
        rules = self._concerning(claim, wanted)
        clash = self._constrain(rules, device, bit)
        if clash is not None:
            self._abort_if_all(claim, wanted, device)
            return self._refuse(Refusal.CONSTRAINT, clash)
        self._record(Taken(claim, wanted, device, bit, amounts, needs_counters, rules))
        return None

    def give_back(self) -> None:
        """Undo the last `take`."""
        taken = self.taken.pop()
        self.counts[taken.claim] -= 1
        for constraint in taken.rules:
            constraint.remove()
        if taken.took_counters:
            self._draw(taken, -1)
        if taken.consumed is None:
            del self._holders[taken.device][taken.claim]
        else:
            self._shares[taken.device].pop()

    def _refuse(self, refusal: Refusal, choices: int) -> int:
        self.refusal = refusal
        if refusal is not Refusal.CONSTRAINT:
            self.refused_by = None
        return choices

    def _stock(self, device: Device) -> _Stock:
        return self._stocks[device.id[:2]]

    def _amounts(self, wanted: Wanted, device: Device) -> Amounts | None:
        return candidates.amounts(device, wanted.shape) if device.is_shareable else None

    def _check_capacity(self, wanted: Wanted, device: Device, amounts: Amounts | None) -> int | None:
        """Only shares add up; but a device of which shares are left from when it was shareable needs room as well."""
        share = self._stock(device).usage.shared.get(device.name)
        if amounts is None:
            if share is None:
                return None
            amounts = candidates.amounts(device, wanted.shape)
        shares = self._shares.get(device, ())
        for capacity in device.capacities:
            total = amounts[capacity.name].nanos + (share.consumed.get(capacity.name, 0) if share else 0)
            total += sum(each.consumed[capacity.name].nanos for each in shares if each.consumed)
            if total > capacity.value.nanos:
                return sum({each.bit for each in shares})
        return None

    def _has_counters_already(self, device: Device) -> bool:
        """A share takes counters only if no share before it has; allocated ones that name no capacity do not count."""
        if not device.is_shareable:
            return False
        share = self._stock(device).usage.shared.get(device.name)
        return bool(self._shares.get(device)) or (share is not None and share.counted > 0)

    def _check_counters(self, device: Device) -> int | None:
        stock = self._stock(device)
        if stock.is_overdrawn:
            return 0
        for position, amount in device.counters:
            if stock.free[position] < amount:
                return stock.takers[position]
        return None

    def _concerning(self, claim: int, wanted: Wanted) -> tuple[Constraint, ...]:
        key = (claim, wanted.name)
        found = self._concerned.get(key)
        if found is None:
            constraints = self._constraints[claim]
            found = self._concerned[key] = tuple(each for each in constraints if each.rule.concerns(wanted))
        return found

    def _constrain(self, rules: Sequence[Constraint], device: Device, bit: int) -> int | None:
        """Add a device to all constraints or to none."""
        for position, constraint in enumerate(rules):
            clash = constraint.add(device, bit)
            if clash is not None:
                self.refused_by = constraint
                for added in rules[:position]:
                    added.remove()
                return clash
        return None

    def _abort_if_all(self, claim: int, wanted: Wanted, device: Device) -> None:
        """A claim for all devices that its own constraint forbids to be had together makes no sense anywhere."""
        if wanted.is_all and not (self.refused_by and self.refused_by.rule.is_of_policy):
            who = f"claim {self._claims[claim].claim}, request {wanted.name}"
            what = f"cannot add device {device} because a claim constraint would not be satisfied"
            raise InvalidClaim(f"{who}: {what}", Code.CONSTRAINT_UNSATISFIED)

    def _abort_before_capacity(self, claim: int, wanted: Wanted, device: Device) -> None:
        """Of a device that is one of all, upstream looks at what is left last: what ends the search comes first."""
        rules = self._concerning(claim, wanted) if wanted.is_all else ()
        if not rules or candidates.find_taint(device, wanted.shape.tolerations) is not None:
            return
        needs_counters = device.draws_counters and not self._has_counters_already(device)
        if needs_counters and self._check_counters(device) is not None:
            return
        if self._constrain(rules, device, 0) is not None:
            self._abort_if_all(claim, wanted, device)
        for constraint in rules:
            constraint.remove()

    def _record(self, taken: Taken) -> None:
        self.taken.append(taken)
        self.counts[taken.claim] += 1
        if taken.took_counters:
            self._draw(taken, 1)
        if taken.consumed is None:
            self._holders.setdefault(taken.device, {})[taken.claim] = taken.bit
        else:
            self._shares.setdefault(taken.device, []).append(taken)

    def _draw(self, taken: Taken, sign: int) -> None:
        """Take a device's counters, or give them back. `takers` is a sum: one choice may take several devices."""
        stock = self._stock(taken.device)
        for position, amount in taken.device.counters:
            stock.free[position] -= sign * amount
            stock.takers[position] += sign * taken.bit
