"""Where time and chance come from, so that tests can hold both still.

One `Sources` value is handed to everything that stamps objects. Must not be read from module level.
"""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
MAX_GENERATED = 63
_SUFFIX = 5


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _uid() -> str:
    return str(uuid.uuid4())


def _suffix() -> str:
    return "".join(random.choices(_ALPHABET, k=_SUFFIX))  # noqa: S311 - names, no secrets


@dataclass(frozen=True)
class Sources:
    """Clock, uids and the random ends of generated names."""

    now: Callable[[], dt.datetime] = field(default=_now)
    new_uid: Callable[[], str] = field(default=_uid)
    new_suffix: Callable[[], str] = field(default=_suffix)

    def timestamp(self) -> str:
        """Now as metav1.Time: whole seconds, UTC."""
        return format_time(self.now())

    def generate(self, base: str) -> str:
        """A name from generateName: the base cut to 58 characters, then five random ones."""
        return base[: MAX_GENERATED - _SUFFIX] + self.new_suffix()


def format_time(moment: dt.datetime) -> str:
    """metav1.Time: RFC 3339, seconds, Z."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_unix(seconds: int) -> str:
    """The same for Unix seconds."""
    return format_time(dt.datetime.fromtimestamp(seconds, dt.UTC))
