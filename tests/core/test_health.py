"""Faults add up by cause, worst first; they end only on recovery, after a quiet while, and outlive a restart."""

from __future__ import annotations

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.core import health, inventory
from driver.core.health import HealthState, find_faults, find_severity, fold, list_taints, prune, restore, settle
from driver.core.offering import Mode, Offer
from driver.model.health import HealthEvent, Severity
from tests.fakes.hardware import accelerator, partition, snapshot
from tests.fakes.partitionable import ADDRESS, DYNAMIC, carve, h100, own

GPU = "0000:1a:00.0"
QUIET = health.RECOVERY_SECONDS


def event(
    cause: str, severity: Severity, time: float = 0.0, *, part: str | None = None, address: str = GPU
) -> HealthEvent:
    return HealthEvent(address, cause, severity, f"{cause} happened", time, part)


def after(*events: HealthEvent) -> HealthState:
    return reduce(fold, events, HealthState())


def taints(state: HealthState, part: str | None = None, address: str = GPU) -> list[tuple[str, str, str]]:
    return [
        (taint.key.removeprefix("accel-dra.dev/"), taint.value, taint.effect)
        for taint in list_taints(state, address, part)
    ]


def test_a_device_without_events_is_healthy() -> None:
    assert find_severity(HealthState(), GPU, None) is Severity.HEALTHY
    assert taints(HealthState()) == []


@pytest.mark.parametrize(
    ("severity", "expected"),
    [
        (Severity.DEGRADED, ("degraded", "nvlink-3", "None")),
        (Severity.UNHEALTHY, ("unhealthy", "nvlink-3", "NoSchedule")),
    ],
)
def test_severities_are_taints(severity: Severity, expected: tuple[str, str, str]) -> None:
    assert taints(after(event("nvlink-3", severity))) == [expected]


def test_peer_defect_01_a_later_lesser_event_never_hides_a_worse_one() -> None:
    state = after(event("xid-79", Severity.UNHEALTHY), event("xid-43", Severity.DEGRADED, 1.0))
    assert taints(state) == [("unhealthy", "xid-79", "NoSchedule"), ("degraded", "xid-43", "None")]
    assert find_severity(state, GPU, None) is Severity.UNHEALTHY


def test_peer_defect_01_a_lesser_event_of_the_same_cause_lowers_nothing() -> None:
    state = after(event("ecc", Severity.UNHEALTHY), event("ecc", Severity.DEGRADED, 1.0))
    assert taints(state) == [("unhealthy", "ecc", "NoSchedule")]


def test_a_fault_gets_worse_at_once_and_keeps_the_time_it_began() -> None:
    (fault,) = find_faults(
        after(event("ecc", Severity.DEGRADED, 1.0), event("ecc", Severity.UNHEALTHY, 9.0)), GPU, None
    )
    assert (fault.severity, fault.since) == (Severity.UNHEALTHY, 1.0)


def test_peer_defect_08_faults_of_a_device_apply_to_its_partitions() -> None:
    state = after(event("xid-79", Severity.UNHEALTHY))
    assert taints(state, "MIG-any") == [("unhealthy", "xid-79", "NoSchedule")]
    parts = (partition("1g.10gb", 0), partition("1g.10gb", 1))
    result = inventory.build(snapshot(accelerator(GPU, partitioned=True, partitions=parts)), state)
    assert all(entry.device.taints for entry in result.entries)


def test_faults_of_a_partition_touch_neither_its_siblings_nor_its_parent() -> None:
    state = after(event("xid-31", Severity.UNHEALTHY, part="MIG-a"))
    assert taints(state, "MIG-a")
    assert not taints(state, "MIG-b")
    assert not taints(state)


def test_the_worse_of_two_faults_with_one_cause_counts_for_a_partition() -> None:
    state = after(event("ecc", Severity.DEGRADED), event("ecc", Severity.UNHEALTHY, part="MIG-a"))
    assert taints(state, "MIG-a") == [("unhealthy", "ecc", "NoSchedule")]
    assert taints(state, "MIG-b") == [("degraded", "ecc", "None")]


def test_peer_defect_18_recovery_removes_the_taint() -> None:
    state = after(event("ecc", Severity.UNHEALTHY), event("ecc", Severity.HEALTHY, 10.0))
    assert taints(settle(state, 10.0 + QUIET)) == []
    assert settle(state, 10.0 + QUIET) == HealthState()


def test_a_fault_stays_until_it_has_been_quiet_for_long_enough() -> None:
    state = after(event("ecc", Severity.UNHEALTHY), event("ecc", Severity.HEALTHY, 10.0))
    assert taints(settle(state, 10.0 + QUIET - 0.1))


def test_a_fault_that_comes_back_meanwhile_starts_waiting_anew() -> None:
    state = after(
        event("link", Severity.DEGRADED),
        event("link", Severity.HEALTHY, 10.0),
        event("link", Severity.DEGRADED, 20.0),
        event("link", Severity.HEALTHY, 30.0),
    )
    assert taints(settle(state, 10.0 + QUIET))
    assert not taints(settle(state, 30.0 + QUIET))


def test_a_fault_that_comes_back_lesser_keeps_its_severity() -> None:
    state = after(
        event("ecc", Severity.UNHEALTHY), event("ecc", Severity.HEALTHY, 10.0), event("ecc", Severity.DEGRADED, 20.0)
    )
    assert taints(settle(state, 1000.0)) == [("unhealthy", "ecc", "NoSchedule")]


def test_hearing_twice_that_all_is_well_does_not_prolong_the_wait() -> None:
    state = after(
        event("ecc", Severity.UNHEALTHY), event("ecc", Severity.HEALTHY, 10.0), event("ecc", Severity.HEALTHY, 50.0)
    )
    assert health.next_settling(state) == 10.0 + QUIET


def test_recovery_from_one_cause_leaves_the_others() -> None:
    state = after(
        event("ecc", Severity.UNHEALTHY), event("link", Severity.DEGRADED), event("ecc", Severity.HEALTHY, 1.0)
    )
    assert taints(settle(state, 1.0 + QUIET)) == [("degraded", "link", "None")]


def test_recovery_of_a_device_ends_the_same_fault_in_its_partitions_but_not_the_reverse() -> None:
    ill = after(event("ecc", Severity.UNHEALTHY, part="MIG-a"), event("ecc", Severity.UNHEALTHY))
    assert not taints(settle(fold(ill, event("ecc", Severity.HEALTHY, 1.0)), 1.0 + QUIET), "MIG-a")
    assert taints(settle(fold(ill, event("ecc", Severity.HEALTHY, 1.0, part="MIG-a")), 1.0 + QUIET), "MIG-a")


def test_recovery_from_nothing_changes_nothing() -> None:
    state = after(event("ecc", Severity.UNHEALTHY))
    assert fold(state, event("other", Severity.HEALTHY)) == state
    assert fold(state, event("ecc", Severity.HEALTHY, address="0000:1b:00.0")) == state


def test_nothing_is_expected_to_settle_while_faults_last() -> None:
    assert health.next_settling(after(event("ecc", Severity.UNHEALTHY))) is None


def test_a_device_carries_its_worst_taints_and_leaves_room_for_others() -> None:
    causes = [event(f"d{number}", Severity.DEGRADED) for number in range(5)]
    state = after(*causes, event("worst", Severity.UNHEALTHY))
    assert [value for _, value, _ in taints(state)] == ["worst", "d0", "d1"]


@pytest.mark.parametrize(
    ("cause", "value"), [("Xid 79 (fatal)", "Xid-79-fatal"), ("a" * 80, "a" * 63), ("--x--", "x"), ("/", "unknown")]
)
def test_a_cause_becomes_a_label_value(cause: str, value: str) -> None:
    state = after(event(cause, Severity.UNHEALTHY))
    assert taints(state) == [("unhealthy", value, "NoSchedule")]
    assert settle(fold(state, event(cause, Severity.HEALTHY)), QUIET) == HealthState()


def test_partitions_that_are_gone_are_forgotten_and_devices_that_are_gone_are_not() -> None:
    state = after(
        event("a", Severity.UNHEALTHY, part="MIG-gone"),
        event("b", Severity.UNHEALTHY, part="MIG-1g.10gb-0"),
        event("c", Severity.UNHEALTHY, address="0000:ff:00.0"),
    )
    there = snapshot(accelerator(GPU, partitioned=True, partitions=(partition("1g.10gb", 0),)))
    assert set(prune(state, there).faults) == {(GPU, "MIG-1g.10gb-0"), ("0000:ff:00.0", None)}


def test_faults_outlive_a_restart() -> None:
    there = snapshot(accelerator(GPU), accelerator("0000:1b:00.0"))
    before = after(event("xid-79", Severity.UNHEALTHY, 5.0), event("link-2", Severity.DEGRADED))
    result = inventory.build(there, before)
    again = restore([entry.device for entry in result.entries], there)
    assert inventory.build(there, again) == result
    recovered = settle(
        reduce(fold, [event("xid-79", Severity.HEALTHY), event("link-2", Severity.HEALTHY)], again), QUIET
    )
    assert recovered == HealthState()


def test_a_fault_of_a_device_is_still_one_after_a_restart_with_partitions() -> None:
    parts = (partition("1g.10gb", 0), partition("1g.10gb", 1))
    there = snapshot(accelerator(GPU, partitioned=True, partitions=parts))
    before = after(event("xid-79", Severity.UNHEALTHY), event("xid-31", Severity.DEGRADED, part="MIG-1g.10gb-1"))
    devices = [entry.device for entry in inventory.build(there, before).entries]
    assert {place: set(faults) for place, faults in restore(devices, there).faults.items()} == {
        (GPU, None): {"xid-79"},
        (GPU, "MIG-1g.10gb-1"): {"xid-31"},
    }


def test_a_device_that_was_replaced_starts_healthy() -> None:
    old = inventory.build(snapshot(accelerator(GPU, uuid="GPU-old")), after(event("ecc", Severity.UNHEALTHY)))
    assert restore([old.entries[0].device], snapshot(accelerator(GPU, uuid="GPU-new"))) == HealthState()


def test_a_device_that_does_not_answer_after_a_restart_keeps_its_faults() -> None:
    old = inventory.build(snapshot(accelerator(GPU)), after(event("ecc", Severity.UNHEALTHY)))
    assert taints(restore([old.entries[0].device], snapshot()))


events = st.builds(
    HealthEvent,
    pci_address=st.sampled_from([GPU, "0000:1b:00.0"]),
    cause=st.sampled_from(["a", "b", "c"]),
    severity=st.sampled_from(Severity),
    message=st.just(""),
    time=st.floats(0, 1000),
    partition_uuid=st.sampled_from([None, "MIG-a", "MIG-b"]),
)


@given(st.lists(events), events)
def test_only_healthy_events_and_time_lower_the_severity(history: list[HealthEvent], last: HealthEvent) -> None:
    before = reduce(fold, history, HealthState())
    now = fold(before, last)
    for part in (None, "MIG-a", "MIG-b"):
        assert find_severity(now, last.pci_address, part) >= find_severity(before, last.pci_address, part)
    assert find_severity(now, last.pci_address, last.partition_uuid) >= last.severity


def test_faults_of_partitions_that_are_made_on_demand_outlive_a_restart() -> None:
    """They are published without an identity: where they are tells which of those that exist is meant."""
    device = carve(h100(), ("1g.10gb", 0), ("1g.10gb", 1))
    there, offer = snapshot(device), Offer(Mode.DYNAMIC, owned=own(device, ("1g.10gb", 0), ("1g.10gb", 1)))
    before = after(HealthEvent(ADDRESS, "xid-43", Severity.UNHEALTHY, "stopped", 5.0, partition_uuid="MIG-1g.10gb-1"))
    result = inventory.build(there, before, offer)
    again = health.restore([entry.device for entry in result.entries], there)
    assert health.find_severity(again, ADDRESS, "MIG-1g.10gb-1") is Severity.UNHEALTHY
    assert health.find_severity(again, ADDRESS, "MIG-1g.10gb-0") is Severity.HEALTHY
    assert inventory.build(there, again, offer) == result
    gone = snapshot(h100())
    again = health.prune(health.restore([entry.device for entry in result.entries], gone), gone)
    assert not any(entry.device.taints for entry in inventory.build(gone, again, DYNAMIC).entries)


def test_peer_defect_08_a_fault_of_a_device_taints_all_that_it_could_be() -> None:
    result = inventory.build(
        snapshot(h100()), after(HealthEvent(ADDRESS, "xid-79", Severity.UNHEALTHY, "gone", 5.0)), DYNAMIC
    )
    assert len(result.entries) == 26
    assert all(entry.device.taints for entry in result.entries)
    again = health.restore([entry.device for entry in result.entries], result.snapshot)
    assert inventory.build(result.snapshot, again, DYNAMIC) == result
