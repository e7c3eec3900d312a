"""Tokens into a tree. Called by programs; must not know variables or functions.

Operator precedence with an explicit stack, so that no nesting of brackets takes stack of Python. The bounds are those
of cel-go: 100,000 characters, 250 levels of its grammar (brackets, right operands, ternaries), and 250 levels of
operators, selections and calls in the tree. Grammar: cel-go parser/gen/CEL.g4.
"""

from __future__ import annotations

from typing import Final

from driver.core.cel import tokens
from driver.core.cel.brackets import MAX_DEPTH, Bracket, Operator, deeper
from driver.core.cel.errors import CompileError
from driver.core.cel.syntax import Call, Literal, Name, Node, Select
from driver.core.cel.tokens import Kind, Token

MAX_LENGTH: Final = 100_000
_BINARY: Final = {
    "||": (2, "_||_"),
    "&&": (3, "_&&_"),
    **{sign: (4, f"_{sign}_") for sign in ("==", "!=", "<", "<=", ">", ">=")},
    "in": (4, "@in"),
    **{sign: (5, f"_{sign}_") for sign in "+-"},
    **{sign: (6, f"_{sign}_") for sign in "*/%"},
}
"""How tightly an operator binds, and the function it calls."""
_TERNARY: Final = 1
_OPENING: Final = {"(": "group", "[": "list", "{": "map"}


def parse(expression: str) -> Node:
    """Return the tree of the expression, macros expanded. Raises `CompileError`."""
    if len(expression) > MAX_LENGTH:
        raise CompileError(f"expression code point size exceeds limit: size: {len(expression)}, limit {MAX_LENGTH}")
    return _Parser(tokens.scan(expression)).run()


class _Parser:
    """One pass over the tokens. `_stack` holds the open brackets; the first stands for the whole expression."""

    def __init__(self, tokens_: list[Token]) -> None:
        self._tokens = tokens_
        self._next = 0
        self._stack = [Bracket("whole", 0)]
        self._levels = 1
        self._expects_operand = True

    def run(self) -> Node:
        """Parse everything."""
        while self._stack:
            if self._expects_operand:
                self._read_operand(self._stack[-1])
            else:
                self._read_operator(self._stack[-1])
        return self._result

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

    def _open(self, bracket: Bracket) -> None:
        self._enter(bracket.position)
        self._stack.append(bracket)
        self._expects_operand = True

    def _enter(self, position: int) -> None:
        self._levels += 1
        if self._levels > MAX_DEPTH:
            raise CompileError(f"expression recursion limit exceeded: {MAX_DEPTH}", position)

    def _push(self, top: Bracket, node: Node, depth: int = 0) -> None:
        top.operands.append((node, depth))
        self._expects_operand = False

    def _read_operand(self, top: Bracket) -> None:
        if top.at_start and self._start_item(top):
            return
        self._read_prefix(top)
        token = self._take()
        if token.kind is Kind.OPERATOR and token.text in _OPENING:
            top.plain = False
            self._open(Bracket(_OPENING[token.text], token.position))
        else:
            self._read_primary(top, token)

    def _start_item(self, top: Bracket) -> bool:
        """Read what comes before an item. Return True if the bracket closed instead."""
        lone_comma = top.is_aggregate and not top.items and self._accept(",")
        if top.may_close_early and self._accept(top.closing):
            self._close(top)
            return True
        if lone_comma:
            raise _unexpected(self._peek())
        if top.kind == "message":
            top.optional = self._accept("?")
            name = self._take()
            if name.kind is not Kind.NAME or not self._accept(":"):
                raise _unexpected(name)
            top.key = (Name(name.position, name.text), 0)
        elif top.takes_optional:
            top.optional = self._accept("?")
        top.at_start = False
        return False

    def _read_prefix(self, top: Bracket) -> None:
        sign = self._peek()
        count = 0
        while sign.text in {"!", "-"} and self._accept(sign.text):
            count += 1
        if count == 1 and sign.text == "-" and _is_number(self._peek()):
            self._next -= 1
        elif count:
            top.prefix = (f"{sign.text}_", count, sign.position)

    def _read_primary(self, top: Bracket, token: Token) -> None:
        top.plain = False
        negated = top.prefix is not None and top.prefix[0] == "-_"
        if token.kind is Kind.LITERAL:
            self._push(top, _literal(token))
        elif token.text == "-" and token.kind is Kind.OPERATOR and _is_number(self._peek()) and not negated:
            self._push(top, _literal(self._take(), sign=-1))
        elif token.kind is Kind.NAME:
            self._read_name(top, token, "")
        elif token.text == "." and token.kind is Kind.OPERATOR and self._peek().kind is Kind.NAME:
            self._read_name(top, self._take(), ".")
        else:
            raise _unexpected(token)

    def _read_name(self, top: Bracket, token: Token, dot: str) -> None:
        if token.text in tokens.RESERVED:
            raise CompileError(f"reserved identifier: {token.text}", token.position)
        parenthesis = self._peek()
        if self._accept("("):
            self._open(Bracket("call", parenthesis.position, function=dot + token.text))
        else:
            self._push(top, Name(token.position, dot + token.text))
            top.plain = True

    def _read_operator(self, top: Bracket) -> None:
        """Read what follows an operand."""
        token = self._take()
        if token.kind is Kind.OPERATOR and token.text in {".", "[", "{"}:
            self._read_postfix(top, token)
            return
        top.join_prefix()
        if token.kind is Kind.OPERATOR and token.text in _BINARY:
            self._read_binary(top, token)
        elif token.kind is Kind.OPERATOR and token.text in {"?", ":"}:
            self._read_choice(top, token)
        else:
            self._end_item(top, token)

    def _read_postfix(self, top: Bracket, token: Token) -> None:
        if token.text == ".":
            self._read_field(top, token)
            return
        if token.text == "{" and not top.plain:
            raise _unexpected(token)
        kind = "index" if token.text == "[" else "message"
        top.plain = False
        self._open(Bracket(kind, token.position, target=top.operands.pop()))

    def _read_field(self, top: Bracket, dot: Token) -> None:
        optional = self._accept("?")
        token = self._take()
        if token.kind is not Kind.NAME:
            raise _unexpected(token)
        operand, depth = top.operands.pop()
        parenthesis = self._peek()
        if not optional and self._accept("("):
            top.plain = False
            self._open(Bracket("call", parenthesis.position, function=token.text, target=(operand, depth)))
        elif optional:
            top.plain = False
            field = Literal(token.position, token.text)
            self._push(top, Call(dot.position, "_?._", None, (operand, field)), depth)
        else:
            self._push(top, Select(dot.position, operand, token.text), deeper(depth, dot.position))

    def _read_binary(self, top: Bracket, token: Token) -> None:
        tightness, function = _BINARY[token.text]
        chain = function in {"_&&_", "_||_"}
        self._levels -= top.join(tightness + chain)
        if chain and top.operators and top.operators[-1].function == function:
            top.operators[-1].terms.append(top.operands.pop())
        else:
            self._begin(top, Operator(tightness, function, token.position, [top.operands.pop()]))
        self._expects_operand = True

    def _begin(self, top: Bracket, operator: Operator) -> None:
        top.operators.append(operator)
        if operator.nests:
            self._enter(operator.position)

    def _read_choice(self, top: Bracket, token: Token) -> None:
        """Read `?` or `:` of a ternary, or the `:` after the key of a map."""
        self._levels -= top.join(_TERNARY + 1)
        pending = top.operators[-1] if top.operators else None
        if token.text == "?":
            if pending is not None and pending.function == "?":
                raise _unexpected(token)
            self._begin(top, Operator(_TERNARY, "?", token.position, [top.operands.pop()]))
        elif pending is not None and pending.function == "?":
            top.operators.pop()
            terms = [*pending.terms, top.operands.pop()]
            self._begin(top, Operator(_TERNARY, "_?_:_", pending.position, terms))
        elif top.kind == "map" and top.key is None:
            self._levels -= top.join(0)
            top.key = top.operands.pop()
        else:
            raise _unexpected(token)
        self._expects_operand = True

    def _end_item(self, top: Bracket, token: Token) -> None:
        """End an item at a comma, a closing bracket or the end of the expression."""
        is_end = token.kind is Kind.END and top.kind == "whole"
        closes = is_end or (token.kind is Kind.OPERATOR and token.text == top.closing)
        separates = token.kind is Kind.OPERATOR and token.text == "," and (top.is_aggregate or top.kind == "call")
        if not (closes or separates) or (top.kind == "map" and top.key is None):
            raise _unexpected(token, top.closing)
        self._levels -= top.join(0)
        top.add_item(top.operands.pop())
        if closes:
            self._close(top)
        else:
            self._expects_operand = True

    def _close(self, top: Bracket) -> None:
        node, depth = top.finish()
        self._stack.pop()
        self._levels -= 1
        if self._stack:
            self._push(self._stack[-1], node, depth)
        else:
            self._result = node


def _is_number(token: Token) -> bool:
    return token.kind is Kind.LITERAL and type(token.value) in {int, float}


def _literal(token: Token, sign: int = 1) -> Literal:
    value = token.value
    if type(value) in {int, float} and isinstance(value, int | float):
        value *= sign
        if type(value) is int and value >= tokens.INT_LIMIT:
            raise CompileError("invalid int literal", token.position)
    return Literal(token.position, value)


def _unexpected(token: Token, closing: str = "") -> CompileError:
    found = token.text or token.kind.value
    if closing:
        return CompileError(f"expected {closing!r}, found {found!r}", token.position)
    return CompileError(f"unexpected {found!r}", token.position)
