"""One check and what it found, as values, and the runner that keeps checks apart.

Called by `cli.doctor`. It promises that every check ends, whatever it does: a failure, a hang or a bug of one check is
a finding of that check and nothing more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from driver.model.errors import DriverError

SLOW: Final = 1.0
"""Seconds after which a person wants to know what takes so long."""


class Level(Enum):
    """How good it is. Only FAILED makes the doctor's exit code 1."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: what is so, and what to do about it (empty where nothing is to be done)."""

    level: Level
    text: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """Something to look at. `look` may raise any `DriverError`; it is called once, in a thread of its own."""

    name: str
    title: str
    """What is looked at, for the progress line: "asking the API server"."""
    look: Callable[[], Iterable[Finding]]
    limit: float = 30.0
    """Seconds after which the check is given up."""


def ok(text: str) -> Finding:
    """Return a finding that needs nothing."""
    return Finding(Level.OK, text)


def warning(text: str, advice: str) -> Finding:
    """Return a finding with which the plugin works, with a limitation."""
    return Finding(Level.WARNING, text, advice)


def failed(text: str, advice: str) -> Finding:
    """Return a finding with which the plugin does not do its work."""
    return Finding(Level.FAILED, text, advice)


def amount(number: int, noun: str) -> str:
    """Return `1 slice` or `3 slices`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def examine(check: Check, on_slow: Callable[[str], None]) -> tuple[Finding, ...]:
    """Run one check and return its findings; none if there was nothing to look at.

    `on_slow` is called with the title after a second.
    """
    found: list[Finding] = []
    ended = threading.Event()

    def run() -> None:
        found.extend(_look(check))
        ended.set()

    # A daemon, because a driver call that hangs in the kernel cannot be ended; it must not keep the process.
    threading.Thread(target=run, name=f"check-{check.name}", daemon=True).start()
    if not ended.wait(min(SLOW, check.limit)):
        on_slow(check.title)
        if not ended.wait(max(0.0, check.limit - SLOW)):
            advice = "see what it waits for: the driver's log (dmesg), a stuck mount, a firewall that drops packets"
            return (failed(f"{check.title}: no answer within {check.limit:g} s", advice),)
    return tuple(found)


def _look(check: Check) -> list[Finding]:
    """Return the findings, those before an error included."""
    found: list[Finding] = []
    try:
        found.extend(check.look())
    except DriverError as error:
        found.append(failed(str(error), "see the message"))
    except Exception as error:  # noqa: BLE001 - the other checks go on, and a person gets a sentence, no traceback
        advice = "this is a defect of the check itself: please report it with this line"
        found.append(failed(f"the check {check.name} broke: {type(error).__name__}: {error}", advice))
    return found
