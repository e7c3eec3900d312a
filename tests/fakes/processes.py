"""Processes of tests: none outlives its test, whatever the test does."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from typing import AnyStr


@contextlib.contextmanager
def ending(process: subprocess.Popen[AnyStr]) -> Iterator[subprocess.Popen[AnyStr]]:
    """Kill the process at the end of the block unless it has ended, and wait for it."""
    with process:
        try:
            yield process
        finally:
            process.kill()
