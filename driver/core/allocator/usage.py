"""What allocated claims hold: devices, shares of devices, and so what is left of the counters of every pool.

Values: `Usage.adding` and `removing` give the next one and share every pool that the claim does not touch. Called by
snapshots, and by whoever keeps one usage for the whole cluster. What is left of a pool's counters is remembered and
carried over, device by device.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from driver.core.allocator.devices import PoolKey
from driver.core.allocator.generations import Generation
from driver.model import quantities
from driver.model.claims import AllocationResult
from driver.model.wanted import Claim

NOTHING: Final[Mapping[str, int]] = {}


@dataclass(frozen=True, slots=True)
class Share:
    """What the shares of one device hold together."""

    holders: tuple[str, ...] = ()
    """Claims as `namespace/name`, one entry a share."""
    consumed: Mapping[str, int] = field(default_factory=dict)
    """Sum by capacity name, in units of 10^-9."""
    counted: int = 0
    """Shares that say what they consume. While there is one, a further share takes no counters."""

    def adding(self, holder: str, result: AllocationResult) -> Share:
        """Return this and one share more."""
        return self._changed((*self.holders, holder), result, 1)

    def removing(self, holder: str, result: AllocationResult) -> Share:
        """Return this and one share less."""
        return self._changed(_without(self.holders, holder), result, -1)

    def _changed(self, holders: tuple[str, ...], result: AllocationResult, sign: int) -> Share:
        consumed = dict(self.consumed)
        for name, text in result.consumed_capacity.items():
            consumed[name] = consumed.get(name, 0) + sign * quantities.parse(text, name).nanos
        return Share(holders, consumed, self.counted + (sign if result.consumed_capacity else 0))


@dataclass(frozen=True, slots=True)
class PoolUsage:
    """What is held of one pool."""

    whole: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Devices that are taken as a whole, and by which claims."""
    shared: Mapping[str, Share] = field(default_factory=dict)
    """Devices of which shares are taken."""
    _free: dict[Generation, tuple[int, ...]] = field(default_factory=dict, compare=False, repr=False)

    def free(self, generation: Generation) -> tuple[int, ...]:
        """Return what is left of each counter of a generation of the pool; below 0 where too much was given away.

        A held device takes its counters once, however many shares it has, also if only other nodes reach it.
        """
        if not self.whole and not self.shared:
            return generation.counters  # not remembered: all unused pools have the same usage
        found = self._free.get(generation)
        if found is None:
            found = self._free[generation] = generation.reduce(generation.counters, {*self.whole, *self.shared})
        return found

    def holds(self, device: str) -> bool:
        """Say whether a device is held, as a whole or in shares."""
        return device in self.whole or device in self.shared

    def adding(self, holder: str, result: AllocationResult) -> PoolUsage:
        """Return this and one result of a claim more."""
        name = result.device
        whole, shared = dict(self.whole), dict(self.shared)
        if result.share_id is None:
            whole[name] = (*whole.get(name, ()), holder)
        else:
            shared[name] = shared.get(name, Share()).adding(holder, result)
        if self.holds(name):
            return PoolUsage(whole, shared, dict(self._free))
        return PoolUsage(whole, shared, {each: each.reduce(free, (name,)) for each, free in self._free.items()})

    def removing(self, holder: str, result: AllocationResult) -> PoolUsage:
        """Return this and one result of a claim less."""
        name = result.device
        whole, shared = dict(self.whole), dict(self.shared)
        if result.share_id is None:
            whole[name] = _without(whole.get(name, ()), holder)
        elif name in shared:
            shared[name] = shared[name].removing(holder, result)
        return PoolUsage(
            {device: holders for device, holders in whole.items() if holders},
            {device: share for device, share in shared.items() if share.holders},
        )


UNUSED: Final = PoolUsage()


class Usage:
    """What all allocated claims of the cluster hold, pool by pool."""

    __slots__ = ("_pools",)

    def __init__(self, pools: Mapping[PoolKey, PoolUsage] | None = None) -> None:
        self._pools: dict[PoolKey, PoolUsage] = dict(pools or {})

    @classmethod
    def of(cls, claims: Iterable[Claim]) -> Usage:
        """Return the usage of claims; those without an allocation hold nothing."""
        usage = cls()
        for claim in claims:
            usage._change(claim, adding=True)
        return usage

    def of_pool(self, key: PoolKey) -> PoolUsage:
        """Return what is held of a pool."""
        return self._pools.get(key, UNUSED)

    def adding(self, *claims: Claim) -> Usage:
        """Return the usage with these claims' allocations."""
        return self._with(claims, adding=True)

    def removing(self, *claims: Claim) -> Usage:
        """Return the usage without these claims' allocations, which must have been added as they are."""
        return self._with(claims, adding=False)

    def _with(self, claims: Iterable[Claim], *, adding: bool) -> Usage:
        usage = Usage(self._pools)
        for claim in claims:
            usage._change(claim, adding=adding)
        return usage

    def _change(self, claim: Claim, *, adding: bool) -> None:
        """Change this usage, which nobody has seen yet. Admin access holds nothing."""
        allocation = claim.status.allocation
        for result in allocation.devices.results if allocation else ():
            if not result.admin_access:
                key = (result.driver, result.pool)
                usage = self.of_pool(key)
                changed = (usage.adding if adding else usage.removing)(str(claim), result)
                if changed.whole or changed.shared:
                    self._pools[key] = changed
                else:
                    self._pools.pop(key, None)  # pools come and go, and this may be kept for long


def _without(holders: tuple[str, ...], holder: str) -> tuple[str, ...]:
    position = holders.index(holder) if holder in holders else len(holders)
    return (*holders[:position], *holders[position + 1 :])
