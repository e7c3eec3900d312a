"""What a cluster's controllers do by themselves, as far as tests and the demo rely on it.

Observers of the registry, all in the writer's thread: a new namespace gets its ServiceAccount and root certificate,
a deleted one is emptied, and what is owned goes with its owner (garbage collection). No waiting, no loops.
"""

from __future__ import annotations

from typing import Final

from driver.simulation.apiserver.deleting import FOREGROUND, ORPHAN, DeleteOptions, finalizers
from driver.simulation.apiserver.kinds import RESOURCES, Resource, by_name
from driver.simulation.apiserver.listing import key_of
from driver.simulation.apiserver.registry import Registry, Write
from driver.simulation.apiserver.statuses import ApiError
from driver.simulation.apiserver.storage import Key
from driver.simulation.apiserver.values import Json, JsonObject, items, metadata, obj, text

NAMESPACES: Final = by_name("namespaces")
_STORED: Final = tuple(resource for resource in RESOURCES if resource.home is None)
_CERTIFICATE: Final = "this server speaks plain HTTP on the loopback interface\n"


class Housekeeping:
    """The controllers that are always there."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._owned: dict[str, set[tuple[Resource, Key]]] = {}
        registry.observers.append(self.observe)

    def observe(self, event: str, resource: Resource, key: Key, value: JsonObject) -> None:
        """Told of each creation, deletion mark and removal."""
        if event == "removed":
            self._collect(value)
            self._finish_namespace(key[0])
        elif event == "marked":
            self._marked(resource, key, value)
        else:
            for owner in _owners(value):
                self._owned.setdefault(owner, set()).add((resource, key))
            if resource is NAMESPACES:
                self._furnish(key[1])

    def _marked(self, resource: Resource, key: Key, value: JsonObject) -> None:
        if FOREGROUND in finalizers(value):
            self._collect(value)
            self._release(resource, key, FOREGROUND)
        if ORPHAN in finalizers(value):
            self._orphan(value)
            self._release(resource, key, ORPHAN)
        if resource is NAMESPACES:
            self._empty(key[1])

    def _release(self, resource: Resource, key: Key, finalizer: str) -> None:
        def change(value: JsonObject) -> JsonObject:
            metadata(value)["finalizers"] = [one for one in finalizers(value) if one != finalizer]
            return value

        self._registry.update(resource, key, change, Write(manager="kube-controller-manager", guarded=False))

    def _furnish(self, namespace: str) -> None:
        account: JsonObject = {"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "default"}}
        certificate: JsonObject = {
            "kind": "ConfigMap",
            "apiVersion": "v1",
            "metadata": {"name": "kube-root-ca.crt"},
            "data": {"ca.crt": _CERTIFICATE},
        }
        self._registry.create(by_name("serviceaccounts"), namespace, account, Write(manager="kube-controller-manager"))
        self._registry.create(by_name("configmaps"), namespace, certificate, Write(manager="kube-controller-manager"))

    def _collect(self, value: JsonObject) -> None:
        """Deletes what the removed object alone owned."""
        uid = text(metadata(value).get("uid"))
        for resource, key in sorted(self._owned.pop(uid, set()), key=lambda one: (one[0].plural, one[1])):
            item = self._registry.storage.get(resource, key)
            if item is None or uid not in _owners(item.value):
                continue
            others = [owner for owner in _owners(item.value) if owner != uid and self._exists(owner)]
            if others:
                self._registry.update(resource, key, lambda old: _disown(old, uid), Write(manager="gc", guarded=False))
            else:
                self._registry.delete(resource, key, DeleteOptions(), Write())

    def _exists(self, uid: str) -> bool:
        return any(
            metadata(item.value).get("uid") == uid
            for resource in _STORED
            for item in self._registry.storage.items(resource)
        )

    def _finish_namespace(self, namespace: str) -> None:
        """Removes a terminating namespace once nothing is left in it."""
        item = self._registry.storage.get(NAMESPACES, ("", namespace)) if namespace else None
        if item is None or not metadata(item.value).get("deletionTimestamp"):
            return
        if not any(self._registry.storage.items(one, namespace) for one in _STORED if one.namespaced):
            self._registry.update(NAMESPACES, ("", namespace), _without_spec_finalizers, Write(subresource="finalize"))

    def _empty(self, namespace: str) -> None:
        """Deletes everything in a namespace that was marked for deletion."""
        for resource in _STORED:
            if not resource.namespaced:
                continue
            for item in self._registry.storage.items(resource, namespace):
                try:
                    self._registry.delete(resource, key_of(item), DeleteOptions(grace=0), Write())
                except ApiError as error:
                    if error.code != 404:
                        raise
        self._finish_namespace(namespace)

    def _orphan(self, value: JsonObject) -> None:
        """Takes the owner's reference from all it owns, so that they stay."""
        uid = text(metadata(value).get("uid"))
        for resource, key in self._owned.pop(uid, set()):
            if self._registry.storage.get(resource, key) is not None:
                self._registry.update(resource, key, lambda old: _disown(old, uid), Write(manager="gc", guarded=False))


def _owners(value: JsonObject) -> list[str]:
    return [text(obj(owner).get("uid")) for owner in items(metadata(value).get("ownerReferences"))]


def _disown(value: JsonObject, uid: str) -> JsonObject:
    kept: list[Json] = [one for one in items(metadata(value).get("ownerReferences")) if obj(one).get("uid") != uid]
    metadata(value)["ownerReferences"] = kept
    return value


def _without_spec_finalizers(value: JsonObject) -> JsonObject:
    return {**value, "spec": {"finalizers": []}}
