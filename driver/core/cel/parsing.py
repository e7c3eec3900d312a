"""Tokens into a tree: a Pratt parser for CEL. Called by compiling; must not know variables or functions.

Bounds instead of trust: at most 10 KiB of text (the API server's CELSelectorExpressionMaxLength) and at most
`MAX_DEPTH` nested levels, so that neither this parser nor whoever walks the tree runs out of stack.
"""

from __future__ import annotations

from typing import Final

from driver.core.cel import tokens
from driver.core.cel.errors import CompileError
from driver.core.cel.syntax import Call, Conditional, Index, Junction, ListOf, Literal, MapOf, Name, Node, Select
from driver.core.cel.tokens import Kind, Token

MAX_LENGTH: Final = 10 * 1024
MAX_DEPTH: Final = 100
_TERNARY: Final = 1
_UNARY: Final = 7
_POSTFIX: Final = 8
_BINDING: Final = {
    "?": _TERNARY,
    "||": 2,
    "&&": 3,
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">=", "in"), 4),
    **dict.fromkeys("+-", 5),
    **dict.fromkeys("*/%", 6),
    **dict.fromkeys(".[", _POSTFIX),
}
"""How tightly what follows an operand binds; the higher, the tighter."""


def parse(expression: str) -> Node:
    """Return the tree of the expression. Raises `CompileError`."""
    if len(expression) > MAX_LENGTH:
        raise CompileError(f"the expression has {len(expression)} characters; allowed are {MAX_LENGTH}")
    parser = _Parser(tokens.scan(expression))
    node = parser.expression(0)
    parser.expect_end()
    return node


class _Parser:
    """One pass over the tokens. `_depth` counts open levels; chains (`a + b + …`, `a.b.…`) count as levels as well."""

    def __init__(self, tokens_: list[Token]) -> None:
        self._tokens = tokens_
        self._next = 0
        self._depth = 0

    def expression(self, tightness: int) -> Node:
        """Parse an operand and everything after it that binds at least this tightly."""
        self._enter()
        entered = 1
        node = self._operand()
        while (binding := self._binding()) >= max(tightness, _TERNARY):
            if self._peek().text not in ("||", "&&"):
                self._enter()
                entered += 1
            node = self._extend(node, binding)
        self._depth -= entered
        return node

    def expect_end(self) -> None:
        """Raise `CompileError` unless all tokens are read."""
        if self._peek().kind is not Kind.END:
            raise CompileError(f"unexpected {self._peek().text!r}", self._peek().position)

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise CompileError(f"more than {MAX_DEPTH} nested levels", self._peek().position)

    def _peek(self) -> Token:
        return self._tokens[self._next]

    def _take(self) -> Token:
        token = self._tokens[self._next]
        self._next += token.kind is not Kind.END
        return token

    def _accept(self, text: str) -> bool:
        token = self._peek()
        if token.kind is Kind.OPERATOR and token.text == text:
            self._next += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            token = self._peek()
            raise CompileError(f"expected {text!r}, found {token.text or token.kind.value!r}", token.position)

    def _binding(self) -> int:
        token = self._peek()
        return _BINDING.get(token.text, 0) if token.kind is Kind.OPERATOR else 0

    def _operand(self) -> Node:
        token = self._take()
        if token.kind is Kind.LITERAL:
            return self._literal(token)
        if token.kind is Kind.NAME:
            return self._name(token)
        begin = {"!": self._unary, "-": self._unary, "(": self._group, "[": self._list, "{": self._map}.get(token.text)
        if begin is None:
            raise CompileError(f"unexpected {token.text or token.kind.value!r}", token.position)
        return begin(token)

    def _group(self, _: Token) -> Node:
        node = self.expression(0)
        self._expect(")")
        return node

    def _literal(self, token: Token, sign: int = 1) -> Literal:
        value = token.value
        if type(value) in (int, float) and isinstance(value, int | float):
            value *= sign
            if type(value) is int and value >= tokens.INT_LIMIT:
                raise CompileError("invalid int literal", token.position)
        return Literal(token.position, value)

    def _name(self, token: Token) -> Node:
        if token.text in tokens.RESERVED:
            raise CompileError(f"reserved identifier: {token.text}", token.position)
        if self._accept("("):
            return Call(token.position, token.text, None, self._arguments())
        if self._peek().text == "{":
            raise CompileError(f"messages such as {token.text}{{…}} are not supported", token.position)
        return Name(token.position, token.text)

    def _unary(self, token: Token) -> Node:
        operand = self._peek()
        if token.text == "-" and operand.kind is Kind.LITERAL and type(operand.value) in (int, float):
            self._take()
            return self._literal(operand, sign=-1)
        return Call(token.position, f"{token.text}_", None, (self.expression(_UNARY),))

    def _extend(self, left: Node, binding: int) -> Node:
        token = self._take()
        if token.text == ".":
            return self._select(left, token.position)
        if token.text == "[":
            optional = self._accept("?")
            key = self.expression(0)
            self._expect("]")
            return Index(token.position, left, key, optional)
        if token.text == "?":
            chosen = self.expression(_TERNARY + 1)
            self._expect(":")
            return Conditional(token.position, left, chosen, self.expression(_TERNARY))
        if token.text in ("||", "&&"):
            return self._junction(left, token, binding)
        return Call(token.position, token.text, None, (left, self.expression(binding + 1)))

    def _junction(self, left: Node, token: Token, binding: int) -> Junction:
        terms = [left, self.expression(binding + 1)]
        while self._accept(token.text):
            terms.append(self.expression(binding + 1))
        return Junction(token.position, token.text, tuple(terms))

    def _select(self, operand: Node, position: int) -> Node:
        optional = self._accept("?")
        token = self._take()
        if token.kind is not Kind.NAME:
            raise CompileError(f"expected a field name, found {token.text or token.kind.value!r}", token.position)
        if not optional and self._accept("("):
            return Call(token.position, token.text, operand, self._arguments())
        return Select(position, operand, token.text, optional)

    def _arguments(self) -> tuple[Node, ...]:
        if self._accept(")"):
            return ()
        arguments = [self.expression(0)]
        while self._accept(","):
            arguments.append(self.expression(0))
        self._expect(")")
        return tuple(arguments)

    def _list(self, opening: Token) -> ListOf:
        elements: list[tuple[Node, bool]] = []
        while not self._accept("]"):
            optional = self._accept("?")
            elements.append((self.expression(0), optional))
            if not self._accept(","):
                self._expect("]")
                break
        return ListOf(opening.position, tuple(elements))

    def _map(self, opening: Token) -> MapOf:
        entries: list[tuple[Node, Node, bool]] = []
        while not self._accept("}"):
            optional = self._accept("?")
            key = self.expression(0)
            self._expect(":")
            entries.append((key, self.expression(0), optional))
            if not self._accept(","):
                self._expect("}")
                break
        return MapOf(opening.position, tuple(entries))
