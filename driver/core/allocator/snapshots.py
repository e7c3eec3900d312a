"""What an allocation looks at: one consistent view of the cluster, compiled when it is first needed and only once.

A snapshot is a value. `with_claims`, `without_claims` and `with_slices` give the next one and keep everything compiled
that still holds, so a cache that follows the API server pays for what changed only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

from driver.core.allocator import selectors
from driver.core.allocator.pools import PoolIndex
from driver.core.allocator.selectors import Evaluate
from driver.core.allocator.usage import Usage
from driver.model.published import PublishedSlice
from driver.model.requests import DeviceClass
from driver.model.wanted import Claim


class Books(Protocol):
    """What a search must know besides slices and claims: a snapshot, or an index that follows the cluster."""

    @property
    def usage(self) -> Usage:
        """What allocated claims hold."""
        ...

    @property
    def evaluate(self) -> Evaluate:
        """How a selector is asked about a device."""
        ...

    @property
    def list_attributes(self) -> bool:
        """Whether constraints understand lists."""
        ...


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Slices, classes and allocated claims at one moment."""

    slices: Sequence[PublishedSlice] = ()
    """Of all drivers and nodes, in the order in which the API server lists them."""
    classes: Mapping[str, DeviceClass] = field(default_factory=dict)
    """By name."""
    allocated: Sequence[Claim] = ()
    """Claims with an allocation; others are passed by."""
    evaluate: Evaluate = selectors.evaluate
    """How a selector is asked about a device. What it answered is remembered with the slices."""
    list_attributes: bool = False
    """Understand attributes with lists in constraints (DRAListTypeAttributes, off by default in Kubernetes)."""

    @cached_property
    def pools(self) -> PoolIndex:
        """The slices as pools."""
        return PoolIndex(self.slices)

    @cached_property
    def usage(self) -> Usage:
        """What the allocated claims hold."""
        return Usage.of(self.allocated)

    def with_claims(self, *claims: Claim) -> Snapshot:
        """Return the snapshot in which these claims are allocated too."""
        return self._next({"pools": self.pools, "usage": self.usage.adding(*claims)}, (*self.allocated, *claims))

    def without_claims(self, *claims: Claim) -> Snapshot:
        """Return the snapshot in which these claims, which must be the very objects, are not allocated any more."""
        gone = set(map(id, claims))
        allocated = tuple(each for each in self.allocated if id(each) not in gone)
        return self._next({"pools": self.pools, "usage": self.usage.removing(*claims)}, allocated)

    def with_slices(self, slices: Sequence[PublishedSlice]) -> Snapshot:
        """Return the snapshot with other slices; pools whose slices are the same objects stay compiled."""
        snapshot = replace(self, slices=slices)
        snapshot.__dict__["pools"] = self.pools.updated(slices)
        snapshot.__dict__["usage"] = self.usage
        return snapshot

    def over(self, previous: Snapshot, slices: Sequence[PublishedSlice]) -> Snapshot:
        """Return this snapshot with these slices; what `previous` has compiled of them is taken over."""
        snapshot = replace(self, slices=slices)
        snapshot.__dict__["pools"] = previous.pools.updated(slices)
        return snapshot

    def _next(self, compiled: Mapping[str, PoolIndex | Usage], allocated: Sequence[Claim]) -> Snapshot:
        snapshot = replace(self, allocated=allocated)
        snapshot.__dict__.update(compiled)  # where cached_property keeps them
        return snapshot
