"""Slices into pools: which devices pods on a node can use, in the order in which they are tried.

Called by the search. Rules: k8s.io/dynamic-resource-allocation structured allocator, pools: only the highest
generation counts, a pool is used only when all of its slices are there, order is driver, pool, slice name, list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from driver.model import quantities
from driver.model.quantities import Quantity
from driver.model.slices import Device
from driver.simulation.objects import Node
from driver.simulation.resources import NodeSelector, Slice

DeviceId = tuple[str, str, str]
"""Driver, pool and device name: what a device is called in an allocation."""
CounterId = tuple[str, str]
"""Counter set and counter."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One device that may be allocated."""

    driver: str
    pool: str
    device: Device
    is_local: bool
    """True if only the pool's own node reaches it."""
    selector: NodeSelector | None = None
    """Which nodes reach it, if that is told by a selector."""

    @property
    def id(self) -> DeviceId:
        """What the device is called in an allocation."""
        return self.driver, self.pool, self.device.name


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool as one node sees it."""

    driver: str
    name: str
    candidates: tuple[Candidate, ...]
    elsewhere: tuple[Candidate, ...]
    """Devices of the same pool that only other nodes reach; they draw from the same counters."""
    counters: Mapping[CounterId, Quantity]
    """What the shared counters hold when nothing is allocated."""
    problem: str = ""
    """Why nothing can be allocated from it; empty if it is complete and valid."""


def gather(slices: Iterable[Slice], node: Node) -> list[Pool]:
    """Return the pools that a node reaches, ordered by driver and name."""
    groups: dict[tuple[str, str], list[Slice]] = {}
    for each in slices:
        groups.setdefault((each.spec.driver, each.spec.pool.name), []).append(each)
    pools = (_make(group, node) for _, group in sorted(groups.items()))
    return [pool for pool in pools if pool is not None]


def _make(group: list[Slice], node: Node) -> Pool | None:
    newest = max(each.spec.pool.generation for each in group)
    current = sorted((each for each in group if each.spec.pool.generation == newest), key=lambda each: each.key)
    reached = [each for each in current if each.reaches(node)]
    if not reached:
        return None
    spec = reached[0].spec
    candidates = _list_devices(reached)
    elsewhere = _list_devices([each for each in current if each not in reached])
    counters = {
        (counter_set.name, name): quantities.parse(counter.value)
        for each in current
        for counter_set in each.spec.shared_counters
        for name, counter in counter_set.counters.items()
    }
    problem = _find_problem(current, candidates, elsewhere, counters)
    return Pool(spec.driver, spec.pool.name, candidates, elsewhere, counters, problem)


def _list_devices(slices: list[Slice]) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(each.spec.driver, each.spec.pool.name, device, bool(each.spec.node_name), each.spec.node_selector)
        for each in slices
        for device in each.spec.devices
    )


def _find_problem(
    current: list[Slice],
    candidates: tuple[Candidate, ...],
    elsewhere: tuple[Candidate, ...],
    counters: Mapping[CounterId, Quantity],
) -> str:
    if len(current) != current[0].spec.pool.resource_slice_count:
        return "currently being updated"
    names = [candidate.device.name for candidate in candidates]
    if len(set(names)) != len(names):
        return "currently invalid: a device name occurs twice"
    if any(
        consumed not in counters
        for candidate in (*candidates, *elsewhere)
        for consumed, _ in consumption(candidate.device)
    ):
        return "currently invalid: a device consumes an unknown counter"
    return ""


def consumption(device: Device) -> list[tuple[CounterId, Quantity]]:
    """Return what a device takes from shared counters."""
    return [
        ((entry.counter_set, name), quantities.parse(counter.value))
        for entry in device.consumes_counters
        for name, counter in entry.counters.items()
    ]
