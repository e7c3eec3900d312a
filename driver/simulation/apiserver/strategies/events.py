"""Events in both APIs: one stored form (core/v1), two sets of rules (core/validation/events.go, v1.36)."""

from __future__ import annotations

from typing import Final

from driver.simulation.apiserver.checking import (
    Faults,
    check_rules,
    invalid,
    qualified_name_rules,
    required,
    subdomain_rules,
)
from driver.simulation.apiserver.strategies.base import Strategy
from driver.simulation.apiserver.strategies.metadata import check_names
from driver.simulation.apiserver.strategies.small import path_segment_rules
from driver.simulation.apiserver.values import JsonObject, metadata, obj, text

MAX_REASON: Final = 128
MAX_NOTE: Final = 1024
_OLD_SYSTEM: Final = "kube-system"
_FIXED: Final = (
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "type",
    "eventTime",
    "action",
    "related",
    "reportingComponent",
    "reportingInstance",
    "involvedObject",
)


class EventStrategy(Strategy):
    """Events; requests to events.k8s.io are held to stricter rules."""

    def validate_name(self, name: str) -> list[str]:
        """Names of events of the old API only have to fit into a path."""
        return path_segment_rules(name)

    def validate(self, new: JsonObject, old: JsonObject | None, subresource: str) -> Faults:
        """The namespace always; the rest only for events of the new API."""
        del subresource
        faults = _check_namespace(new)
        if self.resource.group:
            if old is None:
                faults += _check_new(new)
            else:
                faults += _check_series(new) + _check_fixed(new, old) * 2
        return faults


def _check_namespace(event: JsonObject) -> Faults:
    namespace = text(metadata(event).get("namespace"))
    regarding = text(obj(event.get("involvedObject")).get("namespace"))
    if namespace == regarding or (not regarding and namespace in {"default", _OLD_SYSTEM}):
        return []
    return [invalid("involvedObject.namespace", regarding, "does not match event.namespace")]


def _check_new(event: JsonObject) -> Faults:
    faults = check_names(metadata(event), subdomain_rules)
    if event.get("eventTime") is None:
        faults.append(required("eventTime"))
    faults += _check_series(event)
    controller = text(event.get("reportingComponent"))
    if not controller:
        faults.append(required("reportingController"))
    faults += check_rules("reportingController", controller, qualified_name_rules)
    for field, path in (("reportingInstance", "reportingInstance"), ("action", "action"), ("reason", "reason")):
        value = text(event.get(field))
        if not value:
            faults.append(required(path))
        elif len(value) > MAX_REASON:
            faults.append(invalid(path, "", f"can have at most {MAX_REASON} characters"))
    if len(text(event.get("message"))) > MAX_NOTE:
        faults.append(invalid("message", "", f"can have at most {MAX_NOTE} characters"))
    return faults + _check_old_fields(event)


def _check_old_fields(event: JsonObject) -> Faults:
    faults: Faults = []
    kind = text(event.get("type"))
    if kind not in {"Normal", "Warning"}:
        faults.append(invalid("type", "", f"has invalid value: {kind}"))
    for field in ("firstTimestamp", "lastTimestamp"):
        if event.get(field) is not None:
            faults.append(invalid(field, "", "needs to be unset"))
    if event.get("count"):
        faults.append(invalid("count", "", "needs to be unset"))
    if any(obj(event.get("source")).values()):
        faults.append(invalid("source", "", "needs to be unset"))
    return faults


def _check_series(event: JsonObject) -> Faults:
    series = event.get("series")
    if series is None:
        return []
    count = obj(series).get("count", 0)
    faults: Faults = []
    if not isinstance(count, int) or count < 2:
        faults.append(invalid("series.count", "", "should be at least 2"))
    if obj(series).get("lastObservedTime") is None:
        faults.append(required("series.lastObservedTime"))
    return faults


def _check_fixed(new: JsonObject, old: JsonObject) -> Faults:
    return [
        invalid(field, new.get(field), "field is immutable")
        for field in _FIXED
        if (new.get(field) or None) != (old.get(field) or None)
    ]
