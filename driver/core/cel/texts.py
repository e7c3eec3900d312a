"""String functions: cel-go ext/strings version 2 and Kubernetes' regex functions. Part of the library's tables.

Positions count code points. Regular expressions are RE2 (linear time); Python's own module backtracks and is never used
on patterns from users, so `matches` and `find` need google-re2 (`pip install 'accel-dra[demo]'`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Final, Protocol

from driver.core.cel.conversions import Overloads
from driver.core.cel.errors import CompileError, EvaluationError
from driver.core.cel.values import Value

_QUOTED: Final = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
    '"': '\\"',
}


class Match(Protocol):
    """What a regular expression found."""

    def group(self) -> str:
        """Return the text."""


class Pattern(Protocol):
    """A compiled regular expression."""

    def search(self, text: str) -> object | None:
        """Return something if the pattern occurs in the text."""

    def finditer(self, text: str) -> Iterator[Match]:
        """Yield what the pattern finds, left to right."""


@lru_cache(maxsize=256)
def regex(pattern: str) -> Pattern:
    """Compile a regular expression with RE2. Raises `EvaluationError` if the pattern or the library is missing."""
    try:
        library = importlib.import_module("re2")
    except ImportError as error:
        raise CompileError("regular expressions need google-re2: pip install 'accel-dra[demo]'") from error
    options = library.Options()
    options.log_errors = False
    try:
        compiled: Pattern = library.compile(pattern, options)
    except library.error as error:
        raise EvaluationError(f"error parsing regexp: {_text(error)}: `{pattern}`") from error
    return compiled


def _text(error: Exception) -> str:
    reason = error.args[0] if error.args else ""
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)


def _matches(text: str, pattern: str) -> bool:
    return regex(pattern).search(text) is not None


def _find(text: str, pattern: str) -> str:
    return next((match.group() for match in regex(pattern).finditer(text)), "")


def _find_all(text: str, pattern: str, limit: int = -1) -> Value:
    found = [match.group() for match in regex(pattern).finditer(text)] if limit else []
    return found if limit < 0 else found[:limit]


def _checked(index: int, length: int) -> int:
    if not 0 <= index <= length:
        raise EvaluationError(f"index out of range: {index}")
    return index


def _char_at(text: str, index: int) -> str:
    _checked(index, len(text))
    return text[index : index + 1]


def _index_of(text: str, part: str, start: int = 0) -> int:
    return text.find(part, _checked(start, len(text)))


def _last_index_of(text: str, part: str, start: int | None = None) -> int:
    if start is None:
        return text.rfind(part)
    return text.rfind(part, 0, _checked(start, len(text)) + len(part))


def _substring(text: str, start: int, end: int | None = None) -> str:
    stop = _checked(len(text) if end is None else end, len(text))
    if _checked(start, len(text)) > stop:
        raise EvaluationError(f"invalid substring range. start: {start}, end: {stop}")
    return text[start:stop]


def _split(text: str, separator: str, limit: int = -1) -> Value:
    if limit == 0:
        return []
    if not separator:
        return list(text) if limit < 0 or len(text) <= limit else [*text[: limit - 1], text[limit - 1 :]]
    return text.split(separator, limit - 1 if limit > 0 else -1)


def _join(parts: list[Value], separator: str = "") -> str:
    if not all(isinstance(part, str) for part in parts):
        raise EvaluationError("no such overload: join takes strings")
    return separator.join(part for part in parts if isinstance(part, str))


def _change_case(text: str, change: Callable[[str], str]) -> str:
    return "".join(change(sign) if sign.isascii() else sign for sign in text)


def _quote(text: str) -> str:
    return f'"{"".join(_QUOTED.get(sign, sign) for sign in text)}"'


_TWO: Final = ("string", "string")
MATCHES: Final[Overloads] = {_TWO: _matches}
INDEX_OF: Final[Overloads] = {_TWO: _index_of, ("string", "string", "int"): _index_of}
LAST_INDEX_OF: Final[Overloads] = {_TWO: _last_index_of, ("string", "string", "int"): _last_index_of}
FUNCTIONS: Final[Mapping[str, Overloads]] = {"strings.quote": {("string",): _quote}}
METHODS: Final[Mapping[str, Overloads]] = {
    "startsWith": {_TWO: str.startswith},
    "endsWith": {_TWO: str.endswith},
    "contains": {_TWO: lambda text, part: part in text},
    "charAt": {("string", "int"): _char_at},
    "lowerAscii": {("string",): lambda text: _change_case(text, str.lower)},
    "upperAscii": {("string",): lambda text: _change_case(text, str.upper)},
    "trim": {("string",): str.strip},
    "replace": {("string", "string", "string"): str.replace, ("string", "string", "string", "int"): str.replace},
    "split": {_TWO: _split, ("string", "string", "int"): _split},
    "substring": {("string", "int"): _substring, ("string", "int", "int"): _substring},
    "join": {("list",): _join, ("list", "string"): _join},
    "find": {_TWO: _find},
    "findAll": {_TWO: _find_all, ("string", "string", "int"): _find_all},
}
