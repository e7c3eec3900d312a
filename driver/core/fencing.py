"""Who may allocate the devices of a pool, and the fence that says so: a taint and an attribute on every device.

Called by the publisher, the controller and the command line. kube-scheduler's own memory is all that keeps it from
giving a device to two claims, so a second allocator must never touch the same devices: each pool has one authority.
With `controller` every device carries a NoSchedule taint. kube-scheduler honours it when it allocates and does not look
at it for claims that are allocated already (KEP-5055), so only our controller, which tolerates this one taint, gives
these devices away. Without the fence they are kube-scheduler's, whatever a setting says: the taint is the only truth.

The attribute keeps the other way shut. kube-scheduler does not read an AllocationPolicy, so from a pool of its own it
would allocate a claim that asks for our controller, and break the policy. Selectors do not see taints; a class that
selects on the attribute, as topology.accel-dra.dev does, leaves kube-scheduler nothing to choose from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Final, Protocol

import msgspec

from driver.model.slices import Device, DeviceAttribute, DeviceTaint
from driver.model.vocabulary import ALLOCATOR, ALLOCATOR_CONTROLLER, TAINT_CONTROLLER_ONLY


class Authority(Enum):
    """Who allocates the devices of a pool; the values are those of the setting."""

    SCHEDULER = "scheduler"
    CONTROLLER = "controller"

    @property
    def spoken(self) -> str:
        """The one who allocates, as a sentence names them."""
        return "kube-scheduler" if self is Authority.SCHEDULER else "the accel-dra controller"


class Tainted(Protocol):
    """A device of any driver, as far as this module looks at it."""

    @property
    def taints(self) -> tuple[DeviceTaint, ...]:
        """Its taints, as published."""


FENCE: Final = DeviceTaint(key=TAINT_CONTROLLER_ONLY, effect="NoSchedule")


def fence(devices: Iterable[Device], authority: Authority) -> tuple[Device, ...]:
    """Return the devices as they are published under an authority: with the fence before the taints they have."""
    return tuple(devices) if authority is Authority.SCHEDULER else tuple(map(_raise, devices))


def take_down(device: Device) -> Device:
    """Return a device without taints and without the attribute that goes with the fence: kube-scheduler's."""
    attributes = {name: value for name, value in device.attributes.items() if name != ALLOCATOR}
    return msgspec.structs.replace(device, taints=(), attributes=attributes)


def _raise(device: Device) -> Device:
    attributes = {**device.attributes, ALLOCATOR: DeviceAttribute(string=ALLOCATOR_CONTROLLER)}
    taints = (FENCE, *device.taints)
    return msgspec.structs.replace(device, attributes=dict(sorted(attributes.items())), taints=taints)


def is_fence(taint: DeviceTaint) -> bool:
    """Say whether a taint keeps kube-scheduler away for us. Its value and the time it was added do not matter."""
    return taint.key == FENCE.key and taint.effect == FENCE.effect


def is_fenced(device: Tainted) -> bool:
    """Say whether only our controller allocates this device."""
    return any(map(is_fence, device.taints))


def read_authority(devices: Sequence[Tainted]) -> Authority | None:
    """Return who allocates published devices; None if some carry the fence and others do not, or there are none.

    A pool is mixed for a moment while the setting changes: each device then has the authority that it says itself.
    """
    fenced = {is_fenced(device) for device in devices}
    if len(fenced) != 1:
        return None
    return Authority.CONTROLLER if True in fenced else Authority.SCHEDULER
