"""The tree of an expression: what parsing makes, checking types and evaluating walks.

Nodes are compared by identity, so that what is known of a node (its type, its cost) can be kept beside the tree.
Operators are calls of `_+_`, `!_`, `_?_:_`, `_[_]`, `@in` and so on (cel-go common/operators); `_&&_` and `_||_` have
as many arguments as the chain has terms. Macros are expanded: `all`, `map`, `cel.bind` and others are `Comprehension`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ACCUMULATOR: Final = "@result"
"""The variable in which a comprehension collects its result; no user can write this name."""


@dataclass(frozen=True, slots=True, eq=False)
class Literal:
    """A constant."""

    position: int
    value: bool | int | float | str | bytes | None


@dataclass(frozen=True, slots=True, eq=False)
class Name:
    """A variable or a type, or the first part of a qualified name."""

    position: int
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Select:
    """`operand.field`; with `test` it is `has(operand.field)`."""

    position: int
    operand: Node
    field: str
    test: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """`function(arguments)` or `target.function(arguments)`."""

    position: int
    function: str
    target: Node | None
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ListOf:
    """`[a, ?b]`: elements, each with whether it is optional."""

    position: int
    elements: tuple[tuple[Node, bool], ...]


@dataclass(frozen=True, slots=True, eq=False)
class MapOf:
    """`{key: value, ?key: value}`: entries, each with whether it is optional."""

    position: int
    entries: tuple[tuple[Node, Node, bool], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """`name{field: value}`: fields, each with whether it is optional."""

    position: int
    name: str
    fields: tuple[tuple[str, Node, bool], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Loop:
    """How a comprehension folds its range: `accumulator` starts as `init` and becomes `step` for each element."""

    variable: str
    second: str
    """The second variable of two-variable macros, or empty."""
    accumulator: str
    init: Node
    condition: Node
    step: Node
    result: Node


@dataclass(frozen=True, slots=True, eq=False)
class Comprehension:
    """A macro, expanded. `macro` is its name, for readers and for code generation."""

    position: int
    macro: str
    range: Node
    loop: Loop


Node = Literal | Name | Select | Call | ListOf | MapOf | Message | Comprehension


def qualified_name(node: Node) -> str | None:
    """Return `a.b.c` for a chain of selections that starts with a name, None for anything else."""
    parts: list[str] = []
    while isinstance(node, Select) and not node.test:
        parts.append(node.field)
        node = node.operand
    if not isinstance(node, Name):
        return None
    return ".".join((node.name, *reversed(parts)))


def children(node: Node) -> tuple[Node, ...]:
    """Return the nodes directly below one, in the order of the text."""
    if isinstance(node, Call):
        return node.arguments if node.target is None else (node.target, *node.arguments)
    if isinstance(node, Comprehension):
        loop = node.loop
        return (node.range, loop.init, loop.condition, loop.step, loop.result)
    if isinstance(node, Select):
        return (node.operand,)
    return _contents(node)


def _contents(node: Node) -> tuple[Node, ...]:
    if isinstance(node, ListOf):
        return tuple(element for element, _ in node.elements)
    if isinstance(node, MapOf):
        return tuple(each for key, value, _ in node.entries for each in (key, value))
    return tuple(value for _, value, _ in node.fields) if isinstance(node, Message) else ()


def weight(root: Node) -> int:
    """Return how many nodes a tree has if a node that occurs twice counts twice (the target of `optMap` does)."""
    known: dict[Node, int] = {}
    pending = [(root, False)]
    while pending:
        node, ready = pending.pop()
        if ready:
            known[node] = 1 + sum(known[child] for child in children(node))
        elif node not in known:
            pending.append((node, True))
            pending.extend((child, False) for child in children(node))
    return known[root]


def descendants(root: Node) -> list[Node]:
    """Return all nodes of a tree, each once, parents before children."""
    found: dict[Node, None] = {}
    pending = [root]
    while pending:
        node = pending.pop()
        if node not in found:
            found[node] = None
            pending.extend(reversed(children(node)))
    return list(found)
