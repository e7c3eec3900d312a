"""A thread that does the same work whenever it is woken, and again after an error. Called by all simulated components.

Work is level-triggered: it looks at everything and does what is missing, so a wake-up too many does no harm.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from driver.model.errors import DriverError

RETRY_SECONDS: Final = 0.05
_MAX_RETRY_SECONDS: Final = 2.0


class Loop:
    """Runs `work` when woken. `work` returns the seconds after which it wants to run again anyway, or None."""

    def __init__(self, name: str, work: Callable[[], float | None]) -> None:
        self._work = work
        self._woken = threading.Event()
        self._stopping = False
        self._failures = 0
        self.last_error = ""
        """Of the last run; empty if it went well."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Run for the first time."""
        self._woken.set()
        self._thread.start()

    def wake(self) -> None:
        """Run soon."""
        self._woken.set()

    def stop(self) -> None:
        """End after the run in progress, and wait for it."""
        self._stopping = True
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        pause: float | None = None
        while True:
            self._woken.wait(pause)
            if self._stopping:
                return
            self._woken.clear()
            pause = self._run_once()

    def _run_once(self) -> float | None:
        try:
            pause = self._work()
        except DriverError as error:
            self._failures += 1
            self.last_error = str(error)
            return min(RETRY_SECONDS * 2.0 ** min(self._failures, 10), _MAX_RETRY_SECONDS)
        self._failures = 0
        self.last_error = ""
        return pause
