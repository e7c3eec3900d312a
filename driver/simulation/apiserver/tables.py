"""Tables: what `kubectl get` prints (printers/internalversion, v1.36). Column descriptions are our own words.

Called by `representing`. A column is a name, a cell function and a priority (1 shows with `-o wide` only).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from driver.simulation.apiserver.values import Json, JsonObject, dig, items, metadata, obj, text

Cell = Callable[[JsonObject, dt.datetime], Json]
_UNKNOWN: Final = "<unknown>"
_NONE: Final = "<none>"


@dataclass(frozen=True)
class Column:
    """One column."""

    name: str
    cell: Cell
    priority: int = 0
    type: str = "string"

    def definition(self) -> JsonObject:
        """The column as a Table describes it."""
        return {
            "name": self.name,
            "type": self.type,
            "format": "name" if self.name == "Name" else "",
            "description": f"{self.name} of the object",
            "priority": self.priority,
        }


def _at(*path: str, default: str = "") -> Cell:
    return lambda value, _now: text(dig(value, path)) or default


def _age(value: JsonObject, now: dt.datetime) -> Json:
    return age(text(metadata(value).get("creationTimestamp")), now)


def age(timestamp: str, now: dt.datetime) -> str:
    """How long ago, as kubectl abbreviates it: 5s, 3m12s, 4h, 2d."""
    if not timestamp:
        return _UNKNOWN
    seconds = max(0, int((now - dt.datetime.fromisoformat(timestamp)).total_seconds()))
    for limit, unit, big, rest, small in _AGES:
        if seconds < limit:
            left = seconds % unit // rest if rest else 0
            return f"{seconds // unit}{big}" + (f"{left}{small}" if left else "")
    return f"{seconds // _YEAR}y{seconds % _YEAR // _DAY}d"


_HOUR: Final = 3600
_DAY: Final = 24 * _HOUR
_YEAR: Final = 365 * _DAY
_AGES: Final = (
    (120, 1, "s", 0, ""),
    (600, 60, "m", 1, "s"),
    (3 * _HOUR, 60, "m", 0, ""),
    (8 * _HOUR, _HOUR, "h", 60, "m"),
    (2 * _DAY, _HOUR, "h", 0, ""),
    (8 * _DAY, _DAY, "d", _HOUR, "h"),
    (2 * _YEAR, _DAY, "d", 0, ""),
)
"""Up to how many seconds, the unit and its sign, the smaller unit shown behind it and its sign."""


def _claim_state(value: JsonObject, _now: dt.datetime) -> Json:
    states = []
    status = obj(value.get("status"))
    if metadata(value).get("deletionTimestamp"):
        states.append("deleted")
    if status.get("allocation") is None:
        if not metadata(value).get("deletionTimestamp"):
            states.append("pending")
    else:
        states.append("allocated")
    if status.get("reservedFor"):
        states.append("reserved")
    return ",".join(states)


def _pod_ready(value: JsonObject, _now: dt.datetime) -> Json:
    statuses = [obj(one) for one in items(dig(value, ("status", "containerStatuses")))]
    total = len(items(dig(value, ("spec", "containers"))))
    return f"{sum(1 for one in statuses if one.get('ready') is True)}/{total}"


def _pod_status(value: JsonObject, _now: dt.datetime) -> Json:
    status = obj(value.get("status"))
    shown = text(status.get("reason")) or text(status.get("phase"))
    for condition in items(status.get("conditions")):
        if obj(condition).get("reason") == "SchedulingGated":
            shown = "SchedulingGated"
    for container in items(status.get("containerStatuses")):
        state = obj(obj(container).get("state"))
        for name in ("waiting", "terminated"):
            shown = text(obj(state.get(name)).get("reason")) or shown
    return "Terminating" if metadata(value).get("deletionTimestamp") else shown


def _pod_restarts(value: JsonObject, _now: dt.datetime) -> Json:
    counts = [obj(one).get("restartCount") for one in items(dig(value, ("status", "containerStatuses")))]
    return str(sum(count for count in counts if isinstance(count, int)))


def _node_status(value: JsonObject, _now: dt.datetime) -> Json:
    shown = "Unknown"
    for condition in items(dig(value, ("status", "conditions"))):
        if obj(condition).get("type") == "Ready":
            shown = "Ready" if obj(condition).get("status") == "True" else "NotReady"
    return f"{shown},SchedulingDisabled" if dig(value, ("spec", "unschedulable")) is True else shown


def _node_roles(value: JsonObject, _now: dt.datetime) -> Json:
    prefix = "node-role.kubernetes.io/"
    labels = obj(metadata(value).get("labels"))
    return ",".join(sorted(key.removeprefix(prefix) for key in labels if key.startswith(prefix))) or _NONE


def _node_address(kind: str) -> Cell:
    def cell(value: JsonObject, _now: dt.datetime) -> Json:
        for address in items(dig(value, ("status", "addresses"))):
            if obj(address).get("type") == kind:
                return text(obj(address).get("address"))
        return _NONE

    return cell


def _count(*path: str) -> Cell:
    def cell(value: JsonObject, _now: dt.datetime) -> Json:
        found = dig(value, path)
        return found if isinstance(found, int) else len(obj(found)) or len(items(found))

    return cell


def _last_seen(value: JsonObject, now: dt.datetime) -> Json:
    for path in (("series", "lastObservedTime"), ("lastTimestamp",), ("eventTime",)):
        seen = text(dig(value, path))
        if seen:
            return age(seen, now)
    return _UNKNOWN


def _event_object(value: JsonObject, _now: dt.datetime) -> Json:
    involved = obj(value.get("involvedObject"))
    return f"{text(involved.get('kind')).lower()}/{text(involved.get('name'))}"


def _message(value: JsonObject, _now: dt.datetime) -> Json:
    return text(value.get("message")).strip()


def _role(value: JsonObject, _now: dt.datetime) -> Json:
    role = obj(value.get("roleRef"))
    return f"{text(role.get('kind'))}/{text(role.get('name'))}"


def _created(value: JsonObject, _now: dt.datetime) -> Json:
    return text(metadata(value).get("creationTimestamp"))


def _selector(value: JsonObject, _now: dt.datetime) -> Json:
    labels = obj(dig(value, ("spec", "template", "spec", "nodeSelector")))
    return ",".join(f"{key}={text(one)}" for key, one in sorted(labels.items())) or _NONE


_NAME: Final = Column("Name", _at("metadata", "name"))
_AGE: Final = Column("Age", _age)
_PLAIN: Final = (_NAME, _AGE)

_COLUMNS: Final[dict[str, tuple[Column, ...]]] = {
    "resourceslices": (
        _NAME,
        Column("Node", _at("spec", "nodeName")),
        Column("Driver", _at("spec", "driver")),
        Column("Pool", _at("spec", "pool", "name")),
        _AGE,
    ),
    "resourceclaims": (_NAME, Column("State", _claim_state), _AGE),
    "pods": (
        _NAME,
        Column("Ready", _pod_ready),
        Column("Status", _pod_status),
        Column("Restarts", _pod_restarts),
        _AGE,
        Column("IP", _at("status", "podIP", default=_NONE), 1),
        Column("Node", _at("spec", "nodeName", default=_NONE), 1),
        Column("Nominated Node", _at("status", "nominatedNodeName", default=_NONE), 1),
        Column("Readiness Gates", lambda _value, _now: _NONE, 1),
    ),
    "nodes": (
        _NAME,
        Column("Status", _node_status),
        Column("Roles", _node_roles),
        _AGE,
        Column("Version", _at("status", "nodeInfo", "kubeletVersion")),
        Column("Internal-IP", _node_address("InternalIP"), 1),
        Column("External-IP", _node_address("ExternalIP"), 1),
        Column("OS-Image", _at("status", "nodeInfo", "osImage", default=_UNKNOWN), 1),
        Column("Kernel-Version", _at("status", "nodeInfo", "kernelVersion", default=_UNKNOWN), 1),
        Column("Container-Runtime", _at("status", "nodeInfo", "containerRuntimeVersion", default=_UNKNOWN), 1),
    ),
    "namespaces": (_NAME, Column("Status", _at("status", "phase")), _AGE),
    "events": (
        Column("Last Seen", _last_seen),
        Column("Type", _at("type")),
        Column("Reason", _at("reason")),
        Column("Object", _event_object),
        Column("Subobject", _at("involvedObject", "fieldPath"), 1),
        Column("Source", _at("source", "component"), 1),
        Column("Message", _message),
        Column("First Seen", lambda value, now: age(text(value.get("firstTimestamp")), now), 1),
        Column("Count", _count("count"), 1),
        Column("Name", _at("metadata", "name"), 1),
    ),
    "leases": (_NAME, Column("Holder", _at("spec", "holderIdentity")), _AGE),
    "configmaps": (_NAME, Column("Data", _count("data"), type="integer"), _AGE),
    "secrets": (_NAME, Column("Type", _at("type")), Column("Data", _count("data"), type="integer"), _AGE),
    "serviceaccounts": (_NAME, Column("Secrets", _count("secrets"), type="integer"), _AGE),
    "clusterroles": (_NAME, Column("Created At", _created)),
    "roles": (_NAME, Column("Created At", _created)),
    "clusterrolebindings": (_NAME, Column("Role", _role), _AGE),
    "rolebindings": (_NAME, Column("Role", _role), _AGE),
    "daemonsets": (
        _NAME,
        Column("Desired", _count("status", "desiredNumberScheduled"), type="integer"),
        Column("Current", _count("status", "currentNumberScheduled"), type="integer"),
        Column("Ready", _count("status", "numberReady"), type="integer"),
        Column("Up-to-date", _count("status", "updatedNumberScheduled"), type="integer"),
        Column("Available", _count("status", "numberAvailable"), type="integer"),
        Column("Node Selector", _selector),
        _AGE,
    ),
    "validatingadmissionpolicies": (
        _NAME,
        Column("Validations", _count("spec", "validations"), type="integer"),
        Column("ParamKind", lambda _value, _now: "<unset>"),
        _AGE,
    ),
    "validatingadmissionpolicybindings": (
        _NAME,
        Column("PolicyName", _at("spec", "policyName")),
        Column("ParamRef", lambda _value, _now: "<unset>"),
        _AGE,
    ),
}


def columns_of(plural: str) -> Sequence[Column]:
    """The columns of a resource; Name and Age where nothing else is known."""
    return _COLUMNS.get(plural, _PLAIN)


def cells(columns: Sequence[Column], value: JsonObject, now: dt.datetime) -> list[Json]:
    """One row's cells."""
    return [column.cell(value, now) for column in columns]
