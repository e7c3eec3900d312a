"""Tells everyone who should know what happened: the log, the metrics, and Events on the objects concerned.

`app` gives `tell` to all parts as their `Emit`. It never fails and never waits: Events are written on a thread of
their own. Must not decide anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from driver.core import shares
from driver.kube.events import EventWriter, Happening, Regarding
from driver.model.occurrences import (
    AuthorityPublished,
    DaemonEnded,
    DevicesWithheld,
    HardwareScanned,
    HealthReported,
    ModeRefused,
    Occurrence,
    RecordQuarantined,
    ShareNotEnforced,
)
from driver.model.prepared import ClaimRef, PrepareAnswer
from driver.telemetry import logs
from driver.telemetry.metrics import Metrics

_NAMED: Final = 3
"""Devices that one Event names; the others are counted."""
_CLAIM_API: Final = "resource.k8s.io/v1"
_FELL_BACK: Final = (
    "allocation-authority is controller, but the API server does not store taints of devices: kube-scheduler allocates "
    "this node's devices until its feature DRADeviceTaints is turned on"
)


_NOT_ENFORCED: Final = (
    "this share of the device is not enforced: processes take turns, and nothing keeps any from using more memory or "
    "time than the claim asked for (--shares MPS would)"
)


class Teller:
    """Hands every occurrence to log, metrics and Events."""

    def __init__(self, node: str, metrics: Metrics, events: EventWriter) -> None:
        # Events on Nodes carry the node's name as UID, as the kubelet writes them: `kubectl describe node` finds both.
        self._node = Regarding("v1", "Node", "", node, node)
        self._metrics = metrics
        self._events = events

    def tell(self, occurrence: Occurrence) -> None:
        """Log and count one occurrence; what concerns the node as a whole becomes an Event on it."""
        logs.log_occurrence(occurrence)
        self._metrics.count(occurrence)
        for reason, note in _describe(occurrence):
            self._events.post(Happening(self._node, reason, "ServeDevices", note, warning=True))
        if isinstance(occurrence, ShareNotEnforced):
            claim = Regarding(_CLAIM_API, "ResourceClaim", occurrence.namespace, occurrence.name, occurrence.uid)
            note = f"{', '.join(occurrence.devices)}: {_NOT_ENFORCED}"
            self._events.post(Happening(claim, "ShareNotEnforced", "Prepare", note, warning=False))

    def tell_answers(
        self, prepare: Callable[[Sequence[ClaimRef]], Mapping[str, PrepareAnswer]]
    ) -> Callable[[Sequence[ClaimRef]], Mapping[str, PrepareAnswer]]:
        """Wrap `prepare` so that a claim that cannot be prepared, or has shares without limits, gets an Event."""

        def tell(refs: Sequence[ClaimRef]) -> Mapping[str, PrepareAnswer]:
            answers = prepare(refs)
            for ref in refs:
                loose = shares.find_unenforced(answers[ref.uid].devices)
                if loose:
                    self.tell(ShareNotEnforced(ref.namespace, ref.name, ref.uid, loose))
                self._complain(ref, "Prepare", answers[ref.uid].error)
            return answers

        return tell

    def tell_releases(
        self, unprepare: Callable[[Sequence[ClaimRef]], Mapping[str, str]]
    ) -> Callable[[Sequence[ClaimRef]], Mapping[str, str]]:
        """Wrap `unprepare` so that a claim that cannot be released gets an Event: its pod does not end until it is."""

        def tell(refs: Sequence[ClaimRef]) -> Mapping[str, str]:
            errors = unprepare(refs)
            for ref in refs:
                self._complain(ref, "Unprepare", errors[ref.uid])
            return errors

        return tell

    def _complain(self, ref: ClaimRef, action: str, error: str) -> None:
        if error:
            claim = Regarding(_CLAIM_API, "ResourceClaim", ref.namespace, ref.name, ref.uid)
            self._events.post(Happening(claim, f"{action}Failed", action, error, warning=True))


def _describe(occurrence: Occurrence) -> list[tuple[str, str]]:
    """Return the Events (reason, note) that an occurrence is worth."""
    match occurrence:
        case RecordQuarantined():
            return [("RecordQuarantined", f"{occurrence.path} was set aside: {occurrence.reason}")]
        case HardwareScanned(omitted=devices) | DevicesWithheld(devices=devices):
            return [("DeviceOmitted", note) for note in _group(devices)]
        case AuthorityPublished() if occurrence.fell_back:
            return [("AuthorityFellBack", _FELL_BACK)]
        case DaemonEnded():
            return [("DaemonEnded", f"{occurrence.daemon}: {occurrence.reason}")]
        case HealthReported() if occurrence.severity != "healthy":
            return [("DeviceFault", f"{occurrence.device}: {occurrence.cause}: {occurrence.message}")]
        case _:
            return [("LabelRefused", _explain(occurrence))] if isinstance(occurrence, ModeRefused) else []


def _group(devices: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield a sentence a reason: a server without a feature withholds all partitions of a node for the same one."""
    names: dict[str, list[str]] = {}
    for device, reason in devices:
        names.setdefault(reason, []).append(device)
    for reason, those in names.items():
        others = f" and {len(those) - _NAMED} more" if len(those) > _NAMED else ""
        verb = "is" if len(those) == 1 else "are"
        yield f"{', '.join(those[:_NAMED])}{others} {verb} not published: {reason}"


def _explain(refused: ModeRefused) -> str:
    wrong = f"label {refused.label}: {refused.value!r} is not allowed; allowed: {refused.allowed}"
    return f"{wrong}; partitions stay {refused.mode}"
