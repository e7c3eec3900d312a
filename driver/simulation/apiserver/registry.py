"""Create, update and delete as the real server does them: stamping, rules, admission, finalizers, no-op writes.

Called by the HTTP verbs and by tests through `ApiServer.store`. Order of checks follows upstream's generic registry
store, because clients see it in which error wins. Everything here runs under the storage's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from driver.simulation.apiserver.deleting import DeleteOptions, Deleter
from driver.simulation.apiserver.kinds import Resource, by_name
from driver.simulation.apiserver.managing import Manager, track_update
from driver.simulation.apiserver.requests import User
from driver.simulation.apiserver.schemas import struct_of
from driver.simulation.apiserver.statuses import (
    Cause,
    already_exists,
    bad_request,
    conflict,
    failure,
    internal,
    invalid,
    not_found,
    object_details,
)
from driver.simulation.apiserver.storage import Item, Key, Storage
from driver.simulation.apiserver.strategies import Strategy, World, strategy_of
from driver.simulation.apiserver.strategies.metadata import check_changed, check_new
from driver.simulation.apiserver.tidying import tidy
from driver.simulation.apiserver.values import Json, JsonObject, copy_object, items, metadata, obj, text

ADMIN: Final = User("system:admin", groups=("system:masters", "system:authenticated"))
NAMESPACES: Final = by_name("namespaces")


@dataclass
class Write:
    """Who writes, and how: the options all writes share. `warnings` go out as Warning headers."""

    user: User = ADMIN
    manager: str = "unknown"
    api_version: str = ""
    """apiVersion of the request, as managedFields name it; empty for the resource's own."""
    dry_run: bool = False
    subresource: str = ""
    verb: str = "update"
    applied: bool = False
    """The object already carries its managedFields (server-side apply)."""
    guarded: bool = True
    """Whether an update needs a resourceVersion where the kind demands one (patches do not)."""
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Attempt:
    """A write that is about to happen, as admission sees it. `new` is None for a deletion, `old` for a creation."""

    operation: str
    resource: Resource
    key: Key
    new: JsonObject | None
    old: JsonObject | None
    write: Write


Admit = Callable[[Attempt], None]
"""Raises ApiError to refuse; may add to `attempt.write.warnings`."""
Guard = Callable[[Resource, JsonObject, JsonObject, "Write", str], "list[Cause]"]
"""Faults of an update for reasons of authorization: resource, new, old, write, verb."""
Observer = Callable[[str, Resource, Key, JsonObject], None]
"""Told after an object was `created`, `marked` for deletion or `removed`."""


class Registry:
    """The write side of every stored resource."""

    def __init__(self, storage: Storage, world: World) -> None:
        self.storage = storage
        self.world = world
        self.admission: list[Admit] = []
        self.observers: list[Observer] = []
        self.guards: list[Guard] = []
        self._strategies: dict[Resource, Strategy] = {}

    def strategy(self, resource: Resource) -> Strategy:
        """The resource's strategy, made once."""
        if resource not in self._strategies:
            self._strategies[resource] = strategy_of(resource, self.world)
        return self._strategies[resource]

    def read(self, resource: Resource, key: Key) -> Item:
        """The stored state; raises the 404 of the resource."""
        item = self.storage.get(resource.stored, key)
        if item is None:
            raise not_found(resource.stored.group, resource.plural, key[1])
        return item

    def admit(self, attempt: Attempt) -> None:
        """Asks everyone who may refuse a write."""
        for admit in self.admission:
            admit(attempt)

    def create(self, resource: Resource, namespace: str, value: JsonObject, write: Write) -> Item:
        """Stores a new object; `value` is the caller's own decoded object and gets changed."""
        stored, strategy = resource.stored, self.strategy(resource)
        with self.storage.lock:
            self._check_namespace(resource, namespace, value)
            strategy.default(value)
            strategy.prepare_create(value)
            meta = self._stamp_new(resource, value)
            key = (namespace if resource.namespaced else "", text(meta.get("name")))
            self._refuse(stored, key, [*check_new(value, strategy.validate_name), *strategy.validate(value, None, "")])
            write.warnings += strategy.warnings(value, None)
            new = tidy(struct_of(stored.group, stored.kind), value)
            if not write.applied:
                self._track(stored, self._blank(stored), new, write)
            self.admit(Attempt("CREATE", resource, key, new, None, write))
            if meta.get("resourceVersion"):
                raise internal("resourceVersion should not be set on objects to be created")
            if self.storage.get(stored, key) is not None:
                raise already_exists(stored.group, stored.plural, key[1])
            if write.dry_run:
                return Item(new, 0, self.storage.renderer(stored))
            item = self.storage.put(stored, key, new)
            self._tell("created", stored, key, item.value)
            return item

    def _tell(self, event: str, resource: Resource, key: Key, value: JsonObject) -> None:
        for observer in self.observers:
            observer(event, resource, key, value)

    @staticmethod
    def _refuse(resource: Resource, key: Key, faults: list[Cause]) -> None:
        if faults:
            raise invalid(resource.group, resource.kind, key[1], faults)

    def _check_namespace(self, resource: Resource, namespace: str, value: JsonObject) -> None:
        meta = metadata(value)
        if not resource.namespaced:
            meta.pop("namespace", None)
            return
        if (meta.get("namespace") or namespace) != namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        meta["namespace"] = namespace
        found = self.storage.get(NAMESPACES, ("", namespace))
        if found is None:
            raise not_found("", "namespaces", namespace)
        if metadata(found.value).get("deletionTimestamp"):
            name = text(meta.get("name"))
            cause = Cause("NamespaceTerminating", f"namespace {namespace} is being terminated", "metadata.namespace")
            qualified = f"{resource.plural}.{resource.group}" if resource.group else resource.plural
            message = (
                f'{qualified} "{name}" is forbidden: unable to create new content in namespace {namespace} because it '
                "is being terminated"
            )
            raise failure(403, "Forbidden", message, object_details(resource.group, resource.plural, name, [cause]))

    def _stamp_new(self, resource: Resource, value: JsonObject) -> JsonObject:
        meta = metadata(value)
        meta["creationTimestamp"] = self.world.sources.timestamp()
        meta["uid"] = self.world.sources.new_uid()
        for dropped in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"):
            meta.pop(dropped, None)
        if resource.generation:
            meta["generation"] = 1
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = self.world.sources.generate(text(meta["generateName"]))
        return meta

    @staticmethod
    def _blank(resource: Resource) -> JsonObject:
        return tidy(struct_of(resource.group, resource.kind), {})

    def _track(self, resource: Resource, old: JsonObject, new: JsonObject, write: Write) -> None:
        manager = Manager(write.manager, "Update", write.api_version or resource.group_version, write.subresource)
        track_update(struct_of(resource.group, resource.kind), old, new, manager, self.world.sources.timestamp())

    def update(
        self, resource: Resource, key: Key, change: Callable[[JsonObject], JsonObject], write: Write, uid: str = ""
    ) -> Item:
        """Writes what `change` makes of a copy of the stored object; nothing changed means nothing written.

        `uid` is the precondition a PUT carries in its metadata. Removes the object when its last finalizer goes.
        """
        stored = resource.stored
        with self.storage.lock:
            current = self.read(resource, key)
            self._check_uid(stored, key, current, uid)
            value = change(copy_object(current.value))
            self._check_version(stored, key, current, value, write)
            new = self._prepare_update(resource, key, value, current.value, write)
            if _same(new, current.value):
                return current
            self.admit(Attempt("UPDATE", resource, key, new, current.value, write))
            if metadata(new).get("deletionTimestamp") and not self._deleter(stored, resource).stays(new):
                if not write.dry_run:
                    self._remove(stored, key, new)
                return Item(new, current.rv, self.storage.renderer(stored))
            if write.dry_run:
                return Item(new, current.rv, self.storage.renderer(stored))
            return self.storage.put(stored, key, new)

    @staticmethod
    def _check_uid(resource: Resource, key: Key, stored: Item, uid: str) -> None:
        current = text(metadata(stored.value).get("uid"))
        if uid and uid != current:
            raise conflict(resource.group, resource.plural, key[1], uid_mismatch(resource, key, uid, current))

    @staticmethod
    def _check_version(resource: Resource, key: Key, stored: Item, new: JsonObject, write: Write) -> None:
        meta = metadata(new)
        wanted = text(meta.get("resourceVersion"))
        if wanted not in {"", "0", str(stored.rv)}:
            raise conflict(resource.group, resource.plural, key[1])
        if not wanted and resource.conditional and write.guarded:
            why = "Invalid value: 0: must be specified for an update"
            fault = Cause("FieldValueInvalid", why, "metadata.resourceVersion")
            raise invalid(resource.group, resource.plural, key[1], [fault])
        meta["resourceVersion"] = str(stored.rv)

    def _prepare_update(
        self, resource: Resource, key: Key, value: JsonObject, old: JsonObject, write: Write
    ) -> JsonObject:
        stored, strategy = resource.stored, self.strategy(resource)
        _restore_metadata(value, old)
        strategy.default(value)
        if write.subresource == "status":
            strategy.prepare_status(value, old)
        elif write.subresource:
            strategy.prepare_other(value, old)
        else:
            strategy.prepare_update(value, old)
        faults = check_changed(value, old)
        for guard in self.guards:
            faults += guard(stored, value, old, write, write.verb)
        faults += strategy.validate(value, old, write.subresource)
        self._refuse(stored, key, faults)
        write.warnings += strategy.warnings(value, old)
        new = tidy(struct_of(stored.group, stored.kind), value)
        if stored.generation and write.subresource != "binding" and _spec(new) != _spec(old):
            generation = metadata(old).get("generation")
            metadata(new)["generation"] = (generation if isinstance(generation, int) else 0) + 1
        if not write.applied:
            self._track(stored, old, new, write)
        return new

    def delete(self, resource: Resource, key: Key, options: DeleteOptions, write: Write) -> tuple[JsonObject, bool]:
        """Deletes or marks; answers the object's last state and whether it is gone."""
        stored = resource.stored
        with self.storage.lock:
            current = self.read(resource, key)
            deleter = self._deleter(stored, resource)
            deleter.check(key, current, options)
            self.admit(Attempt("DELETE", resource, key, None, current.value, write))
            marked = deleter.mark(current.value, options)
            if not deleter.stays(marked):
                if write.dry_run:
                    return marked, True
                return self._remove(stored, key, marked).value, True
            if marked == current.value or write.dry_run:
                return marked, False
            item = self.storage.put(stored, key, marked)
            self._tell("marked", stored, key, item.value)
            return item.value, False

    def _deleter(self, stored: Resource, resource: Resource) -> Deleter:
        return Deleter(stored, self.strategy(resource), self.world.sources)

    def _remove(self, resource: Resource, key: Key, last: JsonObject) -> Item:
        item = self.storage.remove(resource, key, last)
        self._tell("removed", resource, key, item.value)
        return item


def uid_mismatch(resource: Resource, key: Key, wanted: str, current: str) -> str:
    """What the storage says about a failed uid precondition."""
    path = f"{key[0]}/{key[1]}" if resource.namespaced else key[1]
    return (
        f"StorageError: invalid object, Code: 4, Key: /registry/{resource.plural}/{path}, ResourceVersion: 0, "
        f"AdditionalErrorMsg: Precondition failed: UID in precondition: {wanted}, UID in object meta: {current}"
    )


def _restore_metadata(new: JsonObject, old: JsonObject) -> None:
    """Fields that an update cannot touch keep their value; identity that is left out is filled in."""
    meta, was = metadata(new), metadata(old)
    for name in ("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink"):
        if name in was:
            meta[name] = was[name]
        else:
            meta.pop(name, None)
    for name in ("name", "namespace", "generateName", "uid"):
        if name in was and not meta.get(name):
            meta[name] = was[name]


def _spec(value: JsonObject) -> JsonObject:
    """What the generation counts changes of."""
    return {key: item for key, item in value.items() if key not in {"metadata", "status", "kind", "apiVersion"}}


def _same(new: JsonObject, old: JsonObject) -> bool:
    """Whether nothing changed; times of managedFields alone are no change."""
    return new == old or _without_times(new) == _without_times(old)


def _without_times(value: JsonObject) -> JsonObject:
    meta = metadata(value)
    entries: list[Json] = [
        {key: item for key, item in obj(entry).items() if key != "time"} for entry in items(meta.get("managedFields"))
    ]
    return {**value, "metadata": {**meta, "managedFields": entries}}
