"""From health events to taints: how bad a device is, and when it is good again. Called by the watchdog and `inventory`.

Every fault is kept by its cause, so a later lesser event never hides a worse one and recovery from one cause never
clears another. A fault ends only when its vendor says so and it has stayed quiet for a while (`settle`). Faults of an
accelerator apply to all of its partitions, also to those created later. State is a value: each function returns a new
one. Nothing here reads a clock; times are seconds since the epoch and come with the events and the calls.

    event of a cause        no fault            faulty               recovering
    degraded, unhealthy     → faulty            worse of the two     → faulty, worse of the two
    healthy                 -                   → recovering         stays since its first healthy event
    quiet for long enough   -                   -                    → no fault
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from driver.model import vocabulary
from driver.model.devices import Snapshot
from driver.model.health import HealthEvent, Severity
from driver.model.slices import Device, DeviceAttribute, DeviceTaint

RECOVERY_SECONDS: Final = 60.0
"""How long a fault has to stay away. A link that flaps more often than this stays tainted instead of flapping too."""
MAX_HEALTH_TAINTS: Final = 3
"""Taints for health on one device: Kubernetes 1.34 allows four in all, and an allocation policy may need one."""

_TAINTS: Final = {
    Severity.DEGRADED: (vocabulary.TAINT_DEGRADED, "None"),
    Severity.UNHEALTHY: (vocabulary.TAINT_UNHEALTHY, "NoSchedule"),
}
_SEVERITIES: Final = {key: severity for severity, (key, _) in _TAINTS.items()}
_NOT_IN_LABEL: Final = re.compile(r"[^A-Za-z0-9._-]+")
_MAX_LABEL: Final = 63

Place = tuple[str, str | None]
"""PCI address of an accelerator, and the UUID of one of its partitions or None for all of it."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One cause at one place, at its worst so far."""

    cause: str
    """As a label value, because that is how it is published and read again."""
    severity: Severity
    message: str
    since: float
    recovering_since: float | None = None
    """When its vendor first said that it is over; None while it lasts."""


@dataclass(frozen=True, slots=True)
class HealthState:
    """All faults of a node, by place and cause."""

    faults: Mapping[Place, Mapping[str, Fault]] = field(default_factory=dict)
    deaf: str = ""
    """Why new faults are not heard of; empty while somebody listens."""


def fold(state: HealthState, event: HealthEvent) -> HealthState:
    """Return the health after one event. An event for a whole accelerator ends the fault in its partitions as well."""
    cause = to_label(event.cause)
    if event.severity is not Severity.HEALTHY:
        return _put(state, (event.pci_address, event.partition_uuid), _worsen(state, event, cause))
    places = [
        place for place in state.faults if place[0] == event.pci_address and event.partition_uuid in (None, place[1])
    ]
    for place in places:
        fault = state.faults[place].get(cause)
        if fault is not None and fault.recovering_since is None:
            state = _put(state, place, dataclasses.replace(fault, recovering_since=event.time))
    return state


def settle(state: HealthState, now: float, quiet: float = RECOVERY_SECONDS) -> HealthState:
    """Return the health without the faults that have been over for `quiet` seconds."""
    return _keep(
        state,
        lambda _, fault: fault.recovering_since is None or now - fault.recovering_since < quiet,
    )


def next_settling(state: HealthState, quiet: float = RECOVERY_SECONDS) -> float | None:
    """Return when `settle` will next drop a fault; None if nothing is recovering."""
    times = [fault.recovering_since for faults in state.faults.values() for fault in faults.values()]
    return min((time + quiet for time in times if time is not None), default=None)


def prune(state: HealthState, snapshot: Snapshot) -> HealthState:
    """Return the health without partitions that are gone. Accelerators that are gone keep theirs: they may be back."""
    present = {device.pci_address: {part.uuid for part in device.partitions} for device in snapshot.accelerators}
    return _keep(
        state,
        lambda place, _: place[1] is None or place[0] not in present or place[1] in present[place[0]],
    )


def find_faults(state: HealthState, pci_address: str, partition_uuid: str | None) -> tuple[Fault, ...]:
    """Return the faults of a device, worst first, one a cause: its own and those of the accelerator it is part of."""
    found: dict[str, Fault] = {}
    for place in dict.fromkeys(((pci_address, None), (pci_address, partition_uuid))):
        for cause, fault in state.faults.get(place, {}).items():
            if cause not in found or fault.severity > found[cause].severity:
                found[cause] = fault
    return tuple(sorted(found.values(), key=lambda fault: (-fault.severity, fault.cause)))


def find_severity(state: HealthState, pci_address: str, partition_uuid: str | None) -> Severity:
    """Return how bad a device is: the worst of its faults."""
    faults = find_faults(state, pci_address, partition_uuid)
    return faults[0].severity if faults else Severity.HEALTHY


def list_taints(state: HealthState, pci_address: str, partition_uuid: str | None) -> tuple[DeviceTaint, ...]:
    """Return the taints of a device: key by severity, value the cause; the worst `MAX_HEALTH_TAINTS`."""
    taints = []
    for fault in find_faults(state, pci_address, partition_uuid):
        key, effect = _TAINTS[fault.severity]
        taints.append(DeviceTaint(key=key, value=fault.cause, effect=effect))
    return tuple(taints[:MAX_HEALTH_TAINTS])


def restore(published: Iterable[Device], snapshot: Snapshot) -> HealthState:
    """Return the health that our own published taints tell of, so that a fault outlives a restart of the plugin.

    A cause that all of several partitions of one accelerator carry is taken for one of the accelerator. Hardware that
    was replaced meanwhile (another UUID at the same address) starts healthy.
    """
    now_there = {device.pci_address: device.uuid for device in snapshot.accelerators}
    devices = [device for device in published if not _was_replaced(device, now_there)]
    state = HealthState()
    made: dict[tuple[str, str, int | None], str | None] = {
        (accelerator.pci_address, part.profile, part.placement): part.uuid
        for accelerator in snapshot.accelerators
        for part in accelerator.partitions
    }
    for device in devices:
        for taint in device.taints:
            if taint.key in _SEVERITIES:
                state = fold(state, _to_event(device, taint, devices, made))
    return state


def to_label(text: str) -> str:
    """Return the text as a label value, which is what the value of a taint has to be (at most 63 characters)."""
    return _NOT_IN_LABEL.sub("-", text)[:_MAX_LABEL].strip("-_.") or "unknown"


def _to_event(
    device: Device,
    taint: DeviceTaint,
    devices: Iterable[Device],
    made: Mapping[tuple[str, str, int | None], str | None],
) -> HealthEvent:
    """Return the event that a taint tells of. Partitions that are made on demand are known by their place."""
    parent = _text(device, vocabulary.PARENT_UUID)
    siblings = [other for other in devices if parent and _text(other, vocabulary.PARENT_UUID) == parent]
    shared = len(siblings) > 1 and all(_carries(other, taint) for other in siblings)
    placement = device.attributes.get(vocabulary.PLACEMENT, DeviceAttribute()).int_
    place = (_text(device, vocabulary.PCI_BUS_ID), _text(device, vocabulary.PROFILE), placement)
    uuid = _text(device, vocabulary.UUID) or made.get(place) or ""
    return HealthEvent(
        pci_address=_text(device, vocabulary.PCI_BUS_ID),
        cause=taint.value,
        severity=_SEVERITIES[taint.key],
        message="published before the plugin was restarted",
        time=0.0,
        partition_uuid=uuid if parent and not shared else None,
    )


def _carries(device: Device, taint: DeviceTaint) -> bool:
    return any((other.key, other.value) == (taint.key, taint.value) for other in device.taints)


def _was_replaced(device: Device, now_there: Mapping[str, str]) -> bool:
    address = _text(device, vocabulary.PCI_BUS_ID)
    identity = _text(device, vocabulary.PARENT_UUID) or _text(device, vocabulary.UUID)
    return now_there.get(address, identity) != identity


def _text(device: Device, name: str) -> str:
    attribute = device.attributes.get(name)
    return (attribute.string if attribute else None) or ""


def _worsen(state: HealthState, event: HealthEvent, cause: str) -> Fault:
    before = state.faults.get((event.pci_address, event.partition_uuid), {}).get(cause)
    if before is None:
        return Fault(cause, event.severity, event.message, event.time)
    if event.severity < before.severity:
        return dataclasses.replace(before, recovering_since=None)
    return dataclasses.replace(before, severity=event.severity, message=event.message, recovering_since=None)


def _put(state: HealthState, place: Place, fault: Fault) -> HealthState:
    faults = {**state.faults, place: {**state.faults.get(place, {}), fault.cause: fault}}
    return dataclasses.replace(state, faults=faults)


def _keep(state: HealthState, wanted: Callable[[Place, Fault], bool]) -> HealthState:
    kept = {
        place: {cause: fault for cause, fault in faults.items() if wanted(place, fault)}
        for place, faults in state.faults.items()
    }
    return dataclasses.replace(state, faults={place: faults for place, faults in kept.items() if faults})
