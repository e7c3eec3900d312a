"""Devices of slices, compiled: what the search reads is computed once and shared by all nodes and calls.

Made by `pools`. A `Device` is compared by identity; among what one node sees, that is the same as by id.
"""

from __future__ import annotations

from typing import Final

from driver.core.allocator.capacities import Capacity, compile_capacity
from driver.model.published import Attribute, PublishedDevice, PublishedSlice
from driver.model.selection import NodeSelector
from driver.model.slices import DeviceTaint

PoolKey = tuple[str, str]
"""Driver and pool name."""
DeviceId = tuple[str, str, str]
"""Driver, pool and device name: what a device is called in an allocation."""
Consumption = tuple[tuple[int, int], ...]
"""What a device takes: position in the counters of its pool, and amount in units of 10^-9, never 0."""

_EFFECTS: Final = frozenset({"NoSchedule", "NoExecute"})


class Device:
    """One published device, ready to be tried."""

    __slots__ = (
        "_capacities",
        "cel_view",
        "counters",
        "draws_counters",
        "id",
        "is_sound",
        "published",
        "slice",
        "taints",
    )

    def __init__(self, published: PublishedDevice, owner: PublishedSlice, counters: Consumption) -> None:
        self.published = published
        self.slice = owner
        self.id: DeviceId = (owner.spec.driver, owner.spec.pool.name, published.name)
        self.counters = counters
        self.draws_counters = bool(published.consumes_counters)
        """True even if it takes 0 of them: it then needs a pool none of whose counters is overdrawn."""
        self.taints: tuple[DeviceTaint, ...] = tuple(each for each in published.taints if each.effect in _EFFECTS)
        self.cel_view: object = None
        """Kept by `selectors`: the device as expressions see it."""
        self.is_sound: bool | None = None
        """Kept by `contents`: CEL can read all of its attributes and capacities."""
        self._capacities: tuple[Capacity, ...] | None = None

    def __str__(self) -> str:
        return "/".join(self.id)

    @property
    def driver(self) -> str:
        """Driver that publishes it."""
        return self.id[0]

    @property
    def name(self) -> str:
        """Name within its pool."""
        return self.id[2]

    @property
    def is_shareable(self) -> bool:
        """True if several requests and claims may have a share of it (consumable capacity)."""
        return self.published.allow_multiple_allocations

    @property
    def capacities(self) -> tuple[Capacity, ...]:
        """Its capacities with their request policies. Raises `InvalidInput` for a text that is no quantity."""
        if self._capacities is None:
            found = self.published.capacity.items()
            self._capacities = tuple(compile_capacity(name, capacity) for name, capacity in found)
        return self._capacities

    @property
    def node_name(self) -> str:
        """The only node that reaches it, or empty."""
        spec = self.slice.spec
        return self.published.node_name if spec.per_device_node_selection else spec.node_name

    @property
    def node_selector(self) -> NodeSelector | None:
        """The nodes that reach it, where a selector says so."""
        spec = self.slice.spec
        return self.published.node_selector if spec.per_device_node_selection else spec.node_selector

    def find_attribute(self, name: str) -> Attribute | None:
        """Return an attribute by its qualified name; one published without a domain is in the driver's."""
        attributes = self.published.attributes
        found = attributes.get(name)
        if found is not None:
            return found
        domain, slash, identifier = name.partition("/")
        return attributes.get(identifier) if slash and domain == self.driver else None
