"""What expressions compute with. Called by everything in this folder.

A value is one of: None, bool, int (CEL int), `Uint`, float, str, bytes, list or tuple, dict or another mapping,
`Amount` (a quantity), `Semver`, `Duration`, `Timestamp`, `Address`, `Network`, `Url`, `NamedFormat`, `Optional`,
`TypeName`, and what else a caller puts into variables and only passes on.
Python's own equality is never used between values: True is 1 in Python and not in CEL; see `equal`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final, TypeAlias

from driver.core.cel.errors import Cancelled, EvaluationError, MissingKey, no_such_overload

Value: TypeAlias = object
"""See the module's docstring; narrowed with `kind_of`."""

MIN_INT: Final = -(2**63)
MAX_INT: Final = 2**63 - 1
MAX_UINT: Final = 2**64 - 1


class Uint(int):
    """An unsigned integer; another type than int, though equal numbers are equal."""

    __slots__ = ()


class Growing(list[Value]):
    """The result of a comprehension while it grows: `+` appends to it instead of making a new list, as in cel-go."""

    __slots__ = ()


class GrowingMap(dict[Value, Value]):
    """The same for maps."""

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


@dataclass(frozen=True, slots=True, eq=False)
class Opaque:
    """Base of the values of Kubernetes' libraries.

    Unlike other values they do not compare with those of other types: that is an error. `kind` is the name of the type.
    """

    kind: ClassVar[str]
    is_strict: ClassVar[bool] = True
    """False for durations and timestamps: they are just unequal to other types."""


class Domain(dict[str, Value]):
    """The attributes or capacities of one domain; a name that is missing can be explained."""

    __slots__ = ("domain", "group")

    def __init__(self, group: str, domain: str) -> None:
        super().__init__()
        self.group = group
        """`attributes` or `capacity`."""
        self.domain = domain


class Domains(dict[str, Value]):
    """The map of domains of a device: a domain that is missing is an empty map when it is looked up.

    `in`, `size` and macros see only what is there (dynamic-resource-allocation cel/compile.go, the map's own Find).
    """

    __slots__ = ("group",)

    def __init__(self, group: str) -> None:
        super().__init__()
        self.group = group

    def __missing__(self, key: str) -> Value:
        return Domain(self.group, key)


@dataclass(frozen=True, slots=True)
class BoolKey:
    """A bool as a map key: in Python `True` and `1` would be the same key."""

    value: bool


@dataclass(frozen=True, slots=True)
class LoneKey:
    """Another value as a map key: found again by equality where cel-go keeps it by value, else by itself or never."""

    value: Value = field(compare=False)
    identity: Value


_KINDS: Final[Mapping[type, str]] = {
    bool: "bool",
    int: "int",
    Uint: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    list: "list",
    tuple: "list",
    Growing: "list",
    dict: "map",
    GrowingMap: "map",
    Domain: "map",
    Domains: "map",
    type(None): "null_type",
    Optional: "optional_type",
    TypeName: "type",
}
NUMBERS: Final = frozenset(("int", "uint", "double"))
_KEYS: Final = frozenset(("string", *NUMBERS))
_COMPARABLE: Final = frozenset(
    ("net.IP", "net.CIDR", "google.protobuf.Duration", "google.protobuf.Timestamp", "type", "null_type")
)
"""Kinds that Go compares by value, so that a key is found again by an equal one."""
_LARGEST_EXACT: Final = 2**53
_MAX_WEIGHT: Final = 1_000_000


def kind_of(value: Value) -> str:
    """Return CEL's name for the type of a value."""
    kind = _KINDS.get(type(value))
    if kind is None:
        if isinstance(value, Opaque):
            return value.kind
        kind = "map" if isinstance(value, Mapping) else type(value).__name__
    return kind


def key_of(value: Value) -> Value:
    """Return a value as the key of a dict. Raises `Cancelled` for a version: upstream's interpreter ends there."""
    kind = kind_of(value)
    if kind in _KEYS:
        return value
    if kind == "bool":
        return BoolKey(value is True)
    if kind == "kubernetes.Semver":
        raise Cancelled("internal error: a version cannot be the key of a map")
    if kind in _COMPARABLE:
        return LoneKey(value, (kind, value))
    return LoneKey(value, object() if isinstance(value, Opaque) else id(value))


def keys(mapping: Mapping[Value, Value]) -> list[Value]:
    """Return the keys of a map as values."""
    return [key.value if isinstance(key, BoolKey | LoneKey) else key for key in mapping]


def equal(left: Value, right: Value) -> bool:
    """Say whether two values are equal: never between types, except numbers; null equals null only.

    Raises `EvaluationError` when a value of Kubernetes' libraries on the left meets another type, as cel-go does.
    """
    if left is None or right is None:
        return left is right
    check_weight(left)
    return _equal(left, right)


def check_weight(value: Value) -> None:
    """Raise `Cancelled` for a list or map that holds too much to walk through.

    A list can hold one list many times and so, in a few steps, more than any memory; it is not walked to find out.
    """
    if isinstance(value, list | tuple | Mapping) and _weight(value) > _MAX_WEIGHT:
        raise Cancelled


def _weight(root: Value) -> int:
    """Return how many values are in a list or map, those of the lists and maps in it included."""
    known: dict[int, int] = {}
    pending: list[tuple[Value, bool]] = [(root, False)]
    while pending:
        value, ready = pending.pop()
        inside = _containers(value)
        if ready:
            known[id(value)] = _length(value) + sum(known.get(id(each), 0) for each in inside)
        elif id(value) not in known:
            known[id(value)] = 0
            pending.append((value, True))
            pending.extend((each, False) for each in inside)
    return known[id(root)]


def _containers(value: Value) -> list[Value]:
    inside = value.values() if isinstance(value, Mapping) else value
    assert isinstance(inside, Iterable)  # noqa: S101 - lists and maps only
    return [each for each in inside if isinstance(each, list | tuple | Mapping)]


def _length(value: Value) -> int:
    return len(value) + 1 if isinstance(value, list | tuple | Mapping) else 1


def _equal(left: Value, right: Value) -> bool:
    kind, other = kind_of(left), kind_of(right)
    if kind != other:
        if isinstance(left, Opaque) and left.is_strict:
            raise no_such_overload("_==_", kind, other)
        return kind in NUMBERS and other in NUMBERS and numbers_equal(left, right)
    if kind == "list":
        return _equal_lists(elements(left), elements(right))
    if kind == "map":
        return _equal_maps(entries(left), entries(right))
    if isinstance(left, Optional) and isinstance(right, Optional):
        return left.present == right.present and (not left.present or _equal(left.content, right.content))
    return bool(left == right)


def numbers_equal(left: Value, right: Value) -> bool:
    """Compare numbers; a whole number meets a double as a double (cel-go common/types/compare.go)."""
    if isinstance(left, float) is not isinstance(right, float):
        whole, double = (right, left) if isinstance(left, float) else (left, right)
        if isinstance(whole, int) and isinstance(double, float) and abs(whole) > _LARGEST_EXACT:
            limit = MAX_UINT if type(whole) is Uint else MAX_INT
            return -(2**63) <= double <= float(limit) and float(whole) == double
    return bool(left == right)


def same(left: Value, right: Value) -> bool:
    """Say whether two elements of lists or maps are equal; an error between them counts as equal there (cel-go)."""
    try:
        return equal(left, right)
    except EvaluationError:
        return True


def matches(left: Value, right: Value) -> bool:
    """Say whether two values are equal, an error meaning no: what `in`, `indexOf` and sets ask."""
    try:
        return equal(left, right)
    except EvaluationError:
        return False


def _equal_lists(left: list[Value] | tuple[Value, ...], right: list[Value] | tuple[Value, ...]) -> bool:
    return len(left) == len(right) and all(same(one, other) for one, other in zip(left, right, strict=True))


def _equal_maps(left: Mapping[Value, Value], right: Mapping[Value, Value]) -> bool:
    if len(left) != len(right):
        return False
    return all(key in right and same(value, right[key]) for key, value in left.items())


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
    """Look a key up in a map or an index up in a list; absence is an empty optional, a wrong index an error.

    Values without keys have none: selecting a field of a string finds nothing.
    """
    if isinstance(container, Mapping):
        return _find_entry(container, key)
    if isinstance(container, list | tuple):
        index = _index(key)
        return Optional(True, container[index]) if 0 <= index < len(container) else NONE
    return NONE


def _find_entry(container: Mapping[Value, Value], key: Value) -> Optional:
    wrapped = key_of(key)
    if isinstance(container, Domains):
        return Optional(True, container[wrapped]) if isinstance(wrapped, str) else Optional(True, {})
    return Optional(True, container[wrapped]) if wrapped in container else NONE


def _index(key: Value) -> int:
    kind = kind_of(key)
    if kind in NUMBERS and isinstance(key, int | float) and key == key // 1 and abs(key) <= MAX_INT:
        return int(key)
    raise EvaluationError(f"unsupported index type '{kind}' in list")


def get(container: Value, key: Value) -> Value:
    """Return `container[key]`. Raises `EvaluationError`: no such key (`MissingKey`), index out of bounds."""
    found = find(container, key)
    if found.present:
        return found.content
    if isinstance(container, Domain):
        raise MissingKey(key, container.group, container.domain)
    if isinstance(container, list | tuple):
        raise EvaluationError(f"index out of bounds: {key}")
    raise MissingKey(key)
