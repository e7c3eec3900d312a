"""Waiting for something that another thread does: polled, with a deadline far above what it takes."""

from __future__ import annotations

import time
from collections.abc import Callable

DEADLINE = 20.0


def wait_until(condition: Callable[[], object], what: str = "", deadline: float = DEADLINE) -> None:
    """Return as soon as the condition holds; fail after the deadline."""
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, f"did not happen within {deadline} s: {what or condition}"
        time.sleep(0.005)
