"""What the kubelet is told about the health of this node's devices, so that pods show it. Called by `app`. Pure.

A list holds every device that is published and every device that a claim on this node holds, also one that has gone:
the pod that still has it must learn of it. Health that nobody watches is not called good.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from driver.core import naming
from driver.core.health import Fault, HealthState, find_faults
from driver.model.devices import Entry, Inventory
from driver.model.health import DeviceHealth, Severity

MAX_MESSAGE: Final = 1024
"""Bytes of a message (DeviceHealth.message in the dra-health API)."""
_UNWATCHED: Final = "the device answers; faults of this vendor's hardware are not watched"
_DEAF: Final = "the device answers; whether it has faults is not known now"
_UNANSWERED: Final = "the vendor's driver does not answer"
_GONE: Final = "the device is no longer found on this node"


def report(
    inventory: Inventory | None, health: HealthState | None, prepared: Iterable[str]
) -> tuple[DeviceHealth, ...]:
    """Return one entry a device, in order of the inventory, then the prepared devices that are not in it, by name.

    `inventory` is None while the vendor's driver is away, `health` for a vendor that reports no faults; `prepared` are
    the names of devices that claims hold.
    """
    entries = inventory.entries if inventory else ()
    missing = sorted(set(prepared) - {entry.name for entry in entries})
    return (
        *(_describe(entry, health) for entry in entries),
        *(_explain_absence(name, inventory) for name in missing),
    )


def _describe(entry: Entry, health: HealthState | None) -> DeviceHealth:
    if health is None:
        return DeviceHealth(entry.name, None, _UNWATCHED)
    faults = find_faults(health, entry.accelerator.pci_address, entry.partition.uuid if entry.partition else None)
    if health.deaf and not faults:
        return DeviceHealth(entry.name, None, _cut(f"{_DEAF}: {health.deaf}"))
    severity = faults[0].severity if faults else Severity.HEALTHY
    return DeviceHealth(entry.name, severity, _cut("; ".join(_say(fault) for fault in faults)))


def _say(fault: Fault) -> str:
    text = f"{fault.cause}: {fault.message}" if fault.message else fault.cause
    return text if fault.recovering_since is None else f"{text} (over, being watched)"


def _explain_absence(name: str, inventory: Inventory | None) -> DeviceHealth:
    if inventory is None:
        return DeviceHealth(name, None, _UNANSWERED)
    reason = next(_find_reasons(name, inventory), "")
    return DeviceHealth(name, Severity.UNHEALTHY, _cut(f"{_GONE}: {reason}" if reason else _GONE))


def _find_reasons(name: str, inventory: Inventory) -> Iterator[str]:
    """Yield why hardware is left out that this device is, or is part of."""
    for failure in inventory.omitted:
        if failure.pci_address and naming.is_at(name, failure.pci_address):
            yield failure.reason


def _cut(message: str) -> str:
    if len(message.encode()) <= MAX_MESSAGE:
        return message
    return message.encode()[: MAX_MESSAGE - 3].decode(errors="ignore") + "..."
