"""One kind, several faces: older versions of resource.k8s.io and the two Event APIs.

Called by the verbs: objects are stored in one form (`Resource.stored`, its newest version), and a `View` turns them
into the form of the path and back. v1beta2 has the shape of v1; v1beta1 has devices below `basic` and requests
without `exactly`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from driver.simulation.apiserver.kinds import Resource
from driver.simulation.apiserver.schemas import Struct, struct_of
from driver.simulation.apiserver.storage import Item
from driver.simulation.apiserver.tidying import render, tidy
from driver.simulation.apiserver.values import Json, JsonObject, items, obj

_DEPRECATED: Final = {"v1beta1": ("v1.35+", "v1.38+"), "v1beta2": ("v1.36+", "v1.39+")}
_EVENT_NAMES: Final = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
_EVENT_NAMES_BACK: Final = {stored: served for served, stored in _EVENT_NAMES.items()}
Rewrite = Callable[[JsonObject], JsonObject]
_REQUEST_FIELDS: Final = ("name", "firstAvailable")


@dataclass(frozen=True)
class View:
    """A resource as one version serves it."""

    resource: Resource
    version: str

    @property
    def group_version(self) -> str:
        """The apiVersion of the objects shown."""
        return f"{self.resource.group}/{self.version}" if self.resource.group else self.version

    @property
    def struct(self) -> Struct:
        """What bodies of this view are decoded as (v1beta1 after `upgrade`)."""
        return struct_of(self.resource.group, self.resource.kind)

    @property
    def plain(self) -> bool:
        """Whether objects are shown as they are stored."""
        return self.resource.home is None and self.version == self.resource.version

    @property
    def warning(self) -> str:
        """The deprecation warning of old versions; empty for current ones."""
        if self.version not in _DEPRECATED:
            return ""
        since, until = _DEPRECATED[self.version]
        return f"{self.group_version} {self.resource.kind} is deprecated in {since}, unavailable in {until}"

    def upgrade(self, tree: JsonObject) -> JsonObject:
        """A body of this version in the shape of the newest one, before decoding."""
        return _convert(self.resource.kind, tree, _flat_device, _with_exactly) if self.version == "v1beta1" else tree

    def stored(self, value: JsonObject) -> JsonObject:
        """A decoded object in the form it is stored in."""
        stored = self.resource.stored
        out = {**value, "kind": stored.kind, "apiVersion": stored.group_version}
        if self.resource.home is not None:
            out = {_EVENT_NAMES.get(key, key): item for key, item in out.items()}
        return out

    def served(self, value: JsonObject) -> JsonObject:
        """A stored object as this view shows it."""
        if self.plain:
            return value
        out = {**value, "kind": self.resource.kind, "apiVersion": self.group_version}
        if self.resource.home is not None:
            renamed = {_EVENT_NAMES_BACK.get(key, key): item for key, item in out.items()}
            return tidy(self.struct, renamed)
        return _convert(self.resource.kind, out, _basic_device, _without_exactly) if self.version == "v1beta1" else out

    def render(self, item: Item) -> bytes:
        """A stored state as JSON of this view."""
        return item.json if self.plain else render(self.struct, self.served(item.value))


def _convert(kind: str, value: JsonObject, device: Rewrite, request: Rewrite) -> JsonObject:
    """Rewrites the devices of slices and the requests of claims and templates."""
    spec = value.get("spec")
    if not isinstance(spec, dict):
        return value
    if kind == "ResourceSlice" and isinstance(spec.get("devices"), list):
        return {**value, "spec": {**spec, "devices": _each(spec["devices"], device)}}
    if kind == "ResourceClaim":
        return {**value, "spec": _convert_claim(spec, request)}
    if kind == "ResourceClaimTemplate":
        return {**value, "spec": {**spec, "spec": _convert_claim(obj(spec.get("spec")), request)}}
    return value


def _convert_claim(spec: JsonObject, request: Rewrite) -> JsonObject:
    devices = spec.get("devices")
    if not isinstance(devices, dict) or not isinstance(devices.get("requests"), list):
        return spec
    return {**spec, "devices": {**devices, "requests": _each(devices["requests"], request)}}


def _each(entries: Json, change: Rewrite) -> list[Json]:
    return [change(entry) if isinstance(entry, dict) else entry for entry in items(entries)]


def _flat_device(device: JsonObject) -> JsonObject:
    basic = device.get("basic")
    rest: JsonObject = {key: item for key, item in device.items() if key != "basic"}
    return {**rest, **basic} if isinstance(basic, dict) else rest


def _basic_device(device: JsonObject) -> JsonObject:
    return {"name": device.get("name"), "basic": {key: item for key, item in device.items() if key != "name"}}


def _with_exactly(request: JsonObject) -> JsonObject:
    exact: JsonObject = {key: item for key, item in request.items() if key not in _REQUEST_FIELDS}
    kept: JsonObject = {key: item for key, item in request.items() if key in _REQUEST_FIELDS}
    return {**kept, "exactly": exact} if exact else kept


def _without_exactly(request: JsonObject) -> JsonObject:
    kept: JsonObject = {key: item for key, item in request.items() if key != "exactly"}
    return {**kept, **obj(request.get("exactly"))}
