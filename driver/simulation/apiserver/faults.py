"""Faults on purpose: what a test can make the server do to its clients.

`ApiServer.faults` is one of these; a test changes it while the server runs. Each fault applies to requests that its
filter chooses and is spent by each request it hits. The HTTP edge asks once a request. Thread-safe.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from driver.simulation.apiserver.requests import Request


def everything(_request: Request) -> bool:
    """Chooses every request."""
    return True


@dataclass
class Fault:
    """One fault. `status` answers so, with `retry_after` seconds in the header; `cut` hangs up and does nothing;

    `lost` does what was asked and hangs up instead of answering; `latency` seconds pass before anything else happens.
    `times` is how often it hits (None for always).
    """

    chooses: Callable[[Request], bool] = everything
    status: int = 0
    retry_after: int | None = None
    cut: bool = False
    lost: bool = False
    latency: float = 0.0
    times: int | None = 1


def _ends(fault: Fault) -> bool:
    """Whether it decides the request, so that only one such fault can hit it."""
    return bool(fault.status) or fault.cut or fault.lost


@dataclass
class Faults:
    """The faults of one server, and how its watches break."""

    _planned: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _cutters: set[Callable[[], None]] = field(default_factory=set)

    def add(self, fault: Fault) -> Fault:
        """Plans a fault; several that fit the same request hit one after the other, latency adds up."""
        with self._lock:
            self._planned.append(fault)
        return fault

    def slow_down(self, seconds: float, *, times: int | None = None) -> Fault:
        """Every request takes this much longer."""
        return self.add(Fault(latency=seconds, times=times))

    def refuse(self, status: int, *, times: int | None = 1, retry_after: int | None = None) -> Fault:
        """The next `times` requests are answered with `status` (429, 500, 503 …)."""
        return self.add(Fault(status=status, retry_after=retry_after, times=times))

    def cut(self, *, times: int | None = 1) -> Fault:
        """The next `times` connections are closed before anything is done."""
        return self.add(Fault(cut=True, times=times))

    def lose(self, *, times: int | None = 1) -> Fault:
        """The next `times` requests are carried out, but their answers never arrive."""
        return self.add(Fault(lost=True, times=times))

    def clear(self) -> None:
        """Everything works again."""
        with self._lock:
            self._planned.clear()

    def hit(self, request: Request) -> Fault:
        """What happens to a request, as one fault; a plain `Fault()` means nothing."""
        total = Fault()
        with self._lock:
            for fault in list(self._planned):
                if (_ends(fault) and _ends(total)) or not fault.chooses(request):
                    continue
                total.latency += fault.latency
                total.status, total.cut = fault.status or total.status, fault.cut or total.cut
                total.lost = fault.lost or total.lost
                total.retry_after = fault.retry_after if fault.retry_after is not None else total.retry_after
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times <= 0:
                        self._planned.remove(fault)
        return total

    def cut_watches(self) -> None:
        """Breaks every open watch without a last chunk, as a lost connection does."""
        with self._lock:
            cutters = list(self._cutters)
        for cutter in cutters:
            cutter()

    def watching(self, cutter: Callable[[], None]) -> Callable[[], None]:
        """Registers how to break one watch; returns how to forget it. Called by the HTTP edge."""
        with self._lock:
            self._cutters.add(cutter)

        def forget() -> None:
            with self._lock:
                self._cutters.discard(cutter)

        return forget
