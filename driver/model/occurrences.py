"""Things that happened, as frozen values. The logic emits them; telemetry turns them into metrics and log lines.

`Emit` is handed to whoever has something to tell, so that no logic imports a log or a metrics library.
"""

from __future__ import annotations

from collections.abc import Callable

from driver.model.happened import Happened
from driver.model.reviewing import CertificateLoaded, CertificateRefused, ObjectReviewed, ReviewRefused


class ClaimPrepared(Happened, frozen=True):
    """NodePrepareResources answered for one claim; `error` empty on success, `reason` the error type's name."""

    claim: str
    seconds: float
    devices: int
    reason: str = ""
    error: str = ""


class ClaimUnprepared(Happened, frozen=True):
    """NodeUnprepareResources answered for one claim."""

    claim: str
    seconds: float
    reason: str = ""
    error: str = ""


class HardwareChanged(Happened, frozen=True):
    """A step of a claim was run or undone (`operation` run or undo), or found so; `detail` says of what."""

    claim: str
    step: str
    operation: str
    detail: str
    seconds: float


class HardwareScanned(Happened, frozen=True):
    """The vendor was asked, or its last answer is offered in another way (`seconds` is None then).

    `devices` published, `omitted` left out with reasons (device, reason).
    """

    seconds: float | None
    devices: int
    omitted: tuple[tuple[str, str], ...]


class HardwareUnavailable(Happened, frozen=True):
    """The vendor's library or driver is not there (yet)."""

    reason: str


class SlicesPublished(Happened, frozen=True):
    """The API server holds what we want; what it took."""

    pool: str
    generation: int
    slices: int
    devices: int
    created: int
    updated: int
    deleted: int
    seconds: float


class PublishFailed(Happened, frozen=True):
    """A publishing round failed and is tried again in `retry_in` seconds."""

    reason: str
    error: str
    retry_in: float


class WatchFailed(Happened, frozen=True):
    """What others do to our slices cannot be heard for now; the watch begins again by itself."""

    reason: str
    error: str


class FieldsDropped(Happened, frozen=True):
    """The API server stored less than we sent: a feature of it is off."""

    pool: str
    slice_name: str
    fields: tuple[str, ...]
    features: tuple[str, ...]


class DevicesWithheld(Happened, frozen=True):
    """Devices that are there and are not published, each with the reason; empty once there are none any more."""

    pool: str
    devices: tuple[tuple[str, str], ...]


class AuthorityPublished(Happened, frozen=True):
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


class ModeSet(Happened, frozen=True):
    """Which mode of partitions holds from now on (`off`, `static`, `dynamic`), and what says so."""

    mode: str
    source: str


class ModeRefused(Happened, frozen=True):
    """A label of our Node has a value that is no mode of partitions; `mode` stays."""

    label: str
    value: str
    allowed: str
    mode: str


class NodeUnheard(Happened, frozen=True):
    """The labels of our Node cannot be heard for now; what they said last holds."""

    reason: str
    error: str


class RecordQuarantined(Happened, frozen=True):
    """A record could not be read and was set aside."""

    path: str
    reason: str


class Recovered(Happened, frozen=True):
    """Recovery at start: what was repaired."""

    kept: int
    rolled_back: int
    restored_specs: int
    removed_specs: int


class RepairFailed(Happened, frozen=True):
    """Something of a claim could not be repaired at start; its next prepare or unprepare tries again."""

    claim: str
    reason: str
    error: str


class StaleClaimReleased(Happened, frozen=True):
    """A claim that exists no longer was unprepared, because nobody else did; `reason` in one sentence."""

    claim: str
    reason: str


class MetadataFailed(Happened, frozen=True):
    """Device metadata (KEP-5304) of a claim could not be written; it is prepared without."""

    claim: str
    error: str


class ShareNotEnforced(Happened, frozen=True):
    """A claim was prepared with shares of devices, and nothing keeps it from using more of them."""

    namespace: str
    name: str
    uid: str
    devices: tuple[str, ...]


class Registered(Happened, frozen=True):
    """The kubelet answered to our registration."""

    accepted: bool
    error: str = ""


class RegistryAwaited(Happened, frozen=True):
    """The folder in which the kubelet looks for plugins is not there; registration waits for it."""

    folder: str


class HealthUnavailable(Happened, frozen=True):
    """The vendor's stream of health events broke; it is listened to again. Devices are served as before."""

    reason: str


class HealthReported(Happened, frozen=True):
    """A vendor reported a fault of a device, or its end (severity `healthy`)."""

    device: str
    cause: str
    severity: str
    message: str


class DaemonStarted(Happened, frozen=True):
    """A daemon of the vendor's runs and is ready; `how`: started, found (since an earlier process), again."""

    daemon: str
    pid: int
    how: str


class DaemonEnded(Happened, frozen=True):
    """A daemon that shall run does not, for `reason`; it is started again in `retry_in` seconds."""

    daemon: str
    reason: str
    retry_in: float


class DaemonStopped(Happened, frozen=True):
    """A daemon was ended because nobody needs it any more."""

    daemon: str


class LeadershipChanged(Happened, frozen=True):
    """Our controller leads now, or does not any more; `holder` is who was last seen with the lease."""

    leads: bool
    holder: str


class ClaimAllocated(Happened, frozen=True):
    """Our controller wrote an allocation, `seconds` after it first saw the claim."""

    claim: str
    node: str
    devices: int
    seconds: float


class AllocationFailed(Happened, frozen=True):
    """An allocation, or taking one back, could not be written; it is decided again."""

    claim: str
    reason: str
    error: str


class AllocationReturned(Happened, frozen=True):
    """Our controller took an allocation back that nobody used."""

    claim: str
    why: str


class ClaimWaits(Happened, frozen=True):
    """Why a claim is not allocated: told when it has waited for a while, and when the reason changes."""

    claim: str
    reason: str
    message: str


class ClusterUnavailable(Happened, frozen=True):
    """The API server does not answer the controller, or not as it should."""

    error: str


class EventLost(Happened, frozen=True):
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
