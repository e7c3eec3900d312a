"""The types of the checker: what they are, how they are written, when one fits another.

Called by checking, costing and validating. Source: cel-go common/types/types.go and checker/types.go. `any` is the type
of attributes and `dyn` that of `dyn(x)`; both fit everything. Type parameters (`A`) are bound while types are compared.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from driver.core.cel.errors import CompileError

_SHOWN_LEVELS: Final = 5
MAX_STEPS: Final = 200_000
"""Comparisons of types in one expression; types nested in types would take exponential time."""


@dataclass(frozen=True, slots=True, eq=False)
class Type:
    """A type. `kind` is its family, `name` what it is called, `parameters` the types inside it."""

    kind: str
    name: str
    parameters: tuple[Type, ...] = ()
    nullable: bool = False
    """True for the wrapper messages of protobuf (`google.protobuf.Int64Value`)."""
    is_open: bool = field(default=False, init=False)
    """True if a type parameter occurs in it."""

    def __post_init__(self) -> None:
        is_open = self.kind == "param" or any(each.is_open for each in self.parameters)
        object.__setattr__(self, "is_open", is_open)

    def __str__(self) -> str:
        return self.describe(_SHOWN_LEVELS)

    def describe(self, levels: int) -> str:
        """Write the type as cel-go does, down to a number of levels: types in types can be longer than any memory."""
        if not self.parameters:
            return self.name
        if levels == 0:
            return f"{self.name}(…)"
        return f"{self.name}({', '.join(each.describe(levels - 1) for each in self.parameters)})"

    @property
    def is_dynamic(self) -> bool:
        """True if only the evaluation tells what it is."""
        return self.kind in {"dyn", "any"}

    @property
    def is_optional(self) -> bool:
        """True for `optional_type(T)`."""
        return self.kind == "opaque" and self.name == "optional_type"


def _simple(kind: str, name: str = "") -> Type:
    return Type(kind, name or kind)


ANY: Final = _simple("any")
DYN: Final = _simple("dyn")
ERROR: Final = _simple("error", "!error!")
BOOL: Final = _simple("bool")
INT: Final = _simple("int")
UINT: Final = _simple("uint")
DOUBLE: Final = _simple("double")
STRING: Final = _simple("string")
BYTES: Final = _simple("bytes")
NULL: Final = _simple("null_type")
DURATION: Final = _simple("duration", "google.protobuf.Duration")
TIMESTAMP: Final = _simple("timestamp", "google.protobuf.Timestamp")
QUANTITY: Final = _simple("message", "kubernetes.Quantity")
SEMVER: Final = _simple("message", "kubernetes.Semver")
URL: Final = _simple("message", "kubernetes.URL")
FORMAT: Final = _simple("message", "kubernetes.NamedFormat")
DEVICE: Final = _simple("message", "kubernetes.DRADevice")
IP: Final = _simple("opaque", "net.IP")
CIDR: Final = _simple("opaque", "net.CIDR")
_NULLABLE: Final = frozenset(("opaque", "message", "any", "duration", "timestamp"))


def list_of(element: Type) -> Type:
    """Return `list(element)`."""
    return Type("list", "list", (element,))


def map_of(key: Type, value: Type) -> Type:
    """Return `map(key, value)`."""
    return Type("map", "map", (key, value))


def optional_of(content: Type) -> Type:
    """Return `optional_type(content)`."""
    return Type("opaque", "optional_type", (content,))


def type_of(instance: Type) -> Type:
    """Return the type of a type."""
    return Type("type", "type", (instance,))


def parameter(name: str) -> Type:
    """Return a type parameter."""
    return Type("param", name)


def is_same(one: Type, other: Type) -> bool:
    """Say whether two types are the same, parameters included."""
    if one is other:
        return True
    if one.kind != other.kind or one.name != other.name or len(one.parameters) != len(other.parameters):
        return False
    return all(is_same(left, right) for left, right in zip(one.parameters, other.parameters, strict=True))


@dataclass(slots=True)
class Bindings:
    """What type parameters stand for; attempts that fail are taken back."""

    _bound: dict[str, Type] = field(default_factory=dict)
    _trail: list[tuple[str, Type | None]] = field(default_factory=list)
    _steps: int = 0
    _fresh: int = 0

    def fresh(self) -> Type:
        """Return a new type parameter."""
        self._fresh += 1
        return parameter(f"_var{self._fresh}")

    def fits(self, one: Type, other: Type) -> bool:
        """Say whether a value of type `other` can be used as `one`, binding type parameters."""
        return self.fit_all((one,), (other,))

    def fit_all(self, ones: tuple[Type, ...], others: tuple[Type, ...]) -> bool:
        """Say whether all types fit pairwise; if not, nothing is bound."""
        mark = len(self._trail)
        if len(ones) == len(others) and all(map(self._fits, ones, others)):
            return True
        while len(self._trail) > mark:
            name, before = self._trail.pop()
            if before is None:
                del self._bound[name]
            else:
                self._bound[name] = before
        return False

    def resolve(self, type_: Type, *, close: bool = False) -> Type:
        """Replace bound type parameters; with `close` unbound ones become dyn."""
        if not type_.is_open:
            return type_
        self._step()
        if type_.kind == "param":
            bound = self._bound.get(type_.name)
            if bound is not None:
                return self.resolve(bound, close=close)
            return DYN if close else type_
        parameters = tuple(self.resolve(each, close=close) for each in type_.parameters)
        return Type(type_.kind, type_.name, parameters, type_.nullable)

    def rename(self, types: tuple[Type, ...]) -> tuple[Type, ...]:
        """Give the type parameters of a signature new names, so that each call binds its own."""
        names: dict[str, Type] = {}
        return tuple(self._renamed(each, names) for each in types)

    def _renamed(self, type_: Type, names: dict[str, Type]) -> Type:
        if not type_.is_open:
            return type_
        if type_.kind == "param":
            return names.setdefault(type_.name, names.get(type_.name) or self.fresh())
        return Type(type_.kind, type_.name, tuple(self._renamed(each, names) for each in type_.parameters))

    def _step(self) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise CompileError("the types of the expression are too complex")

    def _bind(self, name: str, type_: Type) -> None:
        self._trail.append((name, self._bound.get(name)))
        self._bound[name] = type_

    def _fits(self, one: Type, other: Type) -> bool:
        self._step()
        if other.kind == "param":
            valid, was_bound = self._stands_for(one, other)
            if valid or was_bound:
                return valid
        if one.kind == "param":
            return self._stands_for(other, one)[0]
        if one is other or one.is_dynamic or other.is_dynamic or ERROR in {one, other}:
            return True
        if NULL in {one, other}:
            return _takes_null(other if one is NULL else one)
        return (one.kind == other.kind == "type") or self._fits_inside(one, other)

    def _fits_inside(self, one: Type, other: Type) -> bool:
        if one.kind != other.kind or one.name != other.name or len(one.parameters) != len(other.parameters):
            return False
        return all(map(self._fits, one.parameters, other.parameters))

    def _stands_for(self, type_: Type, param: Type) -> tuple[bool, bool]:
        """Say whether a parameter can stand for a type, and whether it was bound before."""
        if type_.kind == "param" and type_.name == param.name:
            return True, True
        bound = self._bound.get(param.name)
        if bound is None:
            free = not self._occurs(param, type_)
            if free:
                self._bind(param.name, type_)
            return free, False
        if is_same(type_, bound):
            return True, True
        if not self._fits(type_, bound):
            return False, True
        general = most_general(type_, bound)
        if not self._occurs(param, general):
            self._bind(param.name, general)
        return True, True

    def _occurs(self, param: Type, type_: Type) -> bool:
        if not type_.is_open:
            return False
        self._step()
        if type_.kind == "param":
            bound = self._bound.get(type_.name)
            return type_.name == param.name or (bound is not None and self._occurs(param, bound))
        return any(self._occurs(param, each) for each in type_.parameters)


def _takes_null(type_: Type) -> bool:
    return type_.kind in _NULLABLE or type_.nullable or type_ is NULL


def most_general(one: Type, other: Type) -> Type:
    """Return the more general of two types that fit each other."""
    return one if _is_less_specific(one, other) else other


def _is_less_specific(one: Type, other: Type) -> bool:
    if one.is_dynamic or one.kind == "param":
        return True
    if other.is_dynamic or other.kind == "param" or one.kind != other.kind:
        return False
    if one.kind in {"opaque", "list", "map"}:
        if one.name != other.name or len(one.parameters) != len(other.parameters):
            return False
        return all(map(_is_less_specific, one.parameters, other.parameters))
    return one.kind == "type" or is_same(one, other)
