"""What expressions compute with. Called by everything in this folder.

A value is one of: None, bool, int (CEL int), `Uint`, float, str, bytes, list or tuple, dict or another mapping,
`Quantity`, `Semver`, `Optional`, `TypeName`, and what else a caller puts into variables and only passes on.
Python's own equality is never used between values: True is 1 in Python and not in CEL; see `equal`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from driver.core.cel.errors import EvaluationError, no_such_overload
from driver.core.cel.semvers import Semver
from driver.model.quantities import Quantity

Value: TypeAlias = object
"""See the module's docstring; narrowed with `kind_of`."""

MIN_INT: Final = -(2**63)
MAX_INT: Final = 2**63 - 1
MAX_UINT: Final = 2**64 - 1


class Uint(int):
    """An unsigned integer; another type than int, though equal numbers are equal."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class TypeName:
    """What `type(x)` gives and `string`, `int`, … stand for."""

    name: str


@dataclass(frozen=True, slots=True)
class Optional:
    """A value or its absence (`x.?field`, `optional.of(…)`)."""

    present: bool
    content: Value = None


NONE: Final = Optional(present=False)


class Defaulting(dict[str, Value]):
    """The map of domains of a device: a domain that is missing is an empty map when it is looked up.

    `in`, `size` and macros see only what is there (dynamic-resource-allocation cel/compile.go, the map's own Find).
    """

    def __missing__(self, key: str) -> Value:
        return {}


@dataclass(frozen=True, slots=True)
class BoolKey:
    """A bool as a map key: in Python `True` and `1` would be the same key."""

    value: bool


_KINDS: Final[Mapping[type, str]] = {
    bool: "bool",
    int: "int",
    Uint: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    list: "list",
    tuple: "list",
    dict: "map",
    Defaulting: "map",
    type(None): "null_type",
    Quantity: "quantity",
    Semver: "semver",
    Optional: "optional",
    TypeName: "type",
}
NUMBERS: Final = frozenset(("int", "uint", "double"))


def kind_of(value: Value) -> str:
    """Return CEL's name for the type of a value."""
    kind = _KINDS.get(type(value))
    if kind is None:
        kind = "map" if isinstance(value, Mapping) else type(value).__name__
    return kind


def key_of(value: Value) -> Value:
    """Return a value as the key of a dict. Raises `EvaluationError` for types that cannot be keys."""
    kind = kind_of(value)
    if kind == "bool":
        return BoolKey(value is True)
    if kind not in ("string", *NUMBERS):
        raise EvaluationError(f"unsupported key type: {kind}")
    return value


def keys(mapping: Mapping[Value, Value]) -> list[Value]:
    """Return the keys of a map as values."""
    return [key.value if isinstance(key, BoolKey) else key for key in mapping]


def equal(left: Value, right: Value) -> bool:
    """Say whether two values are equal: never between types, except numbers.

    Raises `EvaluationError` when a quantity or version on the left meets another type, as cel-go does.
    """
    kind, other = kind_of(left), kind_of(right)
    if kind != other:
        if kind in ("quantity", "semver"):
            raise no_such_overload("_==_", kind, other)
        return kind in NUMBERS and other in NUMBERS and left == right
    if kind == "list":
        return _equal_lists(elements(left), elements(right))
    if kind == "map":
        return _equal_maps(entries(left), entries(right))
    if isinstance(left, Optional) and isinstance(right, Optional):
        return left.present == right.present and (not left.present or equal(left.content, right.content))
    return bool(left == right)


def _equal_lists(left: list[Value] | tuple[Value, ...], right: list[Value] | tuple[Value, ...]) -> bool:
    return len(left) == len(right) and all(equal(one, other) for one, other in zip(left, right, strict=True))


def _equal_maps(left: Mapping[Value, Value], right: Mapping[Value, Value]) -> bool:
    if len(left) != len(right):
        return False
    return all(key in right and equal(value, right[key]) for key, value in left.items())


def elements(value: Value) -> list[Value] | tuple[Value, ...]:
    """Narrow a list. Raises `EvaluationError` for anything else."""
    if isinstance(value, list | tuple):
        return value
    raise no_such_overload("list", kind_of(value))


def entries(value: Value) -> Mapping[Value, Value]:
    """Narrow a map. Raises `EvaluationError` for anything else."""
    if isinstance(value, Mapping):
        return value
    raise no_such_overload("map", kind_of(value))


def find(container: Value, key: Value) -> Optional:
    """Look a key up in a map or an index up in a list; absence is an empty optional, a wrong type an error."""
    if isinstance(container, Mapping):
        return _find_entry(container, key)
    if isinstance(container, list | tuple):
        index = _index(key)
        return Optional(True, container[index]) if 0 <= index < len(container) else NONE
    raise EvaluationError(f"no such key: {key}")


def _find_entry(container: Mapping[Value, Value], key: Value) -> Optional:
    wrapped = key_of(key)
    if isinstance(container, Defaulting):
        return Optional(True, container[wrapped]) if isinstance(wrapped, str) else NONE
    return Optional(True, container[wrapped]) if wrapped in container else NONE


def _index(key: Value) -> int:
    if kind_of(key) in NUMBERS and isinstance(key, int | float) and key == int(key):
        return int(key)
    raise EvaluationError(f"unsupported index type {kind_of(key)!r} in list")


def get(container: Value, key: Value) -> Value:
    """Return `container[key]`. Raises `EvaluationError`: no such key, index out of bounds."""
    found = find(container, key)
    if found.present:
        return found.content
    if isinstance(container, Mapping):
        raise EvaluationError(f"no such key: {key}")
    raise EvaluationError(f"index out of bounds: {key}")
