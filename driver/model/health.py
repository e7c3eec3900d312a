"""Health of devices: events from a vendor, severities, and the state they add up to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Severity(IntEnum):
    """How bad it is. Ordered: a higher one is never hidden by a lower one."""

    HEALTHY = 0
    DEGRADED = 1
    UNHEALTHY = 2


@dataclass(frozen=True, slots=True)
class HealthEvent:
    """Something a vendor says about one accelerator (with all of its partitions) or about one partition.

    `cause` names the fault (`xid-79`, `ecc-uncorrectable`); an event of severity HEALTHY clears its own cause only.
    """

    pci_address: str
    cause: str
    severity: Severity
    message: str
    time: float
    """Seconds since the epoch."""
    partition_uuid: str | None = None


@dataclass(frozen=True, slots=True)
class DeviceHealth:
    """What the kubelet is told about one device, for the status of the pods that use it (KEP-4680)."""

    device: str
    """Name in the node's pool."""
    severity: Severity | None
    """None: nobody can tell."""
    message: str = ""
    """For people; empty if there is nothing to say."""
