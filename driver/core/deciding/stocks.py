"""The devices that belong to our controller and who holds them, over the allocator: implements `world.Stock`.

Made by the controller for each change of the slices and by `accel-dra explain`. A pool is ours if every device that is
published in it carries the fence (`core.fencing`). While only some do, its authority is changing, and nobody but
kube-scheduler touches it: what its devices draw from shared counters could not be told otherwise. The fence itself is
taken off here, so that claims need no toleration for it; all other taints stay.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final

import msgspec

from driver.core import allocator, fencing
from driver.core.allocator import Allocated, InvalidClaim, NodeView, Snapshot
from driver.core.deciding import wishes
from driver.core.deciding.world import Chosen, Detail, Member, Refused
from driver.model.claims import Allocation
from driver.model.published import Attribute, PublishedDevice, PublishedSlice
from driver.model.requests import DeviceClass
from driver.model.wanted import Claim
from driver.model.workloads import ClusterNode

PoolKey = tuple[str, str]
"""Driver and pool name."""
_NOWHERE: Final = "no pool belongs to the accel-dra controller (docs/operations.md, allocation authority)"


def select_ours(slices: Iterable[PublishedSlice]) -> tuple[PublishedSlice, ...]:
    """Return the slices of the pools that are ours, without the fence."""
    pools: dict[PoolKey, list[PublishedSlice]] = {}
    for each in slices:
        pools.setdefault(_key(each), []).append(each)
    return tuple(_take_down(each) for own in pools.values() if _is_ours(own) for each in own)


def _key(published: PublishedSlice) -> PoolKey:
    return published.spec.driver, published.spec.pool.name


def _is_ours(slices: Sequence[PublishedSlice]) -> bool:
    devices = [device for each in slices for device in each.spec.devices]
    return bool(devices) and all(map(fencing.is_fenced, devices))


def _take_down(published: PublishedSlice) -> PublishedSlice:
    devices = tuple(
        msgspec.structs.replace(device, taints=tuple(each for each in device.taints if not fencing.is_fence(each)))
        for device in published.spec.devices
    )
    return msgspec.structs.replace(published, spec=msgspec.structs.replace(published.spec, devices=devices))


class DeviceStock:
    """What of our pools is free. One thread; `hold` begins anew."""

    def __init__(self, slices: Sequence[PublishedSlice], classes: Mapping[str, DeviceClass]) -> None:
        """`slices` of all pools; those that are not ours are left alone."""
        own = select_ours(slices)
        generations: dict[PoolKey, int] = {}
        for each in own:
            generations[_key(each)] = max(each.spec.pool.generation, generations.get(_key(each), 0))
        self._pools = frozenset(generations)
        self._newest = [each for each in own if each.spec.pool.generation == generations[_key(each)]]
        self._foreign = _describe_foreign(slices, self._pools)
        self._snapshot = Snapshot(own, classes)
        self._held: dict[str, Claim] = {}

    def hold(self, claims: Iterable[Claim]) -> None:
        """Let exactly these claims hold what is allocated to them."""
        wanted = {each.metadata.uid: each for each in claims if each.status.allocation is not None}
        for uid in [uid for uid, held in self._held.items() if wanted.get(uid) is not held]:
            self._release(uid)
        added = [claim for uid, claim in wanted.items() if uid not in self._held]
        self._held.update((claim.metadata.uid, claim) for claim in added)
        self._snapshot = self._snapshot.with_claims(*added)

    def choose(self, member: Member, nodes: Mapping[str, ClusterNode]) -> Chosen | Refused:
        """Return the first of these nodes that fulfils most of what the policies of a member wish for."""
        if not self._pools:
            return Refused(_NOWHERE)
        views = [NodeView(node.metadata.name, node.metadata.labels) for node in nodes.values()]
        claims: Sequence[Claim] = member.claims
        for claims in wishes.list_attempts(member):
            for view in views:
                try:
                    outcome = allocator.allocate(self._snapshot, view, claims)
                except InvalidClaim as error:
                    return Refused(str(error))
                if isinstance(outcome, Allocated):
                    return Chosen(view.name, outcome.allocations)
        return Refused(Detail(partial(_explain, self._snapshot, views, claims, self._foreign)))

    def take(self, claim: Claim, allocation: Allocation) -> None:
        """Let a claim hold devices, so that later choices leave them alone."""
        self.give_back(claim)
        status = msgspec.structs.replace(claim.status, allocation=allocation)
        held = msgspec.structs.replace(claim, status=status)
        self._held[claim.metadata.uid] = held
        self._snapshot = self._snapshot.with_claims(held)

    def give_back(self, claim: Claim) -> None:
        """Let a claim hold nothing."""
        if claim.metadata.uid in self._held:
            self._release(claim.metadata.uid)

    def count_free(self, name: str = "") -> Mapping[str, Mapping[str, int]]:
        """Return how many devices each node has left, by value of an attribute as CEL writes it.

        Devices that several nodes reach are nobody's in particular and not counted.
        """
        counts: dict[str, dict[str, int]] = {}
        for published in self._newest:
            usage = self._snapshot.usage.of_pool(_key(published))
            for device in published.spec.devices:
                node = device.node_name or published.spec.node_name
                value = write_value(published.spec.driver, device, name) if name else ""
                if node and value is not None:
                    by_node = counts.setdefault(value, {})
                    by_node[node] = by_node.get(node, 0) + (not usage.holds(device.name))
        return counts

    def values(self, allocation: Allocation, name: str) -> frozenset[str]:
        """Return the values of an attribute on the devices of an allocation, as CEL writes them."""
        taken = {(each.driver, each.pool, each.device) for each in allocation.devices.results}
        found = (
            write_value(each.spec.driver, device, name)
            for each in self._newest
            for device in each.spec.devices
            if (*_key(each), device.name) in taken
        )
        return frozenset(value for value in found if value is not None)

    def owns(self, allocation: Allocation) -> bool:
        """Say whether all devices of an allocation are ours to allocate."""
        return all((each.driver, each.pool) in self._pools for each in allocation.devices.results)

    @property
    def slices(self) -> Sequence[PublishedSlice]:
        """The slices of our pools that count, without the fence."""
        return self._newest

    def _release(self, uid: str) -> None:
        self._snapshot = self._snapshot.without_claims(self._held.pop(uid))


def _explain(snapshot: Snapshot, nodes: Sequence[NodeView], claims: Sequence[Claim], foreign: str) -> str:
    text = allocator.explain(snapshot, nodes, claims).text
    return f"{text}; {foreign}" if foreign else text


def _describe_foreign(slices: Iterable[PublishedSlice], ours: frozenset[PoolKey]) -> str:
    """Say which devices are not looked at because kube-scheduler allocates them; empty if there are none."""
    drivers: dict[str, int] = {}
    for each in slices:
        if _key(each) not in ours and each.spec.devices:
            drivers[each.spec.driver] = drivers.get(each.spec.driver, 0) + len(each.spec.devices)
    if not drivers:
        return ""
    total = sum(drivers.values())
    return f"{total} more device{'s' if total > 1 else ''} of {', '.join(sorted(drivers))} belong to kube-scheduler"


def write_value(driver: str, device: PublishedDevice, name: str) -> str | None:
    """Return the value of an attribute as CEL writes it; None if the device does not have it, or as a list."""
    domain, _, identifier = name.rpartition("/")
    attribute = device.attributes.get(name) or (device.attributes.get(identifier) if domain == driver else None)
    return _write(attribute) if attribute is not None else None


def _write(attribute: Attribute) -> str | None:
    if attribute.string is not None:
        return json.dumps(attribute.string, ensure_ascii=False)
    if attribute.version is not None:
        return f"semver({json.dumps(attribute.version)})"
    if attribute.bool_ is not None:
        return "true" if attribute.bool_ else "false"
    return str(attribute.int_) if attribute.int_ is not None else None
