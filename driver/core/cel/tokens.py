"""Text into tokens. Called by parsing alone; knows the lexical rules of CEL and nothing of its grammar.

Source: the CEL language definition (github.com/google/cel-spec doc/langdef.md), section Syntax.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from driver.core.cel.errors import CompileError
from driver.core.cel.values import Uint

_RESERVED_WORDS: Final = (
    "as break const continue else for function if import let loop package namespace return var void while"
)
RESERVED: Final = frozenset(_RESERVED_WORDS.split())
_WORDS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}
_LEXEME: Final = re.compile(
    r"""(?P<space>[\t\r\n\f ]+|//[^\n]*)
    |(?P<text>[bB]?[rR]?(?:\"{3}|'{3}|\"|'))
    |(?P<double>(?:[0-9]+\.[0-9]+|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+)
    |(?P<integer>(?:0x[0-9a-fA-F]+|[0-9]+)[uU]?)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<operator>==|!=|<=|>=|&&|\|\||[-+*/%<>!?:.,()\[\]{}])""",
    re.VERBOSE | re.ASCII,
)
_ESCAPE: Final = re.compile(
    r"\\(?:(?P<plain>[abfnrtv\\?\"'`])|[xX](?P<hex>[0-9a-fA-F]{2})|(?P<octal>[0-3][0-7]{2})"
    r"|u(?P<short>[0-9a-fA-F]{4})|U(?P<long>[0-9a-fA-F]{8})|(?P<bad>.?))",
    re.DOTALL,
)
_PLAIN: Final = dict(zip("abfnrtv\\?\"'`", "\a\b\f\n\r\t\v\\?\"'`", strict=True))
_MAX_UINT: Final = 2**64 - 1
_LONGEST_INTEGER: Final = 20
"""Digits of the largest number; Python takes quadratic time for, and refuses, very long ones."""
INT_LIMIT: Final = 2**63
"""One more than the largest int: `-9223372036854775808` is written as minus and this number."""


class Kind(Enum):
    """What a token is."""

    LITERAL = "literal"
    NAME = "name"
    OPERATOR = "operator"
    END = "end of the expression"


@dataclass(frozen=True, slots=True)
class Token:
    """One token: `value` of a literal, `text` as written, `position` in characters from 0."""

    kind: Kind
    text: str
    position: int
    value: bool | int | float | str | bytes | None = None


def scan(expression: str) -> list[Token]:
    """Return the tokens, the last one END. Raises `CompileError` at text that is no token."""
    tokens: list[Token] = []
    position = 0
    while position < len(expression):
        match = _LEXEME.match(expression, position)
        if match is None:
            raise CompileError(f"unexpected character {expression[position]!r}", position)
        end = match.end()
        if match.lastgroup == "text":
            token, end = _scan_text(expression, match)
            tokens.append(token)
        elif match.lastgroup != "space":
            tokens.append(_token(match))
        position = end
    tokens.append(Token(Kind.END, "", len(expression)))
    return tokens


def is_grouped(expression: str) -> bool:
    """Say whether one pair of parentheses is around the whole expression. Raises `CompileError`."""
    depth = 0
    *found, _ = scan(expression)
    for index, token in enumerate(found):
        if token.kind is Kind.OPERATOR:
            depth += (token.text in {"(", "[", "{"}) - (token.text in {")", "]", "}"})
        if depth == 0:
            return index == len(found) - 1 > 0
    return False


def _token(match: re.Match[str]) -> Token:
    text, position = match[0], match.start()
    if match.lastgroup == "name":
        if text in _WORDS:
            return Token(Kind.LITERAL, text, position, _WORDS[text])
        return Token(Kind.OPERATOR if text == "in" else Kind.NAME, text, position)
    if match.lastgroup == "operator":
        return Token(Kind.OPERATOR, text, position)
    if match.lastgroup == "double":
        value = float(text)
        if value == float("inf"):
            raise CompileError("invalid double literal", position)
        return Token(Kind.LITERAL, text, position, value)
    return Token(Kind.LITERAL, text, position, _integer(text, position))


def _integer(text: str, position: int) -> int:
    unsigned = text[-1] in "uU"
    digits = text.rstrip("uU").removeprefix("0x").lstrip("0") or "0"
    number = int(digits, 16 if text.startswith("0x") else 10) if len(digits) <= _LONGEST_INTEGER else INT_LIMIT * 4
    if number > (_MAX_UINT if unsigned else INT_LIMIT):
        raise CompileError(f"invalid {'uint' if unsigned else 'int'} literal", position)
    return Uint(number) if unsigned else number


def _scan_text(expression: str, match: re.Match[str]) -> tuple[Token, int]:
    """Scan a string or bytes literal whose opening quote has matched; return it and where it ends."""
    prefix = match[0].rstrip("\"'").lower()
    quote = match[0][len(prefix) :]
    end = _find_quote(expression, match.end(), quote, raw="r" in prefix)
    body = expression[match.end() : end]
    if end < 0 or (len(quote) == 1 and ("\n" in body or "\r" in body)):
        raise CompileError("string literal is not closed", match.start())
    lines = body.replace("\r\n", "\n").replace("\r", "\n")
    value = _unescape(lines, match.end(), raw="r" in prefix, octets="b" in prefix)
    token = Token(Kind.LITERAL, expression[match.start() : end + len(quote)], match.start(), value)
    return token, end + len(quote)


def _find_quote(expression: str, start: int, quote: str, *, raw: bool) -> int:
    position = start
    while position < len(expression):
        if expression.startswith(quote, position):
            return position
        position += 2 if expression[position] == "\\" and not raw else 1
    return -1


def _unescape(body: str, start: int, *, raw: bool, octets: bool) -> str | bytes:
    pieces: list[str | bytes] = []
    position = 0
    for match in () if raw else _ESCAPE.finditer(body):
        pieces += [body[position : match.start()], _escape(match, start + match.start(), octets=octets)]
        position = match.end()
    pieces.append(body[position:])
    if octets:
        return b"".join(piece if isinstance(piece, bytes) else piece.encode() for piece in pieces)
    return "".join(piece for piece in pieces if isinstance(piece, str))


def _escape(match: re.Match[str], position: int, *, octets: bool) -> str | bytes:
    if match["plain"]:
        return _PLAIN[match["plain"]]
    if match["hex"] or match["octal"]:
        code = int(match["hex"], 16) if match["hex"] else int(match["octal"], 8)
        return bytes((code,)) if octets else chr(code)
    digits = match["short"] or match["long"]
    if not digits or octets:
        raise CompileError(f"invalid escape {match[0]!r}", position)
    code = int(digits, 16)
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise CompileError(f"invalid unicode code point {match[0]!r}", position)
    return chr(code)
