"""Direct access to the stored objects, for tests, the demo and the simulated controllers in this process.

`ApiServer.store` is one of these. It obeys the same rules as HTTP (stamping, validation, conflicts, finalizers) as
user admin, without authorization. Resources are named by their plural (`resourceclaims`, `events.events.k8s.io`).
"""

from __future__ import annotations

from driver.simulation.apiserver.filtering import make_filter
from driver.simulation.apiserver.kinds import Resource, by_kind, by_name
from driver.simulation.apiserver.listing import key_of
from driver.simulation.apiserver.patches import merge
from driver.simulation.apiserver.registry import DeleteOptions, Registry, Write
from driver.simulation.apiserver.statuses import bad_request
from driver.simulation.apiserver.values import JsonObject, copy_object, metadata, obj, plain, text


class Objects:
    """Objects by resource, namespace and name. What is returned is the caller's own copy."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def create(self, value: JsonObject) -> JsonObject:
        """Creates an object; its kind and apiVersion say where. ApiError 409 if the name is taken."""
        resource = self._resource_of(value)
        namespace = (text(metadata(value).get("namespace")) or "default") if resource.namespaced else ""
        ordered: JsonObject = {"kind": resource.kind, "apiVersion": resource.group_version}
        item = self._registry.create(resource, namespace, {**ordered, **copy_object(value)}, Write())
        return _own(item.value)

    def get(self, resource: str, name: str, namespace: str = "") -> JsonObject:
        """One object; ApiError 404 if it is not there."""
        return _own(self._registry.read(by_name(resource), (namespace, name)).value)

    def list(self, resource: str, namespace: str = "", *, labels: str = "", fields: str = "") -> list[JsonObject]:
        """Objects in key order, of one namespace or all, chosen by selectors."""
        found = by_name(resource)
        chosen = make_filter(found, namespace, {"labelSelector": labels, "fieldSelector": fields})
        stored = self._registry.storage.items(found, namespace)
        return [_own(item.value) for item in stored if chosen.matches(key_of(item), item.value)]

    def update(self, value: JsonObject) -> JsonObject:
        """Replaces an object; a stale resourceVersion is ApiError 409, none at all replaces whatever is there."""
        return self._update(value, "")

    def update_status(self, value: JsonObject) -> JsonObject:
        """Replaces an object's status."""
        return self._update(value, "status")

    def _update(self, value: JsonObject, subresource: str) -> JsonObject:
        resource = self._resource_of(value)
        key = (text(metadata(value).get("namespace")), text(metadata(value).get("name")))
        own = copy_object(value)
        item = self._registry.update(resource, key, lambda _old: own, Write(subresource=subresource))
        return _own(item.value)

    def patch(
        self, resource: str, name: str, patch: JsonObject, namespace: str = "", *, subresource: str = ""
    ) -> JsonObject:
        """Applies a JSON merge patch."""
        item = self._registry.update(
            by_name(resource),
            (namespace, name),
            lambda old: obj(merge(plain(old), patch)),
            Write(subresource=subresource),
        )
        return _own(item.value)

    def delete(self, resource: str, name: str, namespace: str = "", *, grace: int | None = None) -> None:
        """Deletes an object (or marks it where finalizers hold it); ApiError 404 if it is not there."""
        self._registry.delete(by_name(resource), (namespace, name), DeleteOptions(grace=grace), Write())

    @staticmethod
    def _resource_of(value: JsonObject) -> Resource:
        resource = by_kind(text(value.get("apiVersion")), text(value.get("kind")))
        if resource is None:
            raise bad_request(f"no resource for {text(value.get('apiVersion'))} {text(value.get('kind'))}")
        return resource


def _own(value: JsonObject) -> JsonObject:
    return obj(plain(value))
