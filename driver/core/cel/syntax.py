"""The tree of an expression: what parsing makes and compiling walks. Frozen values, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant."""

    position: int
    value: bool | int | float | str | bytes | None


@dataclass(frozen=True, slots=True)
class Name:
    """A variable, or the first part of a function's qualified name."""

    position: int
    name: str


@dataclass(frozen=True, slots=True)
class Select:
    """`operand.field`, `operand.?field` if optional."""

    position: int
    operand: Node
    field: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Index:
    """`operand[key]`, `operand[?key]` if optional."""

    position: int
    operand: Node
    key: Node
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """`function(arguments)` or `target.function(arguments)`; operators are calls of their own sign."""

    position: int
    function: str
    target: Node | None
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Junction:
    """`a && b && …` or `a || b || …`: flat, however long."""

    position: int
    operator: str
    terms: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Conditional:
    """`condition ? chosen : otherwise`."""

    position: int
    condition: Node
    chosen: Node
    otherwise: Node


@dataclass(frozen=True, slots=True)
class ListOf:
    """`[a, ?b]`: elements, each with whether it is optional."""

    position: int
    elements: tuple[tuple[Node, bool], ...]


@dataclass(frozen=True, slots=True)
class MapOf:
    """`{key: value, ?key: value}`: entries, each with whether it is optional."""

    position: int
    entries: tuple[tuple[Node, Node, bool], ...]


Node = Literal | Name | Select | Index | Call | Junction | Conditional | ListOf | MapOf
