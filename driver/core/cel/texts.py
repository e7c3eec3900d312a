"""String functions: cel-go ext/strings version 2. Part of the library.

Positions count code points. What would grow beyond `MAX_LENGTH` is refused: it costs more to look at than is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from driver.core.cel.errors import Cancelled, EvaluationError
from driver.core.cel.values import Value

MAX_LENGTH: Final = 10_000_000
"""Characters; looking at each costs a tenth of a unit, and a million units are allowed."""
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
_SPACE: Final = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""What Go calls white space."""


def check_length(length: int) -> None:
    """Raise `Cancelled` for a text that nobody could afford to look at."""
    if length > MAX_LENGTH:
        raise Cancelled


def _char_at(text: str, index: int) -> str:
    if not 0 <= index <= len(text):
        raise EvaluationError(f"index out of range: {index}")
    return text[index : index + 1]


def _index_of(text: str, part: str, start: int = 0) -> int:
    if not part:
        return start
    if start < 0:
        raise EvaluationError(f"index out of range: {start}")
    return text.find(part, start)


def _last_index_of(text: str, part: str, start: int | None = None) -> int:
    if start is None:
        return text.rfind(part)
    if not part:
        return start
    if start < 0:
        raise EvaluationError(f"index out of range: {start}")
    return text.rfind(part, 0, start + len(part)) if start < len(text) else -1


def _substring(text: str, start: int, end: int | None = None) -> str:
    stop = len(text) if end is None else end
    if end is not None and start > stop:
        raise EvaluationError(f"invalid substring range. start: {start}, end: {stop}")
    for index in (start, stop):
        if not 0 <= index <= len(text):
            raise EvaluationError(f"index out of range: {index}")
    return text[start:stop]


def _replace(text: str, old: str, new: str, count: int = -1) -> str:
    places = text.count(old)
    if 0 <= count < places:
        places = count
    check_length(len(text) + places * max(0, len(new) - len(old)))
    return text.replace(old, new, count if count >= 0 else -1)


def _split(text: str, separator: str, limit: int = -1) -> Value:
    if limit == 0:
        return []
    if not separator:
        return list(text) if limit < 0 or len(text) <= limit else [*text[: limit - 1], text[limit - 1 :]]
    return text.split(separator, limit - 1 if limit > 0 else -1)


def _join(parts: list[Value], separator: str = "") -> str:
    texts = [part for part in parts if isinstance(part, str)]
    if len(texts) != len(parts):
        raise EvaluationError("join: invalid input: not all elements are strings")
    check_length(sum(map(len, texts)) + len(separator) * len(texts))
    return separator.join(texts)


def lower_ascii(text: str) -> str:
    """Return the text with A to Z in lower case."""
    return text.lower() if text.isascii() else "".join(sign.lower() if sign.isascii() else sign for sign in text)


def upper_ascii(text: str) -> str:
    """Return the text with a to z in upper case."""
    return text.upper() if text.isascii() else "".join(sign.upper() if sign.isascii() else sign for sign in text)


def _quote(text: str) -> str:
    return f'"{"".join(_QUOTED.get(sign, sign) for sign in text)}"'


FUNCTIONS: Final[Mapping[str, Callable[..., Value]]] = {
    "contains_string": lambda text, part: part in text,
    "starts_with_string": str.startswith,
    "ends_with_string": str.endswith,
    "string_char_at_int": _char_at,
    "string_index_of_string": _index_of,
    "string_index_of_string_int": _index_of,
    "string_last_index_of_string": _last_index_of,
    "string_last_index_of_string_int": _last_index_of,
    "string_lower_ascii": lower_ascii,
    "string_upper_ascii": upper_ascii,
    "string_trim": lambda text: text.strip(_SPACE),
    "string_replace_string_string": _replace,
    "string_replace_string_string_int": _replace,
    "string_split_string": _split,
    "string_split_string_int": _split,
    "string_substring_int": _substring,
    "string_substring_int_int": _substring,
    "strings_quote": _quote,
    "list_join": _join,
    "list_join_string": _join,
}
"""Functions by the ids of their overloads."""
