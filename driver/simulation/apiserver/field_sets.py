"""Sets of fields: which paths a value has, how two values differ, and their FieldsV1 form in managedFields.

A path is a tuple of elements as FieldsV1 writes them: `f:spec`, `k:{"name":"a"}`, `v:"x"`. Semantics are those of
structured-merge-diff v6 (toset, compare, merge, remove), on the schemas of this package. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from driver.simulation.apiserver.schemas import Field, ListOf, MapOf, Scalar, Struct, Type
from driver.simulation.apiserver.values import Json, JsonObject

Path = tuple[str, ...]
FieldSet = frozenset[Path]

EMPTY: Final[FieldSet] = frozenset()
_FREE: Final = Field("", Scalar("any"))


@dataclass
class Comparison:
    """Paths that differ between two values."""

    added: set[Path] = field(default_factory=set)
    removed: set[Path] = field(default_factory=set)
    modified: set[Path] = field(default_factory=set)


@dataclass(frozen=True)
class _Shape:
    """How a value is looked at: its type and whether it is one whole."""

    type: Type
    field: Field

    @property
    def atomic(self) -> bool:
        of = self.type
        if isinstance(of, Scalar):
            return True
        if isinstance(of, ListOf):
            return not self.field.keys and not self.field.is_set
        return self.field.atomic or (isinstance(of, Struct) and of.atomic)


_LEAF: Final = _Shape(Scalar("any"), _FREE)


def _root(struct: Struct) -> _Shape:
    return _Shape(struct, _FREE)


def _children(shape: _Shape, value: Json) -> Iterator[tuple[str, _Shape, Json, bool]]:
    """Element, shape, value and whether the element is a declared field, of every child."""
    of = shape.type
    if isinstance(of, Struct) and isinstance(value, dict):
        for name, item in value.items():
            known = of.fields.get(name)
            if known is not None:
                yield f"f:{name}", _Shape(known.type, known), item, True
    elif isinstance(of, MapOf) and isinstance(value, dict):
        for name, item in value.items():
            yield f"f:{name}", _Shape(of.value, _FREE), item, False
    elif isinstance(of, ListOf) and isinstance(value, list):
        for item in value:
            yield _list_element(shape.field, item), _Shape(of.item, _FREE), item, False


def _list_element(of: Field, item: Json) -> str:
    if of.keys and isinstance(item, dict):
        keys: JsonObject = {key: item[key] for key in sorted(of.keys) if item.get(key) is not None}
        if "protocol" in of.keys:
            keys.setdefault("protocol", "TCP")
        return "k:" + json.dumps(dict(sorted(keys.items())), separators=(",", ":"), ensure_ascii=False)
    return "v:" + json.dumps(item, separators=(",", ":"), ensure_ascii=False)


def _is_empty(value: Json) -> bool:
    return value is None or (isinstance(value, (dict, list)) and not value)


def fields_of(struct: Struct, value: JsonObject) -> FieldSet:
    """The paths that applying `value` owns."""
    found: set[Path] = set()
    _collect(_root(struct), value, (), found)
    return frozenset(found)


def _collect(shape: _Shape, value: Json, path: Path, found: set[Path]) -> None:
    if shape.atomic:
        found.add(path)
        return
    for element, child, item, declared in _children(shape, value):
        below = (*path, element)
        _collect(child, item, below, found)
        if not declared or item is None or item == {}:
            found.add(below)


def compare(struct: Struct, old: JsonObject, new: JsonObject) -> Comparison:
    """How `new` differs from `old`."""
    found = Comparison()
    _compare(_root(struct), old, new, (), found)
    return found


class _Missing:
    """Marks a value that is not there at all (null is a value)."""


_MISSING: Final = _Missing()


def _compare(shape: _Shape, old: Json | _Missing, new: Json | _Missing, path: Path, found: Comparison) -> None:
    left = None if isinstance(old, _Missing) else old
    right = None if isinstance(new, _Missing) else new
    if shape.atomic or (_is_empty(left) and _is_empty(right)):
        if isinstance(old, _Missing):
            found.added.add(path)
        elif isinstance(new, _Missing):
            found.removed.add(path)
        elif left != right:
            found.modified.add(path)
        return
    before = {element: (child, item) for element, child, item, _ in _children(shape, left)}
    after = {element: (child, item) for element, child, item, _ in _children(shape, right)}
    for element, (child, item) in before.items():
        other = after.get(element)
        _compare(child, item, other[1] if other else _MISSING, (*path, element), found)
    for element, (child, item) in after.items():
        if element not in before:
            _compare(child, _MISSING, item, (*path, element), found)
    if isinstance(old, _Missing):
        found.added.add(path)
    elif isinstance(new, _Missing):
        found.removed.add(path)


def merged(struct: Struct, live: JsonObject, config: JsonObject) -> JsonObject:
    """`live` with everything `config` says laid over it."""
    value = _merge(_root(struct), live, config)
    return value if isinstance(value, dict) else {}


def _merge(shape: _Shape, live: Json, config: Json) -> Json:
    if shape.atomic or live is None or config is None:
        return config
    if isinstance(live, dict) and isinstance(config, dict):
        return _merge_dict(shape, live, config)
    if isinstance(live, list) and isinstance(config, list):
        return _merge_list(shape, live, config)
    return config


def _merge_dict(shape: _Shape, live: JsonObject, config: JsonObject) -> JsonObject:
    out: JsonObject = dict(live)
    of = shape.type
    for name, item in config.items():
        if isinstance(of, Struct):
            known = of.fields.get(name)
            below = _Shape(known.type, known) if known else _LEAF
        else:
            below = _Shape(of.value if isinstance(of, MapOf) else Scalar("any"), _FREE)
        out[name] = _merge(below, live[name], item) if name in live else item
    return out


def _merge_list(shape: _Shape, live: list[Json], config: list[Json]) -> list[Json]:
    """Items of both: those of `config` in its order, the others where they were before their neighbours."""
    child = _Shape(shape.type.item if isinstance(shape.type, ListOf) else Scalar("any"), _FREE)
    existing = {_list_element(shape.field, item): item for item in live}
    wanted = {_list_element(shape.field, item): item for item in config}
    left, right = list(existing), list(wanted)
    out: list[Json] = []
    while left or right:
        if left and left[0] not in wanted:
            out.append(existing[left.pop(0)])
        elif not right:
            left.pop(0)
        else:
            element = right.pop(0)
            if left and left[0] == element:
                left.pop(0)
            item = wanted[element]
            out.append(_merge(child, existing[element], item) if element in existing else item)
            while left and left[0] in wanted and left[0] not in right:
                left.pop(0)
    return out


def without(struct: Struct, value: JsonObject, paths: Iterable[Path]) -> JsonObject:
    """`value` with the given paths removed."""
    tree: _Tree = {}
    for path in paths:
        node = tree
        for element in path:
            node = node.setdefault(element, {})
        node[_HERE] = {}
    pruned = _remove(_root(struct), value, tree)
    return pruned if isinstance(pruned, dict) else {}


_Tree: TypeAlias = "dict[str, _Tree]"
_HERE: Final = ""
"""Marks the end of a path in a tree."""


def _remove(shape: _Shape, value: Json, tree: _Tree) -> Json:
    if isinstance(value, dict):
        out: JsonObject = {}
        shapes = {element: child for element, child, _, _ in _children(shape, value)}
        for name, item in value.items():
            node = tree.get(f"f:{name}")
            if node is None:
                out[name] = item
            elif _HERE not in node:
                out[name] = _remove(shapes.get(f"f:{name}", _LEAF), item, node)
        return out
    if isinstance(value, list) and isinstance(shape.type, ListOf):
        kept: list[Json] = []
        for item in value:
            node = tree.get(_list_element(shape.field, item))
            if node is None:
                kept.append(item)
            elif _HERE not in node:
                kept.append(_remove(_Shape(shape.type.item, _FREE), item, node))
        return kept
    return value


def to_fields_v1(fields: FieldSet) -> JsonObject:
    """The tree form that managedFields shows."""
    tree: JsonObject = {}
    for path in sorted(fields):
        node = tree
        for element in path:
            below = node.setdefault(element, {})
            node = below if isinstance(below, dict) else {}
        node["."] = {}
    return _without_dots(tree)


def _without_dots(tree: JsonObject) -> JsonObject:
    out: JsonObject = {}
    for element in sorted(tree):
        below = tree[element]
        if isinstance(below, dict):
            out[element] = {} if set(below) == {"."} else _without_dots(below)
    return out


def from_fields_v1(tree: Json) -> FieldSet:
    """The set a managedFields entry describes."""
    found: set[Path] = set()
    _read_tree(tree, (), found)
    return frozenset(found)


def _read_tree(tree: Json, path: Path, found: set[Path]) -> None:
    if not isinstance(tree, dict):
        return
    if not tree and path:
        found.add(path)
    for element, below in tree.items():
        if element == ".":
            found.add(path)
        else:
            _read_tree(below, (*path, element), found)


def show_path(path: Path) -> str:
    """A path as conflicts name it: `.status.devices[device="gpu-0"].data`."""
    return "".join(_show_element(element) for element in path)


def _show_element(element: str) -> str:
    kind, _, rest = element.partition(":")
    if kind == "f":
        return f".{rest}"
    if kind == "v":
        return f"[={rest}]"
    keys = json.loads(rest)
    return "[" + ",".join(f"{key}={json.dumps(keys[key], ensure_ascii=False)}" for key in sorted(keys)) + "]"


def in_set_order(fields: Iterable[Path]) -> list[Path]:
    """Paths as upstream's sets iterate: members of a node first, then what lies below, both sorted."""
    paths = sorted(fields)
    return sorted(paths, key=lambda path: [(index < len(path) - 1, part) for index, part in enumerate(path)])
