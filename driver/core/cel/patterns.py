"""Regular expressions of users, with RE2: linear time, whatever the pattern. Part of the library.

The only module that imports google-re2. Python's own module backtracks and is never used on patterns from users. A
pattern remembers its last answers, because many devices have the same product name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final, Protocol

import re2

from driver.core.cel.errors import EvaluationError
from driver.core.cel.values import Value

MAX_REMEMBERED: Final = 256
"""Answers that one pattern remembers, and patterns that are remembered."""


class Match(Protocol):
    """What a regular expression found."""

    def group(self) -> str:
        """Return the text."""

    def end(self) -> int:
        """Return where it ends."""

    def start(self) -> int:
        """Return where it starts."""


class Compiled(Protocol):
    """A compiled regular expression of RE2."""

    def search(self, text: str, pos: int = 0) -> Match | None:
        """Return the first place where the pattern occurs, from a position on."""


class Pattern:
    """A regular expression, compiled, with its last answers."""

    __slots__ = ("_compiled", "_remembered")

    def __init__(self, compiled: Compiled) -> None:
        self._compiled = compiled
        self._remembered: dict[str, bool] = {}

    def occurs(self, text: str) -> bool:
        """Say whether the pattern occurs in the text."""
        answer = self._remembered.get(text)
        if answer is None:
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            answer = self._remembered[text] = self._compiled.search(text) is not None
        return answer

    def find(self, text: str) -> str:
        """Return the first occurrence, or an empty text."""
        match = self._compiled.search(text)
        return "" if match is None else match.group()

    def find_all(self, text: str, limit: int) -> list[Value]:
        """Return the occurrences, at most `limit` of them if it is not negative.

        As in Go, an empty occurrence right behind another one does not count.
        """
        found: list[Value] = []
        position, previous = 0, -1
        while position <= len(text) and (limit < 0 or len(found) < limit):
            match = self._compiled.search(text, position)
            if match is None:
                break
            empty = match.end() == match.start()
            if not empty or match.start() != previous:
                found.append(match.group())
            previous = match.end()
            position = match.end() + empty
        return found


@lru_cache(maxsize=MAX_REMEMBERED)
def pattern(text: str) -> Pattern:
    """Compile a regular expression. Raises `EvaluationError`."""
    options = re2.Options()
    options.log_errors = False
    try:
        return Pattern(re2.compile(text, options))
    except re2.error as error:
        raise EvaluationError(f"error parsing regexp: {_reason(error)}: `{text[:100]}`") from error


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else ""
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)


def _find_all(text: str, regex: str, limit: int = -1) -> Value:
    return pattern(regex).find_all(text, limit)


def _matches(text: str, regex: str) -> bool:
    return pattern(regex).occurs(text)


FUNCTIONS: Final[Mapping[str, Callable[..., Value]]] = {
    "matches": _matches,
    "matches_string": _matches,
    "string_find_string": lambda text, regex: pattern(regex).find(text),
    "string_find_all_string": _find_all,
    "string_find_all_string_int": _find_all,
}
"""Functions by the ids of their overloads."""
