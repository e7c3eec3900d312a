"""How an error repeats what a person wrote: in JSON's words, on one line, and not more of it than is read.

Called by whoever raises `InvalidInput` about a document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from driver.core import suggesting

_SHOWN: Final = 80
"""Characters of a wrong value that an error repeats."""
_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


@dataclass(frozen=True, slots=True, repr=False)
class Written:
    """What an error repeats as it is, without quotation marks: a word or value of JSON."""

    text: str

    def __repr__(self) -> str:
        return self.text


NOTHING: Final = Written("nothing")
"""Stands for a field that is not there."""


def shorten(text: str) -> str:
    """Return a wrong value as an error repeats it: not more of it than a person reads."""
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def show(value: object) -> object:
    """Return a value that was read from JSON as an error repeats it: `null` and `true` and no words of Python's."""
    if isinstance(value, Written):
        return Written(shorten(value.text))
    if isinstance(value, str):
        return shorten(value)
    if value is None or isinstance(value, bool | dict | list | tuple):
        text = shorten(json.dumps(value, ensure_ascii=False, default=str))
        return Written(text if text.isprintable() else shorten(json.dumps(value, default=str)))
    return value


def name(written: str) -> str:
    """Return the name of a field as a path repeats it: quoted if it could be mistaken for something else."""
    return shorten(written if _PLAIN.fullmatch(written) else repr(written))


def list_names(known: Iterable[str], written: object) -> str:
    """Return all that is allowed, and which of it was probably meant."""
    names = tuple(known)
    nearest = suggesting.find_nearest(written, names) if isinstance(written, str) else None
    return ", ".join(names) + (f" ({nearest} was probably meant)" if nearest else "")
