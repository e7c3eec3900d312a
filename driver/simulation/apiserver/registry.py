"""Create, update and delete as the real server does them: stamping, preconditions, finalizers, no-op writes.

Called by the HTTP verbs and by tests through `ApiServer.store`. Order of checks follows upstream's generic registry
store, because clients see it in which error wins. Everything here runs under the storage's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from driver.simulation.apiserver.kinds import Resource, by_name
from driver.simulation.apiserver.requests import User
from driver.simulation.apiserver.sources import Sources
from driver.simulation.apiserver.statuses import (
    Cause,
    already_exists,
    bad_request,
    conflict,
    internal,
    invalid,
    not_found,
)
from driver.simulation.apiserver.storage import Item, Key, Storage
from driver.simulation.apiserver.strategies import Strategy, strategy_of
from driver.simulation.apiserver.values import Json, JsonObject, copy_object, items, metadata, text

ADMIN = User("system:admin", groups=("system:masters", "system:authenticated"))


@dataclass
class Write:
    """Who writes, and how: the options all writes share. `warnings` go out as Warning headers."""

    user: User = ADMIN
    manager: str = ""
    dry_run: bool = False
    subresource: str = ""
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class DeleteOptions:
    """metav1.DeleteOptions as far as it is honoured."""

    uid: str = ""
    resource_version: str = ""
    grace: int | None = None
    propagation: str = "Background"


class Registry:
    """The write side of every stored resource."""

    def __init__(self, storage: Storage, sources: Sources) -> None:
        self.storage = storage
        self.sources = sources
        self._strategies: dict[Resource, Strategy] = {}

    def strategy(self, resource: Resource) -> Strategy:
        """The resource's strategy, made once."""
        if resource not in self._strategies:
            self._strategies[resource] = strategy_of(resource)
        return self._strategies[resource]

    def read(self, resource: Resource, key: Key) -> Item:
        """The stored state; raises the 404 of the resource."""
        item = self.storage.get(resource, key)
        if item is None:
            raise not_found(resource.group, resource.plural, key[1])
        return item

    def create(self, resource: Resource, namespace: str, value: JsonObject, write: Write) -> Item:
        """Stores a new object; `value` is the caller's own decoded object and gets changed."""
        with self.storage.lock:
            self._check_namespace(resource, namespace, value)
            strategy = self.strategy(resource)
            strategy.prepare_create(value)
            meta = self._stamp_new(value)
            key = (namespace, text(meta.get("name")))
            faults = strategy.validate(value, None, "")
            if not key[1]:
                faults.insert(
                    0, Cause("FieldValueRequired", "Required value: name or generateName is required", "metadata.name")
                )
            if faults:
                raise invalid(resource.group, resource.kind, key[1], faults)
            if meta.pop("resourceVersion", ""):
                raise internal("resourceVersion should not be set on objects to be created")
            if self.storage.get(resource, key) is not None:
                raise already_exists(resource.group, resource.plural, key[1])
            return Item(value, 0) if write.dry_run else self.storage.put(resource, key, value)

    def _check_namespace(self, resource: Resource, namespace: str, value: JsonObject) -> None:
        meta = value.setdefault("metadata", {})
        if not isinstance(meta, dict):
            raise bad_request("metadata must be an object")
        if not resource.namespaced:
            meta.pop("namespace", None)
            return
        if meta.setdefault("namespace", namespace) != namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        if self.storage.get(NAMESPACES, ("", namespace)) is None:
            raise not_found("", "namespaces", namespace)

    def _stamp_new(self, value: JsonObject) -> JsonObject:
        meta = metadata(value)
        meta["creationTimestamp"] = self.sources.timestamp()
        meta["uid"] = self.sources.new_uid()
        for dropped in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
            meta.pop(dropped, None)
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = self.sources.generate(text(meta["generateName"]))
        return meta

    def update(
        self, resource: Resource, key: Key, change: Callable[[JsonObject], JsonObject], write: Write, uid: str = ""
    ) -> Item:
        """Writes what `change` makes of a copy of the stored object; nothing changed means nothing written.

        `uid` is the precondition a PUT carries in its metadata. Removes the object when its last finalizer goes.
        """
        with self.storage.lock:
            stored = self.read(resource, key)
            self._check_uid(resource, key, stored, uid)
            new = change(copy_object(stored.value))
            self._check_version(resource, key, stored, new)
            self._prepare_update(resource, new, stored.value, write)
            faults = self.strategy(resource).validate(new, stored.value, write.subresource)
            if faults:
                raise invalid(resource.group, resource.kind, key[1], faults)
            if new == stored.value:
                return stored
            if write.dry_run:
                return Item(new, stored.rv)
            if metadata(new).get("deletionTimestamp") and not finalizers(new) and not _grace(new):
                self._remove(resource, key, new)
                return Item(new, stored.rv)
            return self.storage.put(resource, key, new)

    @staticmethod
    def _check_uid(resource: Resource, key: Key, stored: Item, uid: str) -> None:
        current = text(metadata(stored.value).get("uid"))
        if uid and uid != current:
            path = f"{key[0]}/{key[1]}" if resource.namespaced else key[1]
            why = (
                f"StorageError: invalid object, Code: 4, Key: /registry/{resource.plural}/{path}, ResourceVersion: 0, "
                f"AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {current}"
            )
            raise conflict(resource.group, resource.plural, key[1], why)

    @staticmethod
    def _check_version(resource: Resource, key: Key, stored: Item, new: JsonObject) -> None:
        meta = metadata(new)
        wanted = text(meta.get("resourceVersion"))
        if wanted not in {"", "0", str(stored.rv)}:
            raise conflict(resource.group, resource.plural, key[1])
        if not wanted and resource.conditional:
            fault = Cause(
                "FieldValueInvalid", "Invalid value: 0: must be specified for an update", "metadata.resourceVersion"
            )
            raise invalid(resource.group, resource.kind, key[1], [fault])
        meta["resourceVersion"] = str(stored.rv)

    def _prepare_update(self, resource: Resource, new: JsonObject, old: JsonObject, write: Write) -> None:
        meta, was = metadata(new), metadata(old)
        for name in ("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"):
            if name in was:
                meta[name] = was[name]
            else:
                meta.pop(name, None)
        meta.setdefault("uid", was.get("uid"))
        for name in ("name", "namespace", "generateName"):
            if name in was:
                meta.setdefault(name, was[name])
        if write.subresource == "status":
            self.strategy(resource).prepare_status(new, old)
        else:
            self.strategy(resource).prepare_update(new, old)

    def delete(self, resource: Resource, key: Key, options: DeleteOptions, write: Write) -> tuple[JsonObject, bool]:
        """Deletes or marks; answers the object's last state and whether it is gone."""
        with self.storage.lock:
            stored = self.read(resource, key)
            self._check_preconditions(resource, key, stored, options)
            meta = metadata(stored.value)
            grace = self.strategy(resource).grace_period(stored.value, options.grace)
            if not finalizers(stored.value) and not grace:
                if write.dry_run:
                    return stored.value, True
                return self._remove(resource, key, stored.value).value, True
            if meta.get("deletionTimestamp"):
                return stored.value, False
            marked = copy_object(stored.value)
            self._mark(resource, marked, grace)
            if write.dry_run:
                return marked, False
            return self.storage.put(resource, key, marked).value, False

    def _mark(self, resource: Resource, value: JsonObject, grace: int) -> None:
        meta = metadata(value)
        meta["deletionTimestamp"] = self.sources.timestamp()
        meta["deletionGracePeriodSeconds"] = grace
        generation = meta.get("generation")
        if resource.generation and isinstance(generation, int):
            meta["generation"] = generation + 1

    @staticmethod
    def _check_preconditions(resource: Resource, key: Key, stored: Item, options: DeleteOptions) -> None:
        uid = text(metadata(stored.value).get("uid"))
        if options.uid and options.uid != uid:
            why = (
                f"the UID in the precondition ({options.uid}) does not match the UID in record ({uid}). "
                "The object might have been deleted and then recreated"
            )
            raise conflict(resource.group, resource.kind, key[1], why)
        if options.resource_version and options.resource_version != str(stored.rv):
            why = (
                f"the ResourceVersion in the precondition ({options.resource_version}) does not match the "
                f"ResourceVersion in record ({stored.rv}). The object might have been modified"
            )
            raise conflict(resource.group, resource.kind, key[1], why)

    def _remove(self, resource: Resource, key: Key, last: JsonObject) -> Item:
        return self.storage.remove(resource, key, last)


def finalizers(value: JsonObject) -> list[Json]:
    """metadata.finalizers."""
    return items(metadata(value).get("finalizers"))


def _grace(value: JsonObject) -> Json:
    return metadata(value).get("deletionGracePeriodSeconds")


NAMESPACES = by_name("namespaces")
