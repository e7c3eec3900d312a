"""Which devices an allocation may use besides what the claims say. Called by `choosing` and the cluster.

The controller only gives away devices behind its fence, and those of a group's members share a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from driver.core import fencing
from driver.core.allocator.devices import Device
from driver.core.allocator.layouts import ACCELERATORS
from driver.core.allocator.nodes import NodeView
from driver.core.allocator.pools import DevicePool
from driver.model.claims import Toleration
from driver.model.published import Attribute
from driver.model.vocabulary import TYPE

FENCE: Final = Toleration(key=fencing.FENCE.key, operator="Exists", effect=fencing.FENCE.effect)


@dataclass(frozen=True, slots=True)
class Scope:
    """What may be used. Hashable: what it leaves of a pool is remembered with the pool."""

    is_fenced: bool = False
    """Only devices that carry the fence, which is tolerated then."""
    within: tuple[str, str] | None = None
    """Device attribute or node label, and its value: on a node without the label, devices must have the value.

    Devices without the attribute are used if they are no accelerators and another device of the node has the value.
    """

    @property
    def tolerations(self) -> tuple[Toleration, ...]:
        """What the allocator tolerates for every request."""
        return (FENCE,) if self.is_fenced else ()

    def narrow(self, pools: Sequence[DevicePool], node: NodeView) -> tuple[DevicePool, ...]:
        """Return the pools of a node with the devices that may be used."""
        scope = self
        if self.within is not None and node.labels.get(self.within[0]) == self.within[1]:
            scope = replace(self, within=None)
        if scope == EVERYTHING:
            return tuple(pools)
        if scope.within is not None and not any(scope.has_value(each) for pool in pools for each in pool.devices):
            return tuple(_keep(pool, ()) for pool in pools)
        return tuple(_narrow(pool, scope) for pool in pools)

    def includes(self, device: Device) -> bool:
        """Say whether a device may be used."""
        if self.is_fenced and not fencing.is_fenced(device):
            return False
        if self.within is None or self.has_value(device):
            return True
        kind = device.find_attribute(TYPE)
        is_accelerator = kind is not None and kind.string in ACCELERATORS
        return not is_accelerator and device.find_attribute(self.within[0]) is None

    def has_value(self, device: Device) -> bool:
        """Say whether a device has the value of `within`."""
        if self.within is None:
            return False
        attribute = device.find_attribute(self.within[0])
        return attribute is not None and spell(attribute) == self.within[1]


EVERYTHING: Final = Scope()


def _narrow(pool: DevicePool, scope: Scope) -> DevicePool:
    found = pool.by_shape.get(scope)
    if not isinstance(found, DevicePool):
        found = pool.by_shape[scope] = _keep(pool, tuple(filter(scope.includes, pool.devices)))
    return found


def _keep(pool: DevicePool, devices: tuple[Device, ...]) -> DevicePool:
    return pool if len(devices) == len(pool.devices) else replace(pool, devices=devices, by_shape={})


def spell(attribute: Attribute) -> str:
    """Return the value of an attribute as text; empty for lists."""
    for value in (attribute.string, attribute.version, attribute.int_):
        if value is not None:
            return str(value)
    return "" if attribute.bool_ is None else str(attribute.bool_).lower()
