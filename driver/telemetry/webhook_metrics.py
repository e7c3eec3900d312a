"""Metrics of the webhook, fed by occurrences.

Names start with `accel_dra_webhook_`; docs/webhook.md lists them. One registry a process, made by the composition root.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from driver import __version__
from driver.model import occurrences, reviewing
from driver.model.occurrences import Occurrence

_PREFIX: Final = "accel_dra_webhook"
_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class WebhookMetrics:
    """All counters and gauges of the webhook, and the hooks that update them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._gauge("info", "1, with the version as a label.", "version").labels(__version__).set(1)
        self._reviews = self._counter("reviews", "Objects reviewed, by what became of the request.", "kind", "result")
        self._faults = self._counter("faults", "Faults found, of all objects.")
        self._warnings = self._counter("warnings", "Warnings given, of all objects.")
        self._refused = self._counter("refused_requests", "Requests that got no review, by reason.", "reason")
        self._seconds = Histogram(
            f"{_PREFIX}_review_duration_seconds", "Time to review an object.", buckets=_SECONDS, registry=self.registry
        )
        self._loads = self._counter("certificate_loads", "Times certificate and key were read, by result.", "result")
        self._expires = self._gauge("certificate_expiry_timestamp_seconds", "When the certificate in use ends.")
        self._objects = self._gauge("cache_objects", "Objects that are followed.", "kind")
        self._synced = self._gauge("cache_synced", "1 once slices and classes were read, else 0.")
        self._errors = self._counter("cluster_errors", "Times the API server did not answer as it should.")

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"{_PREFIX}_{name}", text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{_PREFIX}_{name}", text, labels, registry=self.registry)

    def text(self) -> bytes:
        """Return the exposition in Prometheus text format 0.0.4."""
        return generate_latest(self.registry)

    def count(self, occurrence: Occurrence) -> None:
        """Update metrics from something that happened."""
        match occurrence:
            case reviewing.ObjectReviewed():
                self._reviews.labels(occurrence.kind, "denied" if occurrence.faults else "allowed").inc()
                self._faults.inc(len(occurrence.faults))
                self._warnings.inc(occurrence.warnings)
                self._seconds.observe(occurrence.seconds)
            case reviewing.ReviewRefused():
                self._refused.labels(occurrence.reason).inc()
            case reviewing.CertificateLoaded():
                self._loads.labels("ok").inc()
                self._expires.set(occurrence.expires_at)
            case reviewing.CertificateRefused():
                self._loads.labels("refused").inc()
            case occurrences.ClusterUnavailable():
                self._errors.inc()

    def note_caches(self, sizes: Mapping[str, int], *, synced: bool) -> None:
        """Tell how much is followed."""
        self._synced.set(int(synced))
        for kind, size in sizes.items():
            self._objects.labels(kind).set(size)
