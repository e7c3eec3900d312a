"""Occurrences become metrics; failures are part of the same histogram as successes."""

from __future__ import annotations

import http.client

import pytest

from driver.model import occurrences
from driver.model.errors import InvalidInput
from driver.model.prepared import Phase, PreparedDevice, Record
from driver.telemetry.endpoint import Endpoint
from driver.telemetry.metrics import Metrics


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_failed_requests_are_counted_with_the_good_ones() -> None:
    metrics = Metrics()
    metrics.count(occurrences.ClaimPrepared(claim="c", seconds=0.004, devices=1))
    metrics.count(occurrences.ClaimPrepared(claim="c", seconds=2, devices=0, reason="Unavailable", error="away"))
    metrics.count(occurrences.ClaimUnprepared(claim="c", seconds=0.001))
    name = "accel_dra_request_duration_seconds_count"
    assert value(metrics, name, operation="prepare", result="ok") == 1
    assert value(metrics, name, operation="prepare", result="error") == 1
    assert value(metrics, name, operation="unprepare", result="ok") == 1
    assert value(metrics, "accel_dra_request_errors_total", operation="prepare", reason="Unavailable") == 1


def test_an_omitted_device_is_visible_and_disappears_when_it_answers_again() -> None:
    metrics = Metrics()
    metrics.count(occurrences.HardwareScanned(seconds=0.1, devices=7, omitted=(("0000:1a:00.0", "lost"),)))
    assert value(metrics, "accel_dra_devices_omitted", device="0000:1a:00.0") == 1
    metrics.count(occurrences.HardwareScanned(seconds=0.1, devices=8, omitted=()))
    assert value(metrics, "accel_dra_devices_omitted", device="0000:1a:00.0") is None
    assert value(metrics, "accel_dra_devices") == 8


def test_waiting_for_a_driver_is_visible() -> None:
    metrics = Metrics()
    metrics.count(occurrences.HardwareUnavailable(reason="no library"))
    assert value(metrics, "accel_dra_hardware_available") == 0
    metrics.count(occurrences.HardwareScanned(seconds=0.1, devices=8, omitted=()))
    assert value(metrics, "accel_dra_hardware_available") == 1


def test_one_authority_at_a_time_is_shown() -> None:
    metrics = Metrics()
    metrics.count(occurrences.AuthorityPublished("n", "controller", "scheduler"))
    assert value(metrics, "accel_dra_pool_authority", authority="scheduler", wanted="controller") == 1
    metrics.count(occurrences.AuthorityPublished("n", "controller", "controller"))
    assert value(metrics, "accel_dra_pool_authority", authority="scheduler", wanted="controller") is None
    assert value(metrics, "accel_dra_pool_authority", authority="controller", wanted="controller") == 1


def test_every_occurrence_is_understood() -> None:
    metrics = Metrics()
    for occurrence in (
        occurrences.SlicesPublished("n", 2, 1, 8, 1, 2, 3, 0.1),
        occurrences.PublishFailed("Unavailable", "away", 1.0),
        occurrences.WatchFailed("Forbidden", "no"),
        occurrences.RegistryAwaited("/var/lib/kubelet/plugins_registry"),
        occurrences.FieldsDropped("n", "s", ("taints",), ("DRADeviceTaints",)),
        occurrences.RecordQuarantined("p", "r"),
        occurrences.ModeSet("static", "the setting"),
        occurrences.ModeSet("dynamic", "the label accel-dra.dev/partitions"),
        occurrences.HardwareChanged("c", "partition", "run", "profile 1g.10gb", 0.2),
        occurrences.StaleClaimReleased("a/b (u)", "it exists no longer"),
        occurrences.Registered(accepted=True),
        occurrences.Recovered(1, 2, 3, 4),
        occurrences.HealthReported("0000:1a:00.0", "xid-79", "unhealthy", "fallen off the bus"),
    ):
        metrics.count(occurrence)
    text = metrics.text().decode()
    for sample in (
        "accel_dra_pool_generation 2.0",
        'accel_dra_slice_writes_total{operation="delete"} 3.0',
        'accel_dra_publish_errors_total{reason="Unavailable"} 1.0',
        'accel_dra_publish_errors_total{reason="Forbidden"} 1.0',
        'accel_dra_fields_dropped_total{feature="DRADeviceTaints"} 1.0',
        "accel_dra_records_quarantined_total 1.0",
        "accel_dra_stale_claims_released_total 1.0",
        'accel_dra_partition_mode{mode="dynamic"} 1.0',
        'accel_dra_step_duration_seconds_sum{operation="run",step="partition"} 0.2',
        "accel_dra_registered 1.0",
        'accel_dra_recovered_total{kind="rolled_back"} 2.0',
        'accel_dra_health_events_total{severity="unhealthy"} 1.0',
    ):
        assert sample in text


def test_a_daemon_is_seen_to_be_up_down_and_gone() -> None:
    metrics = Metrics()
    name = "accel_dra_daemon_up"
    metrics.count(occurrences.DaemonStopped("mps-gpu-0"))
    metrics.count(occurrences.DaemonStarted("mps-gpu-0", 7, "found"))
    assert value(metrics, name, daemon="mps-gpu-0") == 1
    metrics.count(occurrences.DaemonEnded("mps-gpu-0", "it ended (exit status 1)", 2.0))
    assert value(metrics, name, daemon="mps-gpu-0") == 0
    metrics.count(occurrences.DaemonStarted("mps-gpu-0", 8, "again"))
    assert value(metrics, name, daemon="mps-gpu-0") == 1
    assert value(metrics, "accel_dra_daemon_starts_total", how="again") == 1
    metrics.count(occurrences.DaemonStopped("mps-gpu-0"))
    assert value(metrics, name, daemon="mps-gpu-0") is None


def test_the_endpoint_serves_pages_and_says_not_found() -> None:
    endpoint = Endpoint("127.0.0.1:0", {"/healthz": lambda: (200, b"ok\n"), "/readyz": lambda: (503, b"waiting\n")})
    endpoint.start()
    try:
        answers = [_get(endpoint.port, path) for path in ("/healthz", "/readyz", "/healthz?verbose", "/other")]
    finally:
        endpoint.stop()
    assert answers == [(200, b"ok\n"), (503, b"waiting\n"), (200, b"ok\n"), (404, b"not found\n")]


def test_an_address_in_use_is_one_clear_sentence() -> None:
    endpoint = Endpoint("127.0.0.1:0", {})
    endpoint.start()
    try:
        with pytest.raises(InvalidInput, match="metrics-address"):
            Endpoint(f"127.0.0.1:{endpoint.port}", {})
    finally:
        endpoint.stop()


def _get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_shares_are_shown_by_their_id_and_disappear_with_their_claim() -> None:
    def record(uid: str, *, shared: bool) -> Record:
        consumed = {"accel-dra.dev/memory": "20Gi", "accel-dra.dev/share": "25"}
        device = PreparedDevice(
            requests=("gpu",), pool="n", device="gpu-0", share_id=f"s-{uid}", shared=shared, consumed_capacity=consumed
        )
        return Record(uid=uid, namespace="ns", name=uid, phase=Phase.PREPARED, boot_id="", devices=(device,))

    metrics = Metrics()
    metrics.show_claims([record("a", shared=True), record("b", shared=False)])
    labels = {"device": "gpu-0", "share_id": "s-a", "namespace": "ns", "claim": "a"}
    assert value(metrics, "accel_dra_prepared_devices") == 2
    assert value(metrics, "accel_dra_share_percent", **labels) == 25
    assert value(metrics, "accel_dra_share_memory_bytes", **labels) == 20 * 2**30
    assert metrics.text().count(b"accel_dra_share_percent{") == 1
    metrics.show_claims([])
    assert value(metrics, "accel_dra_prepared_devices") == 0
    assert value(metrics, "accel_dra_share_percent", **labels) is None


def test_an_accelerator_has_one_state_at_a_time() -> None:
    metrics = Metrics()
    metrics.show_states({"gpu-0": "free", "gpu-1": "partitioned"})
    assert value(metrics, "accel_dra_accelerator_state", accelerator="gpu-1", state="partitioned") == 1
    metrics.show_states({"gpu-1": "free"})
    assert value(metrics, "accel_dra_accelerator_state", accelerator="gpu-1", state="free") == 1
    assert metrics.text().count(b"accel_dra_accelerator_state{") == 1
