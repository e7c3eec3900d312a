"""What compiles by its types and is wrong all the same: constants that cannot be right. Called by programs.

Durations, timestamps and regular expressions as constants, lists and maps of different types, formats that do not fit
their arguments. Sources: cel-go cel/validator.go, ext/formatting.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from driver.core.cel import formatting, library, patterns, typesystem
from driver.core.cel.checking import Checked
from driver.core.cel.errors import CompileError, EvaluationError
from driver.core.cel.syntax import Call, ListOf, Literal, MapOf, Node, children, descendants, weight
from driver.core.cel.typesystem import Type
from driver.core.cel.values import Value

MAX_WEIGHT: Final = 100_000
"""Nodes of an expression with its macros expanded; each `optMap` doubles what stands before it."""
_ANYTHING: Final = frozenset(
    [
        "list",
        "map",
        "int",
        "uint",
        "double",
        "bool",
        "string",
        "timestamp",
        "bytes",
        "duration",
        "type",
        "null_type",
        "dyn",
    ]
)
_TAKES: Final[Mapping[str, frozenset[str]]] = {
    "s": _ANYTHING,
    "d": frozenset(("int", "uint", "dyn")),
    "f": frozenset(("double", "string", "dyn")),
    "e": frozenset(("double", "string", "dyn")),
    "b": frozenset(("int", "uint", "bool", "dyn")),
    "o": frozenset(("int", "uint", "dyn")),
    "x": frozenset(("int", "uint", "string", "bytes", "dyn")),
    "X": frozenset(("int", "uint", "string", "bytes", "dyn")),
}


def validate(checked: Checked) -> None:
    """Raise `CompileError` for a constant that cannot be right."""
    if weight(checked.root) > MAX_WEIGHT:
        raise CompileError("the expression is too large once its macros are expanded")
    formatted = _formatted(checked)
    for node in descendants(checked.root):
        if isinstance(node, Call):
            _check_call(checked, node)
        elif isinstance(node, ListOf) and node not in formatted:
            _check_list(checked, node)
        elif isinstance(node, MapOf) and node not in formatted:
            _check_map(checked, node)


def _formatted(checked: Checked) -> set[Node]:
    """Return the nodes below calls of `format`: their lists may hold anything."""
    below: set[Node] = set()
    for node in descendants(checked.root):
        if isinstance(node, Call) and checked.function(node) == "format":
            for child in children(node):
                if child not in below:
                    below.update(descendants(child))
    return below


def _check_call(checked: Checked, node: Call) -> None:
    name = checked.function(node)
    check = _CONSTANTS.get(name)
    first = node.arguments[0] if node.arguments else None
    if check is not None and isinstance(first, Literal):
        try:
            check(first.value)
        except EvaluationError as error:
            raise CompileError(f"invalid {name} argument: {error}", first.position) from error
    if name == "format" and isinstance(node.target, Literal) and isinstance(first, ListOf):
        _check_format(checked, node, str(node.target.value), [element for element, _ in first.elements])


def _regex(value: Value) -> Value:
    return patterns.pattern(str(value))


_CONSTANTS: Final[Mapping[str, Callable[[Value], Value]]] = {
    "duration": lambda value: library.convert("duration", value),
    "timestamp": lambda value: library.convert("timestamp", value),
    "matches": _regex,
}


def _check_list(checked: Checked, node: ListOf) -> None:
    first: Type | None = None
    for element, optional in node.elements:
        found = _content(checked.types[element], optional=optional)
        if first is not None and not typesystem.is_same(first, found):
            raise CompileError(f"expected type '{first}' but found '{found}'", element.position)
        first = first or found


def _check_map(checked: Checked, node: MapOf) -> None:
    first: tuple[Type, Type] | None = None
    for key, value, optional in node.entries:
        found = checked.types[key], _content(checked.types[value], optional=optional)
        for position, (expected, actual) in enumerate(zip(first or found, found, strict=True)):
            if not typesystem.is_same(expected, actual):
                place = (key, value)[position].position
                raise CompileError(f"expected type '{expected}' but found '{actual}'", place)
        first = first or found


def _content(type_: Type, *, optional: bool) -> Type:
    return type_.parameters[0] if optional and type_.is_optional else type_


def _check_format(checked: Checked, node: Call, text: str, arguments: list[Node]) -> None:
    try:
        clauses, _ = formatting.read(text)
    except EvaluationError as error:
        raise CompileError(str(error), node.position) from error
    if len(clauses) > len(arguments):
        raise CompileError(f"index {len(arguments)} out of range", node.position)
    for clause, argument in zip(clauses, arguments, strict=False):
        _check_argument(checked, clause.letter, argument)
    if len(arguments) > len(clauses):
        reason = f"too many arguments supplied to string.format (expected {len(clauses)}, got {len(arguments)})"
        raise CompileError(reason, node.position)


def _check_argument(checked: Checked, letter: str, argument: Node) -> None:
    pending = [argument]
    while pending:
        node = pending.pop()
        found = checked.types[node]
        if found.kind not in _TAKES[letter]:
            raise CompileError(f"error during formatting: %{letter} cannot be used for {found}", node.position)
        if isinstance(node, ListOf | MapOf):
            pending.extend(children(node))
