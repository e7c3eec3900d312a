"""Slices into pools: which devices a node can use, in the order in which they are tried, and which pools are unfit.

A pool is compiled once, whatever the number of nodes; what a node sees of it (`DevicePool`) is shared by all nodes that
see the same. Rules: Kubernetes v1.36.2 structured allocator, pools; `docs/allocator.md` states them. Slices with shared
counters are looked at for every node, so a broken pool of another node is noticed here too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

from driver.core.allocator.devices import Device, PoolKey
from driver.core.allocator.generations import Generation
from driver.core.allocator.nodes import NodeView, concerns, reaches
from driver.model.published import PublishedSlice

_Place = tuple[int, int]
"""A device: position of its slice in the pool, and its own in the slice."""


class Fault(Enum):
    """Why nothing is allocated from a pool."""

    INCOMPLETE = "is currently being updated"
    INVALID = "is currently invalid"


@dataclass(eq=False, slots=True)
class DevicePool:
    """What a node sees of one pool."""

    generation: Generation
    devices: tuple[Device, ...] = ()
    """In the order in which they are tried; empty if the pool is unfit."""
    unreached: frozenset[Device] = frozenset()
    """Those of `devices` whose own node selection leaves the node out."""
    fault: Fault | None = None
    reason: str = ""
    """For a pool that is unfit: what is wrong, as a person would say it."""
    by_shape: dict[object, object] = field(default_factory=dict)
    """Kept by `candidates`: what requests of one shape may get here."""

    @property
    def key(self) -> PoolKey:
        """Driver and pool name."""
        return self.generation.key

    def __str__(self) -> str:
        return "/".join(self.key)

    @property
    def has_binding_conditions(self) -> bool:
        """True if a device must be bound first; such pools are tried last."""
        return any(device.published.binding_conditions for device in self.devices)


class Pool:
    """All slices of one pool, of all generations, in the order in which they are listed."""

    def __init__(self, slices: Sequence[PublishedSlice]) -> None:
        self.slices = slices
        self.nodes = {each.spec.node_name for each in slices if each.spec.node_name}
        self.is_wide = any(not each.spec.node_name for each in slices)
        """True if it takes the node's labels to know who sees it."""
        self._generations: dict[int, Generation] = {}
        self._views: dict[tuple[frozenset[int], frozenset[_Place]], DevicePool | None] = {}

    @cached_property
    def elsewhere(self) -> DevicePool | None:
        """What nodes see of it for which it has no slice: its counters. Only for pools that are not wide."""
        return self.see(NodeView(""))

    def see(self, node: NodeView) -> DevicePool | None:
        """Return what a node sees of it; None if nothing, or if a newer generation has replaced that."""
        chosen = self._choose(node)
        if not chosen:
            return None
        positions = frozenset(chosen)
        unreached = frozenset(found for position in positions for found in self._find_unreached(position, node))
        if (positions, unreached) not in self._views:
            self._views[positions, unreached] = self._build(chosen, unreached)
        return self._views[positions, unreached]

    def is_replaced(self, node: NodeView) -> bool:
        """Say whether a node has slices of the pool, and a newer generation leaves it out."""
        return bool(self._choose(node)) and self.see(node) is None

    def _choose(self, node: NodeView) -> list[int]:
        """Return the slices for a node, of the newest generation among them: its own first."""
        own: list[int] = []
        others: list[int] = []
        for position, each in enumerate(self.slices):
            if each.spec.shared_counters:
                others.append(position)
            elif concerns(each.spec, node):
                (own if each.spec.node_name else others).append(position)
        found = [*own, *others]
        newest = max((self._number(position) for position in found), default=0)
        return [position for position in found if self._number(position) == newest]

    def _number(self, position: int) -> int:
        return self.slices[position].spec.pool.generation

    def _find_unreached(self, position: int, node: NodeView) -> Iterable[_Place]:
        spec = self.slices[position].spec
        if spec.shared_counters or not spec.per_device_node_selection:
            return ()
        return [(position, index) for index, device in enumerate(spec.devices) if not reaches(device, node)]

    def _build(self, chosen: Sequence[int], unreached: frozenset[_Place]) -> DevicePool | None:
        number, wanted = self._number(chosen[0]), self.slices[chosen[0]].spec.pool.resource_slice_count
        generation = self._generation(number)
        is_whole = len(chosen) == wanted
        if not is_whole:
            if any(each.spec.pool.generation > number for each in self.slices):
                return None
            have = len(generation.slices)
            if have != wanted:
                reason = f"{have} of {wanted} slices are there"
                return DevicePool(generation, fault=Fault.INCOMPLETE, reason=reason)
        seen = {id(self.slices[position]) for position in chosen}
        parts = [index for index, each in enumerate(generation.slices) if id(each) in seen]
        checked = parts if is_whole else range(len(generation.slices))
        devices = tuple(device for index in parts for device in generation.by_slice[index])
        reason = _find_fault(generation, devices, checked)
        if reason:
            return DevicePool(generation, fault=Fault.INVALID, reason=reason)
        return DevicePool(generation, devices, self._resolve(generation, unreached))

    def _resolve(self, generation: Generation, unreached: frozenset[_Place]) -> frozenset[Device]:
        places = {id(each): index for index, each in enumerate(generation.slices)}
        return frozenset(generation.by_slice[places[id(self.slices[position])]][index] for position, index in unreached)

    def _generation(self, number: int) -> Generation:
        found = self._generations.get(number)
        if found is None:
            slices = [each for each in self.slices if each.spec.pool.generation == number]
            found = self._generations[number] = Generation(slices)
        return found


class PoolIndex:
    """The pools of a cluster, by node. A value; `updated` keeps every pool whose slices are the same objects."""

    def __init__(self, slices: Iterable[PublishedSlice], known: Mapping[PoolKey, Pool] | None = None) -> None:
        groups: dict[PoolKey, list[PublishedSlice]] = {}
        for each in slices:
            groups.setdefault((each.spec.driver, each.spec.pool.name), []).append(each)
        self.pools: dict[PoolKey, Pool] = {}
        self._by_node: dict[str, list[PoolKey]] = {}
        self._wide: list[PoolKey] = []
        self._gathered: dict[str, tuple[NodeView, tuple[DevicePool, ...]]] = {}
        for key in sorted(groups):
            self._add(key, groups[key], (known or {}).get(key))

    def updated(self, slices: Iterable[PublishedSlice]) -> PoolIndex:
        """Return the index of other slices; pools whose slices are unchanged stay compiled."""
        return PoolIndex(slices, self.pools)

    def gather(self, node: NodeView) -> tuple[DevicePool, ...]:
        """Return what a node sees, in the order in which it is tried: by driver and name, binding conditions last."""
        known = self._gathered.get(node.name)
        if known is None or known[0] != node:
            known = self._gathered[node.name] = (node, self._gather(node))
        return known[1]

    def find_replaced(self, node: NodeView) -> list[PoolKey]:
        """Return the pools of which a node only has slices that a newer generation on other nodes has replaced."""
        keys = (*self._by_node.get(node.name, ()), *self._wide)
        return [key for key in keys if self.pools[key].is_replaced(node)]

    @cached_property
    def unfit(self) -> dict[PoolKey, DevicePool]:
        """Pools that are unfit for nodes for which they have no slice: their counters are looked at for every node."""
        views = {key: pool.elsewhere for key, pool in self.pools.items() if not pool.is_wide}
        return {key: view for key, view in views.items() if view is not None and view.fault}

    def _add(self, key: PoolKey, slices: list[PublishedSlice], known: Pool | None) -> None:
        is_same = known is not None and list(map(id, known.slices)) == list(map(id, slices))
        pool = self.pools[key] = known if known is not None and is_same else Pool(slices)
        if pool.is_wide:
            self._wide.append(key)
        for name in () if pool.is_wide else pool.nodes:
            self._by_node.setdefault(name, []).append(key)

    def _gather(self, node: NodeView) -> tuple[DevicePool, ...]:
        views = {key: self.pools[key].see(node) for key in (*self._by_node.get(node.name, ()), *self._wide)}
        found = {**self.unfit, **views}
        seen = [view for key in sorted(found) if (view := found[key]) is not None]
        return tuple(sorted(seen, key=lambda view: view.has_binding_conditions))


def _find_fault(generation: Generation, devices: Sequence[Device], checked: Iterable[int]) -> str:
    """Say what makes a pool invalid; `checked` are the slices whose devices must know their counters."""
    if len({device.name for device in devices}) != len(devices):
        names = [device.name for device in devices]
        return f"device name {next(name for name in names if names.count(name) > 1)} is used twice"
    unknown = (generation.unknown.get(position, "") for position in checked)
    return generation.fault or next((reason for reason in unknown if reason), "")
