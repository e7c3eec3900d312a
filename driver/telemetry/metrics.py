"""Metrics of the driver itself, fed by occurrences. The only folder that imports prometheus_client.

Names start with `accel_dra_`; docs/operations.md lists them. One registry a process, made by the composition root.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from driver import __version__
from driver.model import occurrences, quantities, vocabulary
from driver.model.occurrences import Occurrence
from driver.model.prepared import Record

_PREFIX: Final = "accel_dra"
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0)

_SHARE_LABELS: Final = ("device", "share_id", "namespace", "claim")


class Metrics:
    """All counters and gauges of the node plugin, and the hook that updates them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._known_omitted: set[str] = set()
        self._gauge("build_info", "1, with the version as a label.", "version").labels(__version__).set(1)
        self._requests = Histogram(
            f"{_PREFIX}_request_duration_seconds",
            "Time to answer the kubelet for one claim, failures included.",
            ["operation", "result"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._errors = self._counter(
            "request_errors",
            "Claims that could not be prepared or unprepared, by type of error.",
            "operation",
            "reason",
        )
        self._devices = self._gauge("devices", "Devices published by this node.")
        self._omitted = self._gauge("devices_omitted", "1 for each device that is there and not published.", "device")
        self._hardware = self._gauge("hardware_available", "1 while the vendor's driver answers, else 0.")
        self._scan = Histogram(
            f"{_PREFIX}_hardware_scan_duration_seconds", "Time to look at the hardware.", registry=self.registry
        )
        self._slices = self._gauge("slices", "ResourceSlices of this node's pool.")
        self._generation = self._gauge("pool_generation", "Generation of the pool.")
        self._writes = self._counter("slice_writes", "ResourceSlices written.", "operation")
        self._publish_errors = self._counter("publish_errors", "Rounds of publishing that failed.", "reason")
        self._dropped = self._counter("fields_dropped", "Times the API server stored less than was sent.", "feature")
        self._withheld = self._gauge("devices_withheld", "Devices that the API server cannot hold.")
        self._authority = self._gauge(
            "pool_authority",
            "1 for who allocates this node's pool; `wanted` is the setting, another one while the server drops taints.",
            "authority",
            "wanted",
        )
        self._quarantined = self._counter("records_quarantined", "Records that could not be read.")
        self._stale = self._counter("stale_claims_released", "Claims released because they exist no longer.")
        self._registered = self._gauge("registered", "1 once the kubelet accepted the registration.")
        self._recovered = self._counter("recovered", "What recovery at start repaired.", "kind")
        self._health = self._counter(
            "health_events", "Faults of devices and their ends, as the vendor reported them.", "severity"
        )

        self._prepared = self._gauge("prepared_devices", "Devices and shares of devices that claims hold.")
        self._share_percent = self._gauge(
            "share_percent", "Compute that a claim's share has, percent of its device.", *_SHARE_LABELS
        )
        self._share_memory = self._gauge("share_memory_bytes", "Memory that a claim's share has.", *_SHARE_LABELS)
        self._prepare_hardware()

    def _prepare_hardware(self) -> None:
        """Make what counts changes of hardware, and daemons."""
        self._daemons = self._gauge(
            "daemon_up", "1 while a daemon of the vendor's runs, 0 while it is down and started again.", "daemon"
        )
        self._daemon_starts = self._counter(
            "daemon_starts", "Daemons that were started, found running since an earlier process, or again.", "how"
        )
        self._states = self._gauge(
            "accelerator_state",
            "1 for the state of an accelerator: free, whole, partitioned, shared, passthrough, failing.",
            "accelerator",
            "state",
        )
        self._mode = self._gauge("partition_mode", "1 for the mode of partitions that holds.", "mode")
        self._steps = Histogram(
            f"{_PREFIX}_step_duration_seconds",
            "Time to change hardware for a claim, or to find it changed; operation run or undo.",
            ["step", "operation"],
            buckets=_BUCKETS,
            registry=self.registry,
        )

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"{_PREFIX}_{name}", text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{_PREFIX}_{name}", text, labels, registry=self.registry)

    def show_claims(self, records: Iterable[Record]) -> None:
        """Show what claims hold now. A share is named by its id, as in the claim's allocation."""
        held = [(record, device) for record in records for device in record.devices]
        self._prepared.set(len(held))
        self._share_percent.clear()
        self._share_memory.clear()
        for record, device in held:
            if device.shared:
                labels = (device.device, device.share_id or "", record.namespace, record.name)
                _show_amount(self._share_percent, labels, device.consumed_capacity.get(vocabulary.SHARE))
                _show_amount(self._share_memory, labels, device.consumed_capacity.get(vocabulary.MEMORY))

    def show_states(self, states: Mapping[str, str]) -> None:
        """Show what is going on with each accelerator, by the name of its whole device."""
        self._states.clear()
        for accelerator, state in states.items():
            self._states.labels(accelerator, state).set(1)

    def text(self) -> bytes:
        """Return the exposition in Prometheus text format 0.0.4."""
        return generate_latest(self.registry)

    def count(self, occurrence: Occurrence) -> None:
        """Update metrics from something that happened."""
        match occurrence:
            case occurrences.ClaimPrepared():
                self._count_request("prepare", occurrence.seconds, occurrence.reason)
            case occurrences.ClaimUnprepared():
                self._count_request("unprepare", occurrence.seconds, occurrence.reason)
            case occurrences.HardwareScanned():
                self._count_scan(occurrence)
            case occurrences.HardwareUnavailable():
                self._hardware.set(0)
            case occurrences.SlicesPublished():
                self._count_published(occurrence)
            case occurrences.PublishFailed() | occurrences.WatchFailed():
                self._publish_errors.labels(occurrence.reason).inc()
            case occurrences.FieldsDropped():
                for feature in occurrence.features:
                    self._dropped.labels(feature).inc()
            case _:
                self._count_start(occurrence)

    def _count_start(self, occurrence: Occurrence) -> None:
        match occurrence:
            case occurrences.DevicesWithheld():
                self._withheld.set(len(occurrence.devices))
            case occurrences.AuthorityPublished():
                self._authority.clear()
                self._authority.labels(occurrence.authority, occurrence.wanted).set(1)
            case occurrences.HealthReported():
                self._health.labels(occurrence.severity).inc()
            case occurrences.DaemonStarted() | occurrences.DaemonEnded() | occurrences.DaemonStopped():
                self._count_daemon(occurrence)
            case occurrences.RecordQuarantined():
                self._quarantined.inc()
            case occurrences.StaleClaimReleased():
                self._stale.inc()
            case occurrences.Registered():
                self._registered.set(int(occurrence.accepted))
            case _:
                self._count_partitions(occurrence)

    def _count_partitions(self, occurrence: Occurrence) -> None:
        match occurrence:
            case occurrences.ModeSet():
                self._mode.clear()
                self._mode.labels(occurrence.mode).set(1)
            case occurrences.HardwareChanged():
                self._steps.labels(occurrence.step, occurrence.operation).observe(occurrence.seconds)
            case occurrences.Recovered():
                self._recovered.labels("kept").inc(occurrence.kept)
                self._recovered.labels("rolled_back").inc(occurrence.rolled_back)
                self._recovered.labels("restored_specs").inc(occurrence.restored_specs)
                self._recovered.labels("removed_specs").inc(occurrence.removed_specs)

    def _count_daemon(
        self, occurrence: occurrences.DaemonStarted | occurrences.DaemonEnded | occurrences.DaemonStopped
    ) -> None:
        if isinstance(occurrence, occurrences.DaemonStopped):
            with contextlib.suppress(KeyError):
                self._daemons.remove(occurrence.daemon)
            return
        self._daemons.labels(occurrence.daemon).set(int(isinstance(occurrence, occurrences.DaemonStarted)))
        if isinstance(occurrence, occurrences.DaemonStarted):
            self._daemon_starts.labels(occurrence.how).inc()

    def _count_request(self, operation: str, seconds: float, reason: str) -> None:
        self._requests.labels(operation, "error" if reason else "ok").observe(seconds)
        if reason:
            self._errors.labels(operation, reason).inc()

    def _count_scan(self, occurrence: occurrences.HardwareScanned) -> None:
        self._hardware.set(1)
        if occurrence.seconds is not None:
            self._scan.observe(occurrence.seconds)
        self._devices.set(occurrence.devices)
        omitted = {device for device, _ in occurrence.omitted}
        for device in self._known_omitted - omitted:
            self._omitted.remove(device)
        for device in omitted:
            self._omitted.labels(device).set(1)
        self._known_omitted = omitted

    def _count_published(self, occurrence: occurrences.SlicesPublished) -> None:
        self._slices.set(occurrence.slices)
        self._generation.set(occurrence.generation)
        self._writes.labels("create").inc(occurrence.created)
        self._writes.labels("update").inc(occurrence.updated)
        self._writes.labels("delete").inc(occurrence.deleted)


def _show_amount(gauge: Gauge, labels: tuple[str, ...], amount: str | None) -> None:
    if amount is not None:
        gauge.labels(*labels).set(quantities.parse(amount).rounded_up)
