"""What the controller does becomes metrics, and what it does not know any more is not told."""

from __future__ import annotations

from driver.model import occurrences
from driver.telemetry.controller_metrics import ControllerMetrics


def value(metrics: ControllerMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"accel_dra_{name}", labels)


def test_allocations_are_counted_by_result_and_timed() -> None:
    metrics = ControllerMetrics()
    metrics.count(occurrences.ClaimAllocated("a/b", "n", 2, 0.3))
    metrics.count(occurrences.ClaimAllocated("a/c", "n", 1, 40.0))
    metrics.count(occurrences.AllocationFailed("a/d", "Conflict", "changed"))
    metrics.count(occurrences.AllocationReturned("a/b", "no pod uses it"))
    assert value(metrics, "allocations_total", result="ok") == 2
    assert value(metrics, "allocations_total", result="Conflict") == 1
    assert value(metrics, "allocations_returned_total") == 1
    assert value(metrics, "time_to_allocation_seconds_sum") == 40.3
    assert value(metrics, "time_to_allocation_seconds_bucket", le="0.5") == 1


def test_leadership_is_visible() -> None:
    metrics = ControllerMetrics()
    assert value(metrics, "leader") == 0
    metrics.count(occurrences.LeadershipChanged(leads=True, holder="me"))
    assert value(metrics, "leader") == 1
    metrics.count(occurrences.LeadershipChanged(leads=False, holder="you"))
    assert (value(metrics, "leader"), value(metrics, "leadership_changes_total")) == (0, 2)


def test_each_round_replaces_what_waits() -> None:
    metrics = ControllerMetrics()
    metrics.note_round(0.01, {"NoSuitableDevices": 3, "WaitingForGroup": 1})
    metrics.note_round(0.02, {"NoSuitableDevices": 2})
    assert value(metrics, "pending_claims", reason="NoSuitableDevices") == 2
    assert value(metrics, "pending_claims", reason="WaitingForGroup") is None
    assert value(metrics, "round_duration_seconds_count") == 2


def test_caches_and_free_devices_are_told() -> None:
    metrics = ControllerMetrics()
    metrics.note_caches({"claims": 3, "pods": 9}, synced=True)
    metrics.note_devices({("n", "nvlink-0"): 5}, {"n": ("gpu", 80)})
    assert value(metrics, "cache_objects", kind="pods") == 9
    assert value(metrics, "cache_synced") == 1
    assert value(metrics, "free_devices", node="n", domain="nvlink-0") == 5
    assert value(metrics, "largest_free_memory_bytes", node="n", profile="gpu") == 80
    metrics.note_devices({}, {"n": ("1g.10gb", 10)})
    assert value(metrics, "free_devices", node="n", domain="nvlink-0") is None
    assert value(metrics, "largest_free_memory_bytes", node="n", profile="gpu") is None


def test_who_does_not_lead_tells_nothing_of_the_cluster() -> None:
    metrics = ControllerMetrics()
    metrics.note_round(0.01, {"NoSuitableDevices": 3})
    metrics.note_devices({("n", ""): 5}, {"n": ("gpu", 80)})
    metrics.forget()
    assert "NoSuitableDevices" not in metrics.text().decode()
    assert 'node="n"' not in metrics.text().decode()


def test_faults_of_the_cluster_are_counted_and_other_occurrences_are_none_of_its_business() -> None:
    metrics = ControllerMetrics()
    metrics.count(occurrences.ClusterUnavailable("away"))
    metrics.count(occurrences.ClaimWaits("c", "NoSuitableDevices", "no"))
    metrics.count(occurrences.HardwareUnavailable("no driver"))
    assert value(metrics, "cluster_errors_total") == 1
