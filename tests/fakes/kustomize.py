"""Renders our kustomizations without kubectl: the few features that deploy/ uses, and an error for every other.

Called by tests that need the manifests as `kubectl apply -k` would send them. tests/deploy compares it with
`kubectl kustomize` where that is installed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import yaml

Value = object
Object = dict[str, Value]

SUPPORTED: Final = frozenset({"apiVersion", "kind", "resources", "components", "patches", "labels", "images"})
MERGE_KEYS: Final = {"containers": "name", "env": "name", "volumes": "name", "volumeMounts": "mountPath"}
"""Lists whose items are merged by key (patchMergeKey in k8s.io/api/core/v1/types.go); other lists are replaced."""


class Unsupported(Exception):  # noqa: N818 - named like the error of the driver
    """A kustomization uses something that this renderer does not know."""


def render(folder: Path) -> list[Object]:
    """Return the objects of a kustomization, resources before what components add."""
    kustomization = _load(folder / "kustomization.yaml")[0]
    if unknown := set(kustomization) - SUPPORTED:
        raise Unsupported(f"{folder}: {sorted(unknown)}")
    return _build(folder, kustomization, [])


def identity(item: Mapping[str, Value]) -> tuple[str, str]:
    """Return kind and name of an object."""
    return str(item["kind"]), str(mapping(item["metadata"])["name"])


def mapping(value: Value) -> Object:
    """Return the value as a mapping, or fail."""
    assert isinstance(value, dict), value
    return value


def items(value: Value) -> list[Value]:
    """Return the value as a list (absent: empty), or fail."""
    assert value is None or isinstance(value, list), value
    return value or []


def _build(folder: Path, kustomization: Object, given: list[Object]) -> list[Object]:
    """Apply one kustomization or component to the objects given."""
    objects = list(given)
    for entry in items(kustomization.get("resources")):
        objects += _resource(folder / str(entry))
    for entry in items(kustomization.get("components")):
        component = _load(folder / str(entry) / "kustomization.yaml")[0]
        objects = _build(folder / str(entry), component, objects)
    for entry in items(kustomization.get("patches")):
        objects = _patched(objects, folder, mapping(entry))
    for entry in items(kustomization.get("labels")):
        objects = [_labelled(item, mapping(entry)) for item in objects]
    for entry in items(kustomization.get("images")):
        objects = [_with_image(item, mapping(entry)) for item in objects]
    return objects


def _resource(path: Path) -> list[Object]:
    return render(path) if path.is_dir() else _load(path)


def _load(path: Path) -> list[Object]:
    return [mapping(document) for document in yaml.safe_load_all(path.read_text()) if document]


def _patched(objects: list[Object], folder: Path, entry: Object) -> list[Object]:
    if set(entry) != {"path"}:
        raise Unsupported(f"{folder}: patch {entry}")
    for patch in _load(folder / str(entry["path"])):
        if identity(patch) not in [identity(item) for item in objects]:
            raise Unsupported(f"{folder}: nothing to patch with {identity(patch)}")
        objects = [mapping(merge(item, patch)) if identity(item) == identity(patch) else item for item in objects]
    return objects


def merge(value: Value, patch: Value, name: str = "") -> Value:
    """Return the strategic merge of a patch into a value; null removes, `$patch: delete` removes a list item."""
    if isinstance(value, dict) and isinstance(patch, dict):
        merged = {key: merge(value.get(key), patch[key], key) if key in patch else value[key] for key in value}
        merged |= {key: merge(None, added, key) for key, added in patch.items() if key not in value}
        return {key: kept for key, kept in merged.items() if kept is not None}
    if isinstance(patch, list) and name in MERGE_KEYS:
        return _merge_lists(items(value), patch, MERGE_KEYS[name])
    return copy.deepcopy(patch)


def _merge_lists(value: list[Value], patch: list[Value], key: str) -> list[Value]:
    merged = {str(mapping(item)[key]): item for item in value}
    for item in map(mapping, patch):
        name = str(item[key])
        if item.get("$patch") == "delete":
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), item)
    return list(merged.values())


def _labelled(item: Object, entry: Object) -> Object:
    if set(entry) != {"pairs", "includeSelectors", "includeTemplates"} or entry["includeSelectors"]:
        raise Unsupported(f"labels {entry}")
    labels: Object = {"metadata": {"labels": entry["pairs"]}}
    added: Object = labels | ({"spec": {"template": labels}} if "template" in mapping(item.get("spec", {})) else {})
    return mapping(merge(item, added))


def _with_image(item: Object, entry: Object) -> Object:
    def renamed(container: Object) -> None:
        if str(container["image"]).partition(":")[0] == entry["name"]:
            container["image"] = f"{entry['newName']}:{entry['newTag']}"

    return _each_container(copy.deepcopy(item), renamed)


def _each_container(item: Object, visit: Callable[[Object], None]) -> Object:
    template = mapping(item.get("spec", {})).get("template")
    for container in items(mapping(mapping(template)["spec"])["containers"]) if template else []:
        visit(mapping(container))
    return item
