"""JSON as people write it: the text of opaque parameters as objects that remember which of their fields are repeated.

Called by `documents`. Promises: `InvalidInput` is the only error, whatever the text is. What is valid for Python but
no JSON (NaN, Infinity), and numbers too large for anything, become words that no field takes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Final

from driver.core import quoting, surrogates
from driver.core.quoting import Written
from driver.model.errors import InvalidInput

MAX_BYTES: Final = 10 * 1024
"""Bytes of opaque parameters that the API server stores (OpaqueParametersMaxLength)."""
MAX_DEPTH: Final = 16
"""Objects and lists within each other; no kind of ours comes near."""
_MAX_DIGITS: Final = 30
_ALLOWED: Final = "a JSON object with apiVersion and kind"


class Fields(dict[str, object]):
    """A JSON object. Of a name that is repeated it has the last value, and `pairs` has all."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: Sequence[tuple[str, object]]) -> None:
        super().__init__(pairs)
        self.pairs = tuple(pairs)

    @property
    def repeated(self) -> tuple[str, ...]:
        """The names that are written more than once."""
        if len(self.pairs) == len(self):
            return ()
        counts = Counter(name for name, _ in self.pairs)
        return tuple(name for name, count in counts.items() if count > 1)


def decode(text: bytes) -> Fields:
    """Return the object that a text holds. Raises `InvalidInput`, of the whole text, if it is none."""
    if len(text) > MAX_BYTES:
        raise InvalidInput("", Written(f"a text of {len(text)} bytes"), f"at most {MAX_BYTES} bytes")
    try:
        content = surrogates.mend(text).decode()
        if _measure_depth(content) > MAX_DEPTH:
            raise InvalidInput("", quoting.shorten(content), f"{_ALLOWED}, at most {MAX_DEPTH} levels deep")
        value = parse(content)
    except ValueError as error:
        shown = quoting.shorten(text.decode("utf-8", "backslashreplace"))
        raise InvalidInput("", shown, f"{_ALLOWED} ({quoting.shorten(str(error))})") from error
    if not isinstance(value, Fields):
        raise InvalidInput("", quoting.show(value), _ALLOWED)
    return value


def parse(content: str) -> object:
    """Return what a JSON text says, its objects as `Fields`. Raises ValueError, or RecursionError if it is deep."""
    value: object = json.loads(
        content, object_pairs_hook=Fields, parse_int=_read_whole, parse_float=_read_float, parse_constant=Written
    )
    return value


def _read_whole(digits: str) -> int | Written:
    return int(digits) if len(digits) <= _MAX_DIGITS else Written(digits)


def _read_float(digits: str) -> float | Written:
    number = float(digits)
    return Written(digits) if number in (float("inf"), float("-inf")) else number


def _measure_depth(text: str) -> int:
    """Return how many brackets are open at most. Those inside of texts count, too, unless few are there at all."""
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return 0
    depth = deepest = 0
    inside = escaped = False
    for letter in text:
        if inside:
            inside = escaped or letter != '"'
            escaped = letter == "\\" and not escaped
        elif letter == '"':
            inside = True
        elif letter in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif letter in "}]":
            depth -= 1
    return deepest
