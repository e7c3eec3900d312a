"""metadata: what the API server checks about it for every kind (apimachinery validation/objectmeta.go, v1.36).

Called by the registry, on create and on update. On update upstream runs these checks twice (generic store and the
kind's own validation), so every cause shows up twice; the message joins equal texts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from driver.simulation.apiserver.checking import (
    Faults,
    Literal,
    check_rules,
    forbidden,
    invalid,
    label_value_rules,
    qualified_name_rules,
    required,
    too_long,
)
from driver.simulation.apiserver.values import Json, JsonObject, encode, items, metadata, obj, text

MAX_ANNOTATIONS: Final = 256 * 1024
_IMMUTABLE: Final = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


def check_new(value: JsonObject, name_rules: Callable[[str], list[str]]) -> Faults:
    """Faults of the metadata of an object that is created."""
    meta = metadata(value)
    return check_names(meta, name_rules) + _check_maps(meta)


def check_names(meta: JsonObject, name_rules: Callable[[str], list[str]]) -> Faults:
    """Faults of the name, and of the base of a generated one: what it would be with a letter for its last dash."""
    base, name = text(meta.get("generateName")), text(meta.get("name"))
    dashed = len(base) > 1 and base.endswith("-")
    found = name_rules(f"{base[:-2]}a" if dashed else base) if base else []
    faults: Faults = [invalid("metadata.generateName", base, why) for why in found]
    if not name:
        return [*faults, required("metadata.name", "name or generateName is required")]
    return faults + check_rules("metadata.name", name, name_rules)


def check_changed(new: JsonObject, old: JsonObject) -> Faults:
    """Faults of the metadata of an object that is updated."""
    meta, was = metadata(new), metadata(old)
    faults: Faults = [
        invalid(f"metadata.{name}", meta.get(name), "field is immutable")
        for name in _IMMUTABLE
        if meta.get(name) != was.get(name)
    ]
    if was.get("deletionTimestamp"):
        added = [one for one in items(meta.get("finalizers")) if one not in items(was.get("finalizers"))]
        if added:
            listed = ", ".join(f'"{text(one)}"' for one in added)
            why = (
                "no new finalizers can be added if the object is being deleted, found new finalizers "
                f"[]string{{{listed}}}"
            )
            faults.append(forbidden("metadata.finalizers", why))
    faults += _check_maps(meta)
    return faults + faults


def _check_maps(meta: JsonObject) -> Faults:
    faults: Faults = []
    for key, value in sorted(obj(meta.get("labels")).items()):
        faults += check_rules("metadata.labels", key, qualified_name_rules)
        faults += check_rules("metadata.labels", value, label_value_rules)
    annotations = obj(meta.get("annotations"))
    for key in sorted(annotations):
        faults += [invalid("metadata.annotations", key, why) for why in qualified_name_rules(key.lower())]
    size = sum(len(key.encode()) + len(text(value).encode()) for key, value in annotations.items())
    if size > MAX_ANNOTATIONS:
        faults.append(too_long("metadata.annotations", MAX_ANNOTATIONS))
    for finalizer in items(meta.get("finalizers")):
        faults += check_rules("metadata.finalizers", finalizer, qualified_name_rules)
    return faults + _check_owners(items(meta.get("ownerReferences")))


def _check_owners(owners: list[Json]) -> Faults:
    faults: Faults = []
    path = "metadata.ownerReferences"
    controller: JsonObject | None = None
    for entry in owners:
        owner = obj(entry)
        if not text(owner.get("apiVersion")):
            faults.append(invalid(f"{path}.apiVersion", "", "version must not be empty"))
        faults += [
            invalid(f"{path}.{name}", "", "must not be empty")
            for name in ("kind", "name", "uid")
            if not owner.get(name)
        ]
        if owner.get("controller") is True:
            if controller is not None:
                first, second = (f"{text(one.get('kind'))}/{text(one.get('name'))}" for one in (controller, owner))
                why = (
                    'Only one reference can have Controller set to true. Found "true" in references for '
                    f"{first} and {second}"
                )
                faults.append(invalid(path, Literal(encode(owners).decode()), why))
            else:
                controller = owner
    return faults
