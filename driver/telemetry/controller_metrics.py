"""Metrics of the controller, fed by occurrences and by what each round found.

Names start with `accel_dra_`; docs/controller.md lists them. One registry a process, made by the composition root.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from driver import __version__
from driver.model import occurrences
from driver.model.occurrences import Occurrence

_PREFIX: Final = "accel_dra"
_WAITS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)
_ROUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class ControllerMetrics:
    """All counters and gauges of the controller, and the hooks that update them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._gauge("controller_info", "1, with the version as a label.", "version").labels(__version__).set(1)
        self._leads = self._gauge("leader", "1 while this controller leads, else 0.")
        self._terms = self._counter("leadership_changes", "Times this controller began or ceased to lead.")
        self._allocations = self._counter("allocations", "Allocations written, or not, by result.", "result")
        self._returned = self._counter("allocations_returned", "Allocations taken back because nobody used them.")
        self._waited = self._histogram(
            "time_to_allocation_seconds", "From when a claim was first seen by this leader to its allocation.", _WAITS
        )
        self._rounds = self._histogram("round_duration_seconds", "Time to decide once and write it.", _ROUNDS)
        self._pending = self._gauge("pending_claims", "Claims without an allocation, by why they wait.", "reason")
        self._objects = self._gauge("cache_objects", "Objects that are followed.", "kind")
        self._synced = self._gauge("cache_synced", "1 once everything was read, else 0.")
        self._faults = self._counter("cluster_errors", "Times the API server did not answer as it should.")
        self._free = self._gauge(
            "free_devices", "Devices of our pools that are free, by node and interconnect domain.", "node", "domain"
        )
        self._largest = self._gauge(
            "largest_free_memory_bytes",
            "Memory of the largest device that can still be had on a node, by the profile of a partition or the type.",
            "node",
            "profile",
        )

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"{_PREFIX}_{name}", text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{_PREFIX}_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"{_PREFIX}_{name}", text, buckets=buckets, registry=self.registry)

    def text(self) -> bytes:
        """Return the exposition in Prometheus text format 0.0.4."""
        return generate_latest(self.registry)

    def count(self, occurrence: Occurrence) -> None:
        """Update metrics from something that happened."""
        match occurrence:
            case occurrences.LeadershipChanged():
                self._leads.set(int(occurrence.leads))
                self._terms.inc()
            case occurrences.ClaimAllocated():
                self._allocations.labels("ok").inc()
                self._waited.observe(occurrence.seconds)
            case occurrences.AllocationFailed():
                self._allocations.labels(occurrence.reason).inc()
            case occurrences.AllocationReturned():
                self._returned.inc()
            case occurrences.ClusterUnavailable():
                self._faults.inc()

    def note_round(self, seconds: float, pending: Mapping[str, int]) -> None:
        """Count a round, and what it left waiting by reason."""
        self._rounds.observe(seconds)
        self._pending.clear()
        for reason, count in pending.items():
            self._pending.labels(reason).set(count)

    def note_caches(self, sizes: Mapping[str, int], *, synced: bool) -> None:
        """Tell how much is followed."""
        self._synced.set(int(synced))
        for kind, size in sizes.items():
            self._objects.labels(kind).set(size)

    def note_devices(self, free: Mapping[tuple[str, str], int], largest: Mapping[str, tuple[str, int]]) -> None:
        """Tell free devices by node and interconnect domain, and the largest device of each node with its bytes."""
        self._free.clear()
        for (node, domain), count in free.items():
            self._free.labels(node, domain).set(count)
        self._largest.clear()
        for node, (profile, size) in largest.items():
            self._largest.labels(node, profile).set(size)

    def forget(self) -> None:
        """Tell nothing of the cluster any more: somebody else leads."""
        for gauge in (self._pending, self._free, self._largest):
            gauge.clear()
