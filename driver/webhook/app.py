"""The webhook, composed: all parts meet here and nowhere else.

    API server ─ AdmissionReview ─► Server ─► core.reviewing ─► answer, log, metrics
                                      ▲            ▲
    mounted files ─► Certificates ────┘            └── Surroundings ◄─ watches of slices and classes

`accel-dra webhook` runs it until it is told to end. Stop order: say that it is not ready any more, answer what still
comes, close the port, end requests under way.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Final

from driver.core.reviewing import admission, reviews
from driver.core.reviewing.findings import Finding
from driver.core.reviewing.subjects import KINDS, Subject
from driver.kube import access
from driver.kube.client import Client
from driver.lifecycle import Service
from driver.model.occurrences import ClusterUnavailable, Occurrence
from driver.model.reviewing import ObjectReviewed, ReviewRefused
from driver.telemetry import logs
from driver.telemetry.endpoint import Endpoint
from driver.telemetry.webhook_metrics import WebhookMetrics
from driver.webhook.certificates import Certificates
from driver.webhook.serving import Server
from driver.webhook.settings import WebhookSettings
from driver.webhook.surroundings import Surroundings

_REPEAT_SECONDS: Final = 60.0
"""After which a failure of the API server that goes on is said again."""
_MOST_SAID: Final = 100
_OTHER: Final = "other"


class Webhook(Service):
    """The running webhook. A context manager: entering starts it, leaving stops it."""

    def __init__(self, settings: WebhookSettings) -> None:
        """Compose the parts; nothing runs yet. Raises `InvalidInput` for settings that cannot work."""
        self._settings = settings
        self._metrics = WebhookMetrics()
        self._said: dict[str, float] = {}
        self._is_ending = False
        self._stopped = threading.Event()
        self._certificates = Certificates(
            settings.tls_cert_file, settings.tls_key_file, settings.certificate_interval, self._tell
        )
        with contextlib.ExitStack() as made:
            self._client = self._make_client()
            if self._client is not None:
                made.callback(self._client.close)
            self._surroundings = Surroundings(self._client, settings.driver_name, self._complain)
            self._server = Server(
                settings.address, lambda: self._certificates.context, self._answer, self._note_refused
            )
            made.callback(self._server.stop)
            self._endpoint = self._make_endpoint()
            made.pop_all()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    @property
    def alive(self) -> bool:
        """True while the loops that never end are running; only a defect ends them."""
        return self._server.alive and self._certificates.alive

    @property
    def port(self) -> int:
        """Where reviews are answered."""
        return self._server.port

    @property
    def metrics_port(self) -> int:
        """Where /metrics is served; 0 if it is not."""
        return self._endpoint.port if self._endpoint else 0

    def start(self) -> None:
        """Start all parts."""
        if self._endpoint:
            self._endpoint.start()
        self._surroundings.start()
        self._certificates.start()
        self._server.start()

    def end(self) -> None:
        """Stop as a pod does that is taken out of its Service: what still comes is answered for a while."""
        self._is_ending = True
        self._stopped.wait(self._settings.shutdown_delay)
        self.stop()

    def stop(self) -> None:
        """Stop the parts in order. Safe after a start that failed half-way."""
        self._is_ending = True
        self._stopped.set()
        self._server.stop()
        self._certificates.stop()
        self._surroundings.stop()
        if self._endpoint:
            self._endpoint.stop()
        if self._client is not None:
            self._client.close()

    def _answer(self, body: bytes) -> bytes:
        """Answer one AdmissionReview. Raises `InvalidInput` for a body that is none."""
        begin = time.monotonic()
        stage = replace(self._surroundings.stage(), has_time=self._until(begin + self._settings.review_time))

        def judge(subject: Subject) -> Sequence[Finding]:
            return reviews.review(subject, self._settings.driver_name, stage)

        verdict = admission.answer(body, judge)
        self._tell(
            ObjectReviewed(
                kind=verdict.kind if verdict.kind in KINDS else _OTHER,
                name=verdict.name,
                operation=verdict.operation,
                faults=tuple(map(str, verdict.faults)),
                warnings=len(verdict.warnings),
                seconds=time.monotonic() - begin,
            )
        )
        return verdict.body

    @staticmethod
    def _until(deadline: float) -> Callable[[], bool]:
        return lambda: time.monotonic() < deadline

    def _make_client(self) -> Client | None:
        settings = self._settings
        if not settings.watch:
            return None
        return Client(access.load(settings.kubeconfig, os.environ), timeout=settings.api_timeout)

    def _make_endpoint(self) -> Endpoint | None:
        if not self._settings.metrics_address:
            return None
        pages: dict[str, Callable[[], tuple[int, bytes]]] = {
            "/metrics": self._show_metrics,
            "/healthz": lambda: (200, b"ok\n") if self.alive else (500, b"a worker has ended\n"),
            "/readyz": self._explain_readiness,
        }
        return Endpoint(self._settings.metrics_address, pages)

    def _show_metrics(self) -> tuple[int, bytes]:
        self._metrics.note_caches(self._surroundings.sizes, synced=not self._surroundings.missing)
        return 200, self._metrics.text()

    def _explain_readiness(self) -> tuple[int, bytes]:
        """Ready is who answers: what is known of the cluster only makes warnings better."""
        if self._is_ending:
            return 503, b"ending\n"
        return (200, b"ok\n") if self._server.alive else (503, b"not serving yet\n")

    def _tell(self, occurrence: Occurrence) -> None:
        """Count what happened, and log it unless nothing was found."""
        self._metrics.count(occurrence)
        if not isinstance(occurrence, ObjectReviewed) or occurrence.faults or occurrence.warnings:
            logs.log_occurrence(occurrence)

    def _note_refused(self, reason: str, error: str) -> None:
        self._tell(ReviewRefused(reason, error))

    def _complain(self, error: Exception) -> None:
        """Say what goes wrong with the API server; the same is counted each time and said once a minute."""
        occurrence, now = ClusterUnavailable(str(error) or type(error).__name__), time.monotonic()
        self._metrics.count(occurrence)
        if now < self._said.get(occurrence.error, float("-inf")) + _REPEAT_SECONDS:
            return
        if len(self._said) >= _MOST_SAID:
            self._said.clear()
        self._said[occurrence.error] = now
        logs.log_occurrence(occurrence)
