"""Where the devices of a node drop out for one request, step by step, whatever is allocated. Called by `explaining`.

The steps of one pool are found once for a shape and kept with the pool, like its candidates.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from driver.core.allocator import candidates
from driver.core.allocator.devices import Device
from driver.core.allocator.pools import DevicePool
from driver.core.allocator.requests import Shape
from driver.core.allocator.selectors import Evaluate, SelectorFault
from driver.model.slices import DeviceTaint

Selector = tuple[bool, int]
"""Whether it is the class's, and its number."""


@dataclass(slots=True)
class Sieve:
    """Devices of one or several pools, each in the first place that it does not pass."""

    total: int = 0
    unmatched: dict[Selector, list[Device]] = field(default_factory=dict)
    """By the first selector that says no."""
    faulty: dict[Device, SelectorFault] = field(default_factory=dict)
    elsewhere: list[Device] = field(default_factory=list)
    """Their own node selection leaves this node out."""
    small: list[Device] = field(default_factory=list)
    """Too little capacity, even if nothing is taken of it, or a request that its policy refuses."""
    tainted: dict[Device, DeviceTaint] = field(default_factory=dict)
    """By device the first taint that is not tolerated."""
    usable: list[Device] = field(default_factory=list)

    @property
    def matched(self) -> int:
        """How many devices every selector matches and this node reaches."""
        return len(self.small) + len(self.tainted) + len(self.usable)

    @property
    def large_enough(self) -> int:
        """How many of them have the capacity that is asked for."""
        return len(self.tainted) + len(self.usable)

    def add(self, other: Sieve) -> None:
        """Add the devices of another pool."""
        self.total += other.total
        for selector, devices in other.unmatched.items():
            self.unmatched.setdefault(selector, []).extend(devices)
        self.faulty.update(other.faulty)
        self.elsewhere += other.elsewhere
        self.small += other.small
        self.tainted.update(other.tainted)
        self.usable += other.usable


def sift(pools: Iterable[DevicePool], shape: Shape, evaluate: Evaluate) -> Sieve:
    """Return where the devices of these pools drop out."""
    found = Sieve()
    for pool in pools:
        found.add(_sift(pool, shape, evaluate))
    return found


def _sift(pool: DevicePool, shape: Shape, evaluate: Evaluate) -> Sieve:
    key = ("sieve", shape)
    found = pool.by_shape.get(key)
    if not isinstance(found, Sieve):
        found = pool.by_shape[key] = Sieve(total=len(pool.devices))
        for device in pool.devices:
            _drop(found, pool, device, shape, evaluate)
    return found


def _drop(sieve: Sieve, pool: DevicePool, device: Device, shape: Shape, evaluate: Evaluate) -> None:
    refusal = candidates.find_selector(pool.generation, device, shape, evaluate)
    if isinstance(refusal, SelectorFault):
        sieve.faulty[device] = refusal
    elif refusal is not None:
        sieve.unmatched.setdefault(refusal, []).append(device)
    elif device in pool.unreached:
        sieve.elsewhere.append(device)
    elif not candidates.suffices(device, shape):
        sieve.small.append(device)
    else:
        taint = candidates.find_taint(device, shape.tolerations)
        if taint is None:
            sieve.usable.append(device)
        else:
            sieve.tainted[device] = taint
