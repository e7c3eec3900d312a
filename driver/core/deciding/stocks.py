"""The devices that belong to our controller and who holds them, over the allocator: implements `world.Stock`.

Made once by the controller and by `accel-dra explain`. A pool is ours if every device that is
published in it carries the fence (`core.fencing`). While only some do, its authority is changing, and nobody but
kube-scheduler touches it: what its devices draw from shared counters could not be told otherwise. The fence itself is
taken off here, so that claims need no toleration for it; all other taints stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from driver.core import allocator, fencing
from driver.core.allocator import InvalidClaim, NodeView, Snapshot, scopes
from driver.core.allocator.cluster import Cluster, Wish
from driver.core.allocator.scopes import Scope
from driver.core.deciding import wishes
from driver.core.deciding.world import SHARED, Chosen, Detail, Member, Refused
from driver.model.claims import Allocation
from driver.model.published import PublishedDevice, PublishedSlice
from driver.model.requests import DeviceClass
from driver.model.wanted import Claim
from driver.model.workloads import ClusterNode

PoolKey = tuple[str, str]
"""Driver and pool name."""
_SHARES: Final = 1000
"""More claims than would ever share a device: shares are no reason to call a domain full."""
_NOWHERE: Final = "no pool belongs to the accel-dra controller (docs/operations.md, allocation authority)"


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
    """What of our pools is free. One thread. It may live as long as its owner: only what changes is compiled again."""

    def __init__(self, slices: Sequence[PublishedSlice], classes: Mapping[str, DeviceClass]) -> None:
        """`slices` of all pools; those that are not ours are left alone."""
        self._cluster = Cluster(classes)
        self._nodes: dict[str, ClusterNode] = {}
        self._held: dict[str, Claim] = {}
        self._snapshot: Snapshot | None = None
        """What explanations look at; None once something has changed."""
        self._taken_down: dict[int, tuple[PublishedSlice, PublishedSlice]] = {}
        """Slices as they were published and without the fence, by the identity of the former."""
        self.put_devices(slices, classes)

    def put_devices(self, slices: Sequence[PublishedSlice], classes: Mapping[str, DeviceClass]) -> None:
        """Let these be all slices and classes there are."""
        pools: dict[PoolKey, list[PublishedSlice]] = {}
        for each in slices:
            pools.setdefault(_key(each), []).append(each)
        ours = [each for own in pools.values() if _is_ours(own) for each in own]
        self._taken_down = {id(each): self._taken_down.get(id(each)) or (each, _take_down(each)) for each in ours}
        own = [self._taken_down[id(each)][1] for each in ours]
        generations: dict[PoolKey, int] = {}
        for each in own:
            generations[_key(each)] = max(each.spec.pool.generation, generations.get(_key(each), 0))
        self._pools = frozenset(generations)
        self._newest = [each for each in own if each.spec.pool.generation == generations[_key(each)]]
        self._foreign = _describe_foreign(slices, self._pools)
        self._snapshot = None
        self._cluster.classes = classes
        self._cluster.put_slices(own)

    def put_nodes(self, nodes: Mapping[str, ClusterNode]) -> None:
        """Let these be all nodes there are, by name."""
        for name, node in nodes.items():
            if self._nodes.get(name) is not node:
                self._nodes[name] = node
                self._cluster.put_node(NodeView(name, node.metadata.labels))
        for name in self._nodes.keys() - nodes.keys():
            del self._nodes[name]
            self._cluster.remove_node(name)

    def hold(self, claims: Iterable[Claim], nodes: Mapping[str, ClusterNode]) -> None:
        """Let these be all nodes, and exactly these claims hold what is allocated to them."""
        self.put_nodes(nodes)
        wanted = {each.metadata.uid: each for each in claims if each.status.allocation is not None}
        for uid in [uid for uid, held in self._held.items() if wanted.get(uid) is not held]:
            self._snapshot = None
            self._cluster.give_back(self._held.pop(uid))
        for uid, claim in wanted.items():
            if uid not in self._held:
                self._snapshot = None
                self._held[uid] = claim
                self._cluster.take(claim)

    def choose(self, member: Member, nodes: Mapping[str, ClusterNode]) -> Chosen | Refused:
        """Return the best of these nodes, which have to be known, with the best devices there."""
        if not self._pools:
            return Refused(_NOWHERE)
        beside = [each.status.allocation for each in member.others if each.status.allocation is not None]
        scope = Scope(within=member.within)
        wish = Wish(member.claims, member.policies, nodes=nodes.keys(), scope=scope, beside=beside)
        try:
            choice = self._cluster.choose(wish)
        except InvalidClaim as error:
            return self._refuse(nodes, member, str(error))
        if choice is None:
            return self._refuse(nodes, member)
        return Chosen(choice.node, choice.allocated.allocations)

    def _refuse(self, nodes: Mapping[str, ClusterNode], member: Member, error: str = "") -> Refused:
        refusing = tuple(nodes.values())
        # One for all who are refused while nothing changes: it takes room, and explanations what they find out of it.
        snapshot = self._snapshot = self._snapshot or self._cluster.take_snapshot()
        return Refused(Detail(lambda: self._explain(snapshot, refusing, member) or error))

    def take(self, claim: Claim, allocation: Allocation) -> None:
        """Let a claim hold devices, so that later choices leave them alone."""
        status = msgspec.structs.replace(claim.status, allocation=allocation)
        held = msgspec.structs.replace(claim, status=status)
        self._snapshot = None
        self._held[claim.metadata.uid] = held
        self._cluster.take(held)

    def give_back(self, claim: Claim) -> None:
        """Let a claim hold nothing."""
        held = self._held.pop(claim.metadata.uid, None)
        if held is not None:
            self._snapshot = None
            self._cluster.give_back(held)

    def count_free(self, name: str = "") -> Mapping[str, Mapping[str, int]]:
        """Return how many devices each node has left, by value of an attribute.

        Devices that several nodes reach are nobody's in particular and only counted if no attribute is asked for.
        """
        counts: dict[str, dict[str, int]] = {}
        for published in self._newest:
            usage = self._cluster.usage.of_pool(_key(published))
            for device in published.spec.devices:
                node = device.node_name or published.spec.node_name or SHARED
                value = read_value(published.spec.driver, device, name) if name else ""
                if (node or not name) and value is not None:
                    by_node = counts.setdefault(value, {})
                    by_node[node] = by_node.get(node, 0) + _count(device, is_held=usage.holds(device.name))
        return counts

    def values(self, allocation: Allocation, name: str) -> frozenset[str]:
        """Return the values of an attribute on the devices of an allocation."""
        taken = {(each.driver, each.pool, each.device) for each in allocation.devices.results}
        found = (
            read_value(each.spec.driver, device, name)
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

    def _explain(self, snapshot: Snapshot, nodes: Sequence[ClusterNode], member: Member) -> str:
        """Say what is in the way of the claims as their policies require them, with those devices of their domain."""
        *_, claims = wishes.list_attempts(member)
        if member.within is not None:
            claims = tuple(wishes.keep_within(claim, *member.within) for claim in claims)
        views = [NodeView(node.metadata.name, node.metadata.labels) for node in nodes]
        text = allocator.explain(snapshot, views, claims).text
        return f"{text}; {self._foreign}" if self._foreign else text


def _count(device: PublishedDevice, *, is_held: bool) -> int:
    """Return how often a device can be given away, at most."""
    if device.allow_multiple_allocations:
        return _SHARES
    return 0 if is_held else 1


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


def read_value(driver: str, device: PublishedDevice, name: str) -> str | None:
    """Return the value of an attribute as text; None if the device does not have it, or as a list."""
    domain, _, identifier = name.rpartition("/")
    attribute = device.attributes.get(name) or (device.attributes.get(identifier) if domain == driver else None)
    return (scopes.spell(attribute) or None) if attribute is not None else None
