"""The controller, composed: THE PAGE TO READ FIRST. All parts meet here and nowhere else.

    API server ─ watches ─► Caches ─ World ─► Leader ─► Term ─ finalizer, allocation ─► API server
                              │               ▲  │
    Lease ─► Elector ── term ─┼───────────────┘  └─► Teller ─► log, metrics, Events on claims and pods
                              └─ slices, classes ─► Devices (the allocator)

`accel-dra controller` runs it until it is told to end. Several may run at once, as during an upgrade: all follow the
cluster, one leads. Stop order: end the round under way, then give the lease back, so that nothing is written after it.
"""

from __future__ import annotations

import datetime as dt
import os
import socket
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Final

from driver.controller.allocation import Devices
from driver.controller.caches import Caches
from driver.controller.leading import Leader, Parts
from driver.controller.pulses import Pulse
from driver.controller.settings import ControllerSettings
from driver.controller.telling import Teller
from driver.controller.terms import Hands, Job, Term
from driver.core.deciding.memory import Memory
from driver.core.deciding.notices import Notices
from driver.kube import access
from driver.kube.allocations import StoredClaims
from driver.kube.client import Client
from driver.kube.events import EventWriter
from driver.kube.lease import Elector, StoredLease
from driver.lifecycle import Service
from driver.model.occurrences import LeadershipChanged
from driver.telemetry import logs
from driver.telemetry.controller_metrics import ControllerMetrics
from driver.telemetry.endpoint import Endpoint

REPORTER: Final = "accel-dra.dev/controller"
"""Who reports our Events."""
_WRITERS: Final = 8
"""Requests at the same time; the connections of the pool are shared with the watches."""


class Controller(Service):
    """The running controller. A context manager: entering starts it, leaving stops it."""

    def __init__(self, settings: ControllerSettings) -> None:
        """Compose the parts; nothing runs yet. Raises `InvalidInput` for settings that cannot work."""
        self._settings = settings
        # Two processes must never take each other's lease for their own, also not one that starts anew in its pod.
        self._identity = f"{settings.pod_name or socket.gethostname()}_{uuid.uuid4().hex[:12]}"
        self._metrics = ControllerMetrics()
        self._client = Client(access.load(settings.kubeconfig, os.environ), timeout=settings.api_timeout)
        self._events = EventWriter(self._client, REPORTER, self._identity, emit=logs.log_occurrence)
        self._teller = Teller(self._metrics, self._events)
        self._pulse = Pulse()
        self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="writer")
        self._caches = Caches(self._client, self._pulse.wake, self._complain)
        self._elector = self._make_elector()
        self._leader = Leader(self._make_parts())
        self._endpoint = self._make_endpoint()

    @property
    def alive(self) -> bool:
        """True while the loops that never end are running; only a defect ends them."""
        return self._leader.alive and self._elector.alive

    @property
    def leads(self) -> bool:
        """True while this controller may write."""
        return self._elector.term is not None

    @property
    def port(self) -> int:
        """Where /metrics is served; 0 if it is not."""
        return self._endpoint.port if self._endpoint else 0

    def start(self) -> None:
        """Start all parts."""
        if self._endpoint:
            self._endpoint.start()
        self._events.start()
        self._caches.start()
        self._leader.start()
        self._elector.start()

    def stop(self) -> None:
        """Stop the parts in order. Safe after a start that failed half-way."""
        self._leader.stop()
        if not self._leader.alive:
            self._elector.stop()
        self._writers.shutdown(wait=False, cancel_futures=True)
        self._caches.stop()
        self._events.stop()
        if self._endpoint:
            self._endpoint.stop()
        self._client.close()

    def _make_elector(self) -> Elector:
        settings = self._settings
        lease = StoredLease(self._client, settings.namespace, settings.lease_name)
        return Elector(lease, self._identity, settings.terms, self._hear_election, self._complain)

    def _hear_election(self) -> None:
        self._teller.tell(LeadershipChanged(self._elector.term is not None, self._elector.holder))
        self._pulse.wake()

    def _make_parts(self) -> Parts:
        settings = self._settings
        return Parts(
            caches=self._caches,
            devices=Devices(self._caches, settings.driver_name, settings.fence_delay),
            pulse=self._pulse,
            teller=self._teller,
            metrics=self._metrics,
            term=lambda: self._elector.term,
            open_term=self._open_term,
            make_notices=lambda: Notices(settings.explain_after, settings.explain_again),
            explain_every=settings.explain_every,
        )

    def _open_term(self, number: int) -> Term:
        hands = Hands(
            claims=StoredClaims(self._client, self._settings.terms.longest_write),
            leads=lambda: self._elector.term == number and not self._pulse.stopped,
            do_all=self._do_all,
            clock=time.monotonic,
            now=lambda: dt.datetime.now(dt.UTC),
        )
        return Term(hands, Memory(self._settings.patience))

    def _do_all(self, jobs: Sequence[Job]) -> None:
        if len(jobs) == 1:
            jobs[0]()
            return
        futures = [self._writers.submit(job) for job in jobs]
        wait(futures)  # all of them, also if one fails: none may go on while the next round decides
        for future in futures:
            future.result()

    def _complain(self, error: Exception) -> None:
        self._teller.tell_failure(error)

    def _make_endpoint(self) -> Endpoint | None:
        if not self._settings.metrics_address:
            return None
        pages: dict[str, Callable[[], tuple[int, bytes]]] = {
            "/metrics": lambda: (200, self._metrics.text()),
            "/healthz": lambda: (200, b"ok\n") if self.alive else (500, b"a worker has ended\n"),
            "/readyz": self._explain_readiness,
        }
        return Endpoint(self._settings.metrics_address, pages)

    def _explain_readiness(self) -> tuple[int, bytes]:
        """Ready is who could lead: a controller that stands by is as ready as the one that leads."""
        missing = self._caches.missing
        if missing:
            return 503, f"not read yet: {', '.join(missing)}\n".encode()
        return 200, b"ok\n"
