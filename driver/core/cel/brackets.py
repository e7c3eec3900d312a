"""What is open while an expression is parsed: brackets, and in each the operands and operators not yet joined.

Called by parsing alone. An operand is a node with its depth: how many operators, selections and calls it nests.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from driver.core.cel import macros
from driver.core.cel.errors import CompileError
from driver.core.cel.syntax import Call, ListOf, MapOf, Message, Node, qualified_name

MAX_DEPTH: Final = 250
Operand = tuple[Node, int]
_CLOSING: Final = {"whole": "", "group": ")", "call": ")", "list": "]", "index": "]", "map": "}", "message": "}"}
_AGGREGATES: Final = frozenset(("list", "map", "message"))


@dataclass(slots=True)
class Operator:
    """An operator whose right operand is being read. `terms` are its operands so far."""

    tightness: int
    function: str
    position: int
    terms: list[Operand]

    @property
    def nests(self) -> bool:
        """True if its right operand is a new level of cel-go's grammar."""
        return self.function not in ("_&&_", "_||_", "?")


@dataclass(slots=True)
class Bracket:
    """An open bracket, or the whole expression."""

    kind: str
    position: int
    function: str = ""
    target: Operand | None = None
    """What stands before the bracket of a call, an index or a message."""
    operands: list[Operand] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    prefix: tuple[str, int, int] | None = None
    """`!` or `-` before the operand that is being read: function, how many, position."""
    plain: bool = False
    """True while the last operand is a chain of names, which may become the type of a message."""
    items: list[tuple[Operand, Operand, bool]] = field(default_factory=list)
    """Key, value, optional; the key is the value itself where there are no keys."""
    key: Operand | None = None
    field_name: str = ""
    optional: bool = False
    at_start: bool = True

    @property
    def closing(self) -> str:
        """The sign that closes it."""
        return _CLOSING[self.kind]

    @property
    def is_aggregate(self) -> bool:
        """True for lists, maps and messages: they may be empty and end with a comma."""
        return self.kind in _AGGREGATES

    @property
    def may_close_early(self) -> bool:
        """True if it may close where an item would start."""
        return self.is_aggregate or (self.kind == "call" and not self.items)

    @property
    def takes_optional(self) -> bool:
        """True if an item may start with `?`."""
        return self.kind in {"list", "map", "index"} and self.key is None

    def join_prefix(self) -> None:
        """Apply `!` or `-` to the operand that is complete now; an even number of them cancels out."""
        if self.prefix is not None:
            function, count, position = self.prefix
            self.prefix = None
            if count % 2:
                node, depth = self.operands.pop()
                self.operands.append((Call(position, function, None, (node,)), depth))

    def join(self, tightness: int) -> int:
        """Join what binds at least this tightly. Return how many levels of the grammar that closed."""
        closed = 0
        while self.operators and self.operators[-1].tightness >= tightness:
            operator = self.operators.pop()
            closed += operator.nests
            self.operands.append(_joined(operator, self.operands.pop()))
        return closed

    def add_item(self, item: Operand) -> None:
        """Take an item that is complete."""
        self.items.append((self.key or item, item, self.optional))
        self.key, self.optional, self.at_start = None, False, True

    def finish(self) -> Operand:
        """Return the node of a closed bracket. Raises `CompileError`."""
        if self.kind in {"group", "whole"}:
            return self.items[0][1]
        depth = max((deep for key, value, _ in self.items for deep in (key[1], value[1])), default=0)
        if self.kind == "list":
            return ListOf(self.position, tuple((value[0], optional) for _, value, optional in self.items)), depth
        if self.kind == "map":
            entries = tuple((key[0], value[0], optional) for key, value, optional in self.items)
            return MapOf(self.position, entries), depth
        return self._finish_target(depth)

    def _finish_target(self, depth: int) -> Operand:
        values = tuple(value for _, (value, _), _ in self.items)
        if self.target is None:
            return macros.expand(Call(self.position, self.function, None, values)), depth
        node, before = self.target
        depth = max(depth, before)
        if self.kind == "message":
            return self._message(node), depth
        if self.kind == "index":
            function = "_[?_]" if self.items[0][2] else "_[_]"
            return Call(self.position, function, None, (node, *values)), deeper(depth, self.position)
        return macros.expand(Call(self.position, self.function, node, values)), deeper(depth, self.position)

    def _message(self, name: Node) -> Message:
        fields = tuple((str(qualified_name(key[0])), value[0], optional) for key, value, optional in self.items)
        return Message(self.position, str(qualified_name(name)), fields)


def deeper(depth: int, position: int) -> int:
    """Return one level more. Raises `CompileError` beyond the limit."""
    if depth >= MAX_DEPTH:
        raise CompileError("max recursion depth exceeded", position)
    return depth + 1


def _joined(operator: Operator, last: Operand) -> Operand:
    terms = [*operator.terms, last]
    depth = max(depth for _, depth in terms)
    if operator.function == "?":
        raise CompileError("expected ':'", operator.position)
    if operator.function not in {"_&&_", "_||_"}:
        depth = deeper(depth, operator.position)
    return Call(operator.position, operator.function, None, tuple(node for node, _ in terms)), depth
