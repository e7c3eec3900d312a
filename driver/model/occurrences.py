"""Things that happened, as frozen values. The logic emits them; telemetry turns them into metrics and log lines.

`Emit` is handed to whoever has something to tell, so that no logic imports a log or a metrics library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from driver.model.reviewing import CertificateLoaded, CertificateRefused, ObjectReviewed, ReviewRefused


@dataclass(frozen=True, slots=True)
class ClaimPrepared:
    """NodePrepareResources answered for one claim; `error` empty on success, `reason` the error type's name."""

    claim: str
    seconds: float
    devices: int
    reason: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class ClaimUnprepared:
    """NodeUnprepareResources answered for one claim."""

    claim: str
    seconds: float
    reason: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class HardwareChanged:
    """A step of a claim was run or undone (`operation` run or undo), or found so; `detail` says of what."""

    claim: str
    step: str
    operation: str
    detail: str
    seconds: float


@dataclass(frozen=True, slots=True)
class HardwareScanned:
    """The vendor was asked, or its last answer is offered in another way (`seconds` is None then).

    `devices` published, `omitted` left out with reasons (device, reason).
    """

    seconds: float | None
    devices: int
    omitted: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class HardwareUnavailable:
    """The vendor's library or driver is not there (yet)."""

    reason: str


@dataclass(frozen=True, slots=True)
class SlicesPublished:
    """The API server holds what we want; what it took."""

    pool: str
    generation: int
    slices: int
    devices: int
    created: int
    updated: int
    deleted: int
    seconds: float


@dataclass(frozen=True, slots=True)
class PublishFailed:
    """A publishing round failed and is tried again in `retry_in` seconds."""

    reason: str
    error: str
    retry_in: float


@dataclass(frozen=True, slots=True)
class WatchFailed:
    """What others do to our slices cannot be heard for now; the watch begins again by itself."""

    reason: str
    error: str


@dataclass(frozen=True, slots=True)
class FieldsDropped:
    """The API server stored less than we sent: a feature of it is off."""

    pool: str
    slice_name: str
    fields: tuple[str, ...]
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DevicesWithheld:
    """Devices that are there and are not published, each with the reason; empty once there are none any more."""

    pool: str
    devices: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class AuthorityPublished:
    """Who allocates the devices of the pool from now on, `scheduler` or `controller`; `wanted` is the setting.

    They differ where the API server does not store taints: the fence is missing, so the pool is kube-scheduler's.
    """

    pool: str
    wanted: str
    authority: str

    @property
    def fell_back(self) -> bool:
        """True if the pool has another authority than the one that is set."""
        return self.wanted != self.authority


@dataclass(frozen=True, slots=True)
class ModeSet:
    """Which mode of partitions holds from now on (`off`, `static`, `dynamic`), and what says so."""

    mode: str
    source: str


@dataclass(frozen=True, slots=True)
class ModeRefused:
    """A label of our Node has a value that is no mode of partitions; `mode` stays."""

    label: str
    value: str
    allowed: str
    mode: str


@dataclass(frozen=True, slots=True)
class NodeUnheard:
    """The labels of our Node cannot be heard for now; what they said last holds."""

    reason: str
    error: str


@dataclass(frozen=True, slots=True)
class RecordQuarantined:
    """A record could not be read and was set aside."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Recovered:
    """Recovery at start: what was repaired."""

    kept: int
    rolled_back: int
    restored_specs: int
    removed_specs: int


@dataclass(frozen=True, slots=True)
class RepairFailed:
    """Something of a claim could not be repaired at start; its next prepare or unprepare tries again."""

    claim: str
    reason: str
    error: str


@dataclass(frozen=True, slots=True)
class StaleClaimReleased:
    """A claim that exists no longer was unprepared, because nobody else did; `reason` in one sentence."""

    claim: str
    reason: str


@dataclass(frozen=True, slots=True)
class MetadataFailed:
    """Device metadata (KEP-5304) of a claim could not be written; it is prepared without."""

    claim: str
    error: str


@dataclass(frozen=True, slots=True)
class ShareNotEnforced:
    """A claim was prepared with shares of devices, and nothing keeps it from using more of them."""

    namespace: str
    name: str
    uid: str
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Registered:
    """The kubelet answered to our registration."""

    accepted: bool
    error: str = ""


@dataclass(frozen=True, slots=True)
class RegistryAwaited:
    """The folder in which the kubelet looks for plugins is not there; registration waits for it."""

    folder: str


@dataclass(frozen=True, slots=True)
class HealthUnavailable:
    """The vendor's stream of health events broke; it is listened to again. Devices are served as before."""

    reason: str


@dataclass(frozen=True, slots=True)
class HealthReported:
    """A vendor reported a fault of a device, or its end (severity `healthy`)."""

    device: str
    cause: str
    severity: str
    message: str


@dataclass(frozen=True, slots=True)
class DaemonStarted:
    """A daemon of the vendor's runs and is ready; `how`: started, found (since an earlier process), again."""

    daemon: str
    pid: int
    how: str


@dataclass(frozen=True, slots=True)
class DaemonEnded:
    """A daemon that shall run does not, for `reason`; it is started again in `retry_in` seconds."""

    daemon: str
    reason: str
    retry_in: float


@dataclass(frozen=True, slots=True)
class DaemonStopped:
    """A daemon was ended because nobody needs it any more."""

    daemon: str


@dataclass(frozen=True, slots=True)
class LeadershipChanged:
    """Our controller leads now, or does not any more; `holder` is who was last seen with the lease."""

    leads: bool
    holder: str


@dataclass(frozen=True, slots=True)
class ClaimAllocated:
    """Our controller wrote an allocation, `seconds` after it first saw the claim."""

    claim: str
    node: str
    devices: int
    seconds: float


@dataclass(frozen=True, slots=True)
class AllocationFailed:
    """An allocation, or taking one back, could not be written; it is decided again."""

    claim: str
    reason: str
    error: str


@dataclass(frozen=True, slots=True)
class AllocationReturned:
    """Our controller took an allocation back that nobody used."""

    claim: str
    why: str


@dataclass(frozen=True, slots=True)
class ClaimWaits:
    """Why a claim is not allocated: told when it has waited for a while, and when the reason changes."""

    claim: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ClusterUnavailable:
    """The API server does not answer the controller, or not as it should."""

    error: str


@dataclass(frozen=True, slots=True)
class EventLost:
    """An Event could not be written and was given up."""

    reason: str
    """Of the Event."""
    regarding: str
    error: str


Occurrence = (
    ClaimPrepared
    | ClaimUnprepared
    | HardwareChanged
    | HardwareScanned
    | HardwareUnavailable
    | SlicesPublished
    | PublishFailed
    | WatchFailed
    | FieldsDropped
    | DevicesWithheld
    | AuthorityPublished
    | ModeSet
    | ModeRefused
    | NodeUnheard
    | RecordQuarantined
    | Recovered
    | RepairFailed
    | StaleClaimReleased
    | MetadataFailed
    | ShareNotEnforced
    | Registered
    | RegistryAwaited
    | HealthReported
    | HealthUnavailable
    | DaemonStarted
    | DaemonEnded
    | DaemonStopped
    | LeadershipChanged
    | ClaimAllocated
    | AllocationFailed
    | AllocationReturned
    | ClaimWaits
    | ClusterUnavailable
    | EventLost
    | CertificateLoaded
    | CertificateRefused
    | ObjectReviewed
    | ReviewRefused
)
Emit = Callable[[Occurrence], None]
