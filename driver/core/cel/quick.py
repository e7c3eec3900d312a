"""Small functions that generated code calls. Each gives the exact value or raises; never a wrong value.

Called by generating alone. Where a value has a type that is rare here, they raise `TypeError`: the interpreter then
finds the exact answer, which may be an error.
"""

from __future__ import annotations

from typing import Final

from driver.core.cel import texts, values
from driver.core.cel.values import Value

LARGEST_PLAIN: Final = 2**53
"""Integers up to here equal the same numbers in Python and in CEL, doubles included."""


def truth(value: Value) -> bool:
    """Return a bool. Raises `TypeError` for anything else."""
    if value is True or value is False:
        return value
    raise TypeError("not a bool")


def equals_int(value: Value, number: int) -> bool:
    """Compare an attribute with a constant."""
    return value == number and value.__class__ is not bool


def contains(text: Value, part: str) -> bool:
    """Say whether a text contains another."""
    if text.__class__ is str and isinstance(text, str):
        return part in text
    raise TypeError("not a text")


def lower(text: Value) -> str:
    """Return a text in lower case, as far as it is ASCII."""
    if isinstance(text, str):
        return text.lower() if text.isascii() else texts.lower_ascii(text)
    raise TypeError("not a text")


def upper(text: Value) -> str:
    """Return a text in upper case, as far as it is ASCII."""
    if isinstance(text, str):
        return texts.upper_ascii(text)
    raise TypeError("not a text")


def present(container: Value, key: Value) -> bool:
    """Say whether a map has a key, a list an index."""
    if isinstance(container, values.Optional):
        raise TypeError("an optional")
    return values.find(container, key).present


def get(container: Value, key: Value) -> Value:
    """Return `container[key]`."""
    if isinstance(container, values.Optional):
        raise TypeError("an optional")
    return values.get(container, key)
