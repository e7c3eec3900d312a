"""Does something that may never return, and waits for it no longer than a while. Called by `binding`.

The kernel takes a device from its driver inside a write to sysfs, and a driver whose device is in use may hold that
write up until it is free, deaf to signals. Such a write goes on by itself after we have given up waiting. Promises that
at most one of them is under way for each device, and that nothing else is done to that device meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

_T = TypeVar("_T")


class StillBusy(Exception):  # noqa: N818 - said of the device, as in "it is still busy"
    """The kernel has not come back in time. What was begun goes on."""


@dataclass(slots=True)
class _Attempt(Generic[_T]):
    action: Callable[[], _T]
    finished: threading.Event = field(default_factory=threading.Event)
    results: list[_T] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    def run(self) -> None:
        try:
            self.results.append(self.action())
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            self.errors.append(error)
        self.finished.set()


class Patience:
    """Waits at most `seconds` for each thing done to a device."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()
        self._busy: dict[str, threading.Event] = {}

    def do(self, address: str, action: Callable[[], _T], seconds: float | None = None) -> _T:
        """Do something to the device at `address` and return what it returns, or raise what it raises.

        Raises `StillBusy` after `seconds`; also, without doing it, if something begun before is still under way then.
        """
        limit = self.seconds if seconds is None else seconds
        attempt = _Attempt(action)
        with self._lock:
            before = self._busy.get(address)
            if before is None or before.is_set():
                self._busy[address] = attempt.finished
                before = None
        if before is not None:
            return self._after(before, address, action, limit)
        threading.Thread(target=attempt.run, name=f"pci {address}", daemon=True).start()
        if not attempt.finished.wait(limit):
            raise StillBusy
        if attempt.errors:
            raise attempt.errors[0]
        return attempt.results[0]

    def _after(self, before: threading.Event, address: str, action: Callable[[], _T], limit: float) -> _T:
        if not before.wait(limit):
            raise StillBusy
        return self.do(address, action, limit)
