"""Direct access to the stored objects, for tests, the demo and the simulated controllers in this process.

`ApiServer.store` is one of these. It obeys the same rules as HTTP (stamping, validation, conflicts, finalizers) as
user admin, without authorization. Resources are named by their plural (`resourceclaims`, `events.events.k8s.io`).
"""

from __future__ import annotations

from driver.simulation.apiserver.bodies import decode_bytes
from driver.simulation.apiserver.deleting import DeleteOptions
from driver.simulation.apiserver.filtering import make_filter
from driver.simulation.apiserver.kinds import by_kind, by_name
from driver.simulation.apiserver.listing import key_of
from driver.simulation.apiserver.patches import merge
from driver.simulation.apiserver.registry import Registry, Write
from driver.simulation.apiserver.statuses import bad_request
from driver.simulation.apiserver.tidying import shown
from driver.simulation.apiserver.values import JsonObject, encode, metadata, obj, plain, text
from driver.simulation.apiserver.views import View


class Objects:
    """Objects by resource, namespace and name. What is returned is the caller's own copy."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def create(self, value: JsonObject) -> JsonObject:
        """Creates an object; its kind and apiVersion say where. ApiError 409 if the name is taken."""
        view, own = self._decode(value)
        namespace = (text(metadata(own).get("namespace")) or "default") if view.resource.namespaced else ""
        return _own(self._registry.create(view.resource, namespace, own, Write()).value)

    def get(self, resource: str, name: str, namespace: str = "") -> JsonObject:
        """One object; ApiError 404 if it is not there."""
        found = by_name(resource)
        return _own(View(found, found.version).served(self._registry.read(found, (namespace, name)).value))

    def list(self, resource: str, namespace: str = "", *, labels: str = "", fields: str = "") -> list[JsonObject]:
        """Objects in key order, of one namespace or all, chosen by selectors."""
        found = by_name(resource)
        chosen = make_filter(found, namespace, {"labelSelector": labels, "fieldSelector": fields})
        stored = self._registry.storage.items(found.stored, namespace)
        view = View(found, found.version)
        return [_own(view.served(item.value)) for item in stored if chosen.matches(key_of(item), item.value)]

    def update(self, value: JsonObject) -> JsonObject:
        """Replaces an object; a stale resourceVersion is ApiError 409, none at all replaces whatever is there."""
        return self._update(value, "")

    def update_status(self, value: JsonObject) -> JsonObject:
        """Replaces an object's status."""
        return self._update(value, "status")

    def _update(self, value: JsonObject, subresource: str) -> JsonObject:
        view, own = self._decode(value)
        key = (text(metadata(own).get("namespace")), text(metadata(own).get("name")))
        item = self._registry.update(view.resource, key, lambda _old: own, Write(subresource=subresource))
        return _own(item.value)

    @staticmethod
    def _decode(value: JsonObject) -> tuple[View, JsonObject]:
        version, kind = text(value.get("apiVersion")), text(value.get("kind"))
        resource = by_kind(version, kind)
        if resource is None:
            raise bad_request(f"no resource for {version} {kind}")
        view = View(resource, version.rpartition("/")[2])
        return view, decode_bytes(view, encode(value), "Strict", [])

    def patch(
        self, resource: str, name: str, patch: JsonObject, namespace: str = "", *, subresource: str = ""
    ) -> JsonObject:
        """Applies a JSON merge patch."""
        found = by_name(resource)
        view = View(found, found.version)

        def change(old: JsonObject) -> JsonObject:
            return decode_bytes(view, encode(merge(shown(view.served(old)), patch)), "Strict", [])

        write = Write(subresource=subresource, guarded=False, verb="patch")
        return _own(self._registry.update(found, (namespace, name), change, write).value)

    def delete(self, resource: str, name: str, namespace: str = "", *, grace: int | None = None) -> None:
        """Deletes an object (or marks it where finalizers hold it); ApiError 404 if it is not there."""
        self._registry.delete(by_name(resource), (namespace, name), DeleteOptions(grace=grace), Write())


def _own(value: JsonObject) -> JsonObject:
    return obj(plain(value))
