"""Log lines: JSON in a cluster, readable text on a terminal. Configured once, by the command that runs a process.

Lines carry fields through `extra={"fields": {...}}`; `emit` turns each occurrence into one line with its fields.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
from typing import Final

from driver.model import occurrences, reviewing
from driver.model.occurrences import Occurrence

LOGGER: Final = logging.getLogger("accel_dra")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, message, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        document: dict[str, object] = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document, default=str)


class TextFormatter(logging.Formatter):
    """`12:00:00 info     message  key=value …` for a person."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        time = dt.datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        fields = "".join(f"  {key}={value}" for key, value in _fields(record).items())
        text = f"{time} {record.levelname.lower():<8} {record.getMessage()}{fields}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def configure(log_format: str, level: str) -> None:
    """Send log lines to standard error. `log_format` is json, text or auto (text on a terminal)."""
    text = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter() if text else JsonFormatter())
    LOGGER.handlers = [handler]
    LOGGER.propagate = False
    LOGGER.setLevel(level.upper())


def log_occurrence(occurrence: Occurrence) -> None:
    """Write one line about something that happened; its level says how bad it is."""
    fields = {_KEYS.get(key, key): value for key, value in _values(occurrence).items() if value not in ("", (), None)}
    LOGGER.log(_level(occurrence), _describe(occurrence), extra={"fields": fields})


_KEYS: Final = {"message": "detail"}
"""Fields that would take the place of a line's own."""
_TEXT: Final[dict[type, str]] = {
    occurrences.ClaimPrepared: "claim prepared",
    occurrences.ClaimUnprepared: "claim unprepared",
    occurrences.HardwareChanged: "hardware changed for a claim",
    occurrences.HardwareScanned: "hardware scanned",
    occurrences.HardwareUnavailable: "hardware not available, waiting for it",
    occurrences.SlicesPublished: "slices published",
    occurrences.PublishFailed: "publishing slices failed, trying again",
    occurrences.WatchFailed: "watching our slices failed, beginning again",
    occurrences.FieldsDropped: "the API server dropped fields of a slice",
    occurrences.DevicesWithheld: "devices that cannot be published",
    occurrences.AuthorityPublished: "who allocates the devices of this pool",
    occurrences.ModeSet: "mode of partitions set",
    occurrences.ModeRefused: "a label of our Node is no mode of partitions, the last mode stays",
    occurrences.NodeUnheard: "labels of our Node cannot be heard, trying again",
    occurrences.RecordQuarantined: "a record could not be read and was set aside",
    occurrences.Recovered: "recovered prepared claims",
    occurrences.RepairFailed: "a claim could not be repaired, its next prepare or unprepare tries again",
    occurrences.StaleClaimReleased: "a claim that exists no longer was unprepared",
    occurrences.MetadataFailed: "device metadata could not be written, the claim is prepared without",
    occurrences.ShareNotEnforced: "a claim has shares of devices, and nothing limits it to them",
    occurrences.Registered: "the kubelet answered to our registration",
    occurrences.RegistryAwaited: "waiting for the kubelet's registration folder; is --kubelet-registry-dir right?",
    occurrences.HealthUnavailable: "health events of the hardware are not to be had, listening again",
    occurrences.HealthReported: "health of a device changed",
    occurrences.DaemonStarted: "a daemon of the hardware's runs",
    occurrences.DaemonEnded: "a daemon of the hardware's ended, starting it again",
    occurrences.DaemonStopped: "a daemon of the hardware's was ended, nobody needs it any more",
    occurrences.LeadershipChanged: "leadership changed",
    occurrences.ClaimAllocated: "claim allocated",
    occurrences.AllocationFailed: "an allocation could not be written, deciding again",
    occurrences.AllocationReturned: "an allocation that nobody used was taken back",
    occurrences.ClaimWaits: "a claim waits",
    occurrences.ClusterUnavailable: "the API server does not answer as it should, trying again",
    occurrences.EventLost: "an Event could not be written and was given up",
    reviewing.CertificateLoaded: "serving with this certificate",
    reviewing.CertificateRefused: "certificate or key cannot be used, the ones before stay",
    reviewing.ObjectReviewed: "object reviewed",
    reviewing.ReviewRefused: "a request could not be answered",
}


def _describe(occurrence: Occurrence) -> str:
    if isinstance(occurrence, occurrences.AuthorityPublished) and occurrence.fell_back:
        return "the API server does not store taints, so kube-scheduler allocates this pool and not our controller"
    return _TEXT[type(occurrence)]


def _values(occurrence: Occurrence) -> dict[str, object]:
    return {name: getattr(occurrence, name) for name in occurrence.__struct_fields__}


def _level(occurrence: Occurrence) -> int:
    match occurrence:
        case occurrences.ClaimPrepared(error=error) | occurrences.ClaimUnprepared(error=error) if error:
            return logging.ERROR
        case occurrences.RecordQuarantined() | occurrences.RepairFailed() | occurrences.Registered(accepted=False):
            return logging.ERROR
        case occurrences.HealthReported(severity=severity):
            return logging.INFO if severity == "healthy" else logging.WARNING
        case (
            occurrences.HardwareScanned(omitted=bad)
            | occurrences.DevicesWithheld(devices=bad)
            | occurrences.AuthorityPublished(fell_back=bad)
        ) if bad:
            return logging.WARNING
        case (
            occurrences.HardwareUnavailable()
            | occurrences.PublishFailed()
            | occurrences.WatchFailed()
            | occurrences.RegistryAwaited()
            | occurrences.ModeRefused()
            | occurrences.NodeUnheard()
            | occurrences.FieldsDropped()
            | occurrences.MetadataFailed()
            | occurrences.HealthUnavailable()
            | occurrences.DaemonEnded()
            | occurrences.StaleClaimReleased()
            | occurrences.AllocationFailed()
            | occurrences.ClusterUnavailable()
            | occurrences.EventLost()
            | reviewing.CertificateRefused()
            | reviewing.ReviewRefused()
        ):
            return logging.WARNING
        case _:
            return logging.INFO


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields = getattr(record, "fields", None)
    return dict(fields) if isinstance(fields, dict) else {}
