"""The shape of every kind: fields, types, how lists merge, what is left out when empty.

Read once from `schemas/*.txt`; used to decode, tidy, merge, apply and track the ownership of fields. One line a field:

    name TYPE[!|~] [map=k1,k2 | set | atomic] [merge[=key]] [retain] [go=Name]

TYPE is string, int32, int64, bool, time, microtime, quantity, bytes, intstr, raw (kept byte for byte), any (not looked
into), a struct's name, []TYPE or map[TYPE]; `*` before it means null is different from the zero value. `!`: also shown
when empty. `~`: a struct or time that is left out when empty. `map`, `set`, `atomic`: how server-side apply sees a
list or map. `merge`: strategic merge patch merges it. `retain`: that patch may carry $retainKeys. `go`: Go's name.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from typing import Final, TypeAlias

SCALARS: Final = frozenset(
    {"string", "int32", "int64", "bool", "time", "microtime", "quantity", "bytes", "intstr", "raw", "any"}
)


@dataclass(frozen=True)
class Scalar:
    """A value without fields of its own."""

    name: str


@dataclass(eq=False)
class Field:
    """One field of a struct."""

    name: str
    type: Type
    pointer: bool = False
    required: bool = False
    """Shown even when empty (no omitempty)."""
    omit_zero: bool = False
    keys: tuple[str, ...] = ()
    """Keys of a list that server-side apply sees as a map."""
    is_set: bool = False
    atomic: bool = False
    merge: str | None = None
    """Merge key of strategic merge patch; empty for a list of plain values, None if the list is replaced."""
    go: str = ""


@dataclass(eq=False)
class Struct:
    """An object with known fields, in the order in which they are shown."""

    name: str
    fields: dict[str, Field] = field(default_factory=dict)
    atomic: bool = False

    @property
    def go_name(self) -> str:
        """Its Go type, as error texts name it."""
        return self.name.rpartition(".")[2]

    @functools.cached_property
    def has_raw(self) -> bool:
        """Whether bytes somewhere below must be kept as they came."""
        return any(_has_raw(item.type) for item in self.fields.values())


@dataclass(eq=False)
class ListOf:
    """A list of one type."""

    item: Type


@dataclass(eq=False)
class MapOf:
    """An object with free keys and values of one type."""

    value: Type


Type: TypeAlias = "Scalar | Struct | ListOf | MapOf"


def _has_raw(of: Type) -> bool:
    if isinstance(of, Scalar):
        return of.name == "raw"
    if isinstance(of, Struct):
        return of.has_raw
    return _has_raw(of.item if isinstance(of, ListOf) else of.value)


def keeps_bytes(of: Type) -> bool:
    """Whether decoding must start from the bytes, not from a tree."""
    return _has_raw(of)


_scalars = {name: Scalar(name) for name in SCALARS}


def _lines() -> Iterator[str]:
    folder = resources.files(__package__) / "schemas"
    for file in sorted(folder.iterdir(), key=lambda path: path.name):
        if file.name.endswith(".txt"):
            yield from file.read_text(encoding="utf-8").splitlines()


def _load() -> dict[str, Struct]:
    structs: dict[str, Struct] = {}
    pending: list[tuple[Struct, str]] = []
    current: Struct | None = None
    for line in _lines():
        if not line or line.startswith("#"):
            continue
        if line.startswith(" "):
            if current is None:
                raise ValueError(f"schema line outside of a struct: {line}")
            pending.append((current, line))
        else:
            name, *flags = line.split()
            current = structs[name] = Struct(name, atomic="atomic" in flags)
    for struct, line in pending:
        read = _read_field(line, structs)
        struct.fields[read.name] = read
    return structs


def _read_field(line: str, structs: dict[str, Struct]) -> Field:
    name, shape, *flags = line.split()
    options = dict(flag.partition("=")[::2] for flag in flags)
    bare = shape.rstrip("!~")
    return Field(
        name,
        _read_type(bare.removeprefix("*"), structs),
        pointer=bare.startswith("*"),
        required=shape.endswith("!"),
        omit_zero=shape.endswith("~"),
        keys=tuple(options["map"].split(",")) if "map" in options else (),
        is_set="set" in options,
        atomic="atomic" in options,
        merge=options.get("merge"),
        go=options.get("go", name[0].upper() + name[1:]),
    )


def _read_type(shape: str, structs: dict[str, Struct]) -> Type:
    if shape.startswith("[]"):
        return ListOf(_read_type(shape[2:], structs))
    if shape.startswith("map["):
        return MapOf(_read_type(shape[4:-1], structs))
    return _scalars[shape] if shape in SCALARS else structs[shape]


STRUCTS: Final = _load()
"""Every struct by name; `events.Event` is the Event of events.k8s.io."""


def struct_of(group: str, kind: str) -> Struct:
    """The struct of a kind. KeyError if this server does not know it."""
    return STRUCTS["events.Event" if (group, kind) == ("events.k8s.io", "Event") else kind]
