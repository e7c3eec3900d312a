"""Which objects a list, watch or deletecollection is about: namespace, label and field selector together.

Made once a request from its query; then asked for each object. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from driver.simulation.apiserver.kinds import Resource
from driver.simulation.apiserver.selectors import FieldTerm, Requirement, parse_fields, parse_labels
from driver.simulation.apiserver.statuses import ApiError, bad_request
from driver.simulation.apiserver.storage import Key
from driver.simulation.apiserver.values import Json, JsonObject, dig, metadata, obj

_META = frozenset({"metadata.name", "metadata.namespace"})


@dataclass(frozen=True)
class Filter:
    """The selection of one request."""

    resource: Resource
    namespace: str
    labels: tuple[Requirement, ...]
    fields: tuple[FieldTerm, ...]

    @property
    def selects(self) -> bool:
        """Whether anything but the namespace restricts it."""
        return bool(self.labels or self.fields)

    def matches(self, key: Key, value: JsonObject) -> bool:
        """Whether the object belongs to the selection."""
        if self.namespace and key[0] != self.namespace:
            return False
        if self.labels:
            labels = obj(metadata(value).get("labels"))
            if not all(requirement.matches(labels) for requirement in self.labels):
                return False
        return all((self._field(term.field, key, value) == term.value) is term.equal for term in self.fields)

    def _field(self, name: str, key: Key, value: JsonObject) -> str:
        if name == "metadata.name":
            return key[1]
        if name == "metadata.namespace":
            return key[0]
        return _as_text(dig(value, self.resource.fields[name]), boolean=name in _BOOLEANS)


_BOOLEANS = frozenset({"spec.unschedulable", "spec.hostNetwork"})


def _as_text(value: Json, *, boolean: bool) -> str:
    if value is None:
        return "false" if boolean else ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def make_filter(resource: Resource, namespace: str, query: Mapping[str, str], version: str = "") -> Filter:
    """The selection a query asks for; a 400 says what is wrong with a selector."""
    labels = parse_labels(query.get("labelSelector", ""))
    group_version = f"{resource.group}/{version or resource.version}" if resource.group else resource.version
    fields = parse_fields(query.get("fieldSelector", ""))
    for term in fields:
        if term.field not in _META and term.field not in resource.fields:
            raise _unsupported(resource, group_version, term.field)
    return Filter(resource, namespace, labels, fields)


def _unsupported(resource: Resource, group_version: str, name: str) -> ApiError:
    """The 400 about a field: kinds without selectable fields say it in other words than those with some."""
    if not resource.fields:
        return bad_request(f'"{name}" is not a known field selector: only "metadata.name", "metadata.namespace"')
    of_kind = "" if resource.group in _BARE else f" for {group_version}, Kind={resource.kind}"
    return bad_request(f"field label not supported{of_kind}: {name}")


_BARE = frozenset({"", "events.k8s.io"})
"""Groups whose conversion functions say no more than `field label not supported`."""
