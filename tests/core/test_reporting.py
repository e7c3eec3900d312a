"""Pods learn of every device they hold: good, degraded, broken, gone, or watched by nobody."""

from __future__ import annotations

import dataclasses
from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from driver.core import inventory as inventories
from driver.core.health import HealthState, fold
from driver.core.reporting import MAX_MESSAGE, report
from driver.model.devices import Failure, Inventory
from driver.model.health import DeviceHealth, HealthEvent, Severity
from tests.fakes.hardware import accelerator, partition, snapshot

FIRST, SECOND = "0000:1a:00.0", "0000:1b:00.0"
GPU, OTHER = "gpu-0000-1a-00-0", "gpu-0000-1b-00-0"
PART = partition()
WHOLE = snapshot(accelerator(FIRST), accelerator(SECOND))
SPLIT = snapshot(accelerator(FIRST, partitioned=True, partitions=(PART, partition(placement=1))))


def after(*events: HealthEvent) -> HealthState:
    return reduce(fold, events, HealthState())


def event(cause: str, severity: Severity, message: str = "", *, part: str | None = None) -> HealthEvent:
    return HealthEvent(FIRST, cause, severity, message, 1.0, part)


def without(address: str, reason: str) -> Inventory:
    """Return what is found when one of the devices does not answer."""
    left = snapshot(*(each for each in WHOLE.accelerators if each.pci_address != address))
    return inventories.build(dataclasses.replace(left, failures=(Failure(address, 0, reason),)))


def test_devices_without_faults_are_healthy_and_say_nothing() -> None:
    found = report(inventories.build(WHOLE), HealthState(), ())
    assert found == (DeviceHealth(GPU, Severity.HEALTHY), DeviceHealth(OTHER, Severity.HEALTHY))


def test_a_fault_is_told_with_its_cause_and_only_of_its_device() -> None:
    state = after(event("xid-79", Severity.UNHEALTHY, "fell off the bus"))
    sick, well = report(inventories.build(WHOLE, state), state, ())
    assert sick == DeviceHealth(GPU, Severity.UNHEALTHY, "xid-79: fell off the bus")
    assert well.severity is Severity.HEALTHY


def test_all_faults_are_told_the_worst_first() -> None:
    state = after(event("nvlink-3", Severity.DEGRADED, "slow"), event("xid-79", Severity.UNHEALTHY))
    sick = report(inventories.build(WHOLE), state, ())[0]
    assert sick == DeviceHealth(GPU, Severity.UNHEALTHY, "xid-79; nvlink-3: slow")


def test_a_degraded_device_says_why() -> None:
    state = after(event("nvlink-3", Severity.DEGRADED, "slow"))
    assert report(inventories.build(WHOLE), state, ())[0] == DeviceHealth(GPU, Severity.DEGRADED, "nvlink-3: slow")


def test_a_fault_that_is_over_is_told_until_it_has_stayed_away() -> None:
    state = after(event("xid-79", Severity.UNHEALTHY, "gone"), event("xid-79", Severity.HEALTHY))
    sick = report(inventories.build(WHOLE), state, ())[0]
    assert sick == DeviceHealth(GPU, Severity.UNHEALTHY, "xid-79: gone (over, being watched)")


def test_a_fault_of_an_accelerator_is_one_of_its_partitions_and_not_the_other_way_round() -> None:
    inventory = inventories.build(SPLIT)
    whole = after(event("ecc", Severity.UNHEALTHY))
    assert {each.severity for each in report(inventory, whole, ())} == {Severity.UNHEALTHY}
    part = after(event("ecc", Severity.UNHEALTHY, part=PART.uuid))
    severities = {each.device: each.severity for each in report(inventory, part, ())}
    assert severities == {f"{GPU}-1g-10gb-0": Severity.UNHEALTHY, f"{GPU}-1g-10gb-1": Severity.HEALTHY}


def test_hardware_that_nobody_watches_is_not_called_healthy() -> None:
    for each in report(inventories.build(WHOLE), None, ()):
        assert each.severity is None
        assert "not watched" in each.message


def test_a_prepared_device_that_is_gone_is_unhealthy_and_says_why() -> None:
    found = report(without(FIRST, "GPU is lost"), HealthState(), [GPU, OTHER])
    assert found == (
        DeviceHealth(OTHER, Severity.HEALTHY),
        DeviceHealth(GPU, Severity.UNHEALTHY, "the device is no longer found on this node: GPU is lost"),
    )


def test_a_partition_of_a_device_that_is_gone_has_its_reason() -> None:
    name = f"{GPU}-1g-10gb-0"
    gone = report(without(FIRST, "GPU is lost"), HealthState(), [name])[-1]
    assert (gone.device, gone.severity) == (name, Severity.UNHEALTHY)
    assert gone.message.endswith("GPU is lost")


def test_a_partition_that_was_removed_is_gone_without_a_reason_of_others() -> None:
    gone = report(without(SECOND, "GPU is lost"), HealthState(), [f"{GPU}-1g-10gb-0"])[-1]
    assert gone.message == "the device is no longer found on this node"


def test_while_the_driver_is_away_nobody_can_tell() -> None:
    found = report(None, HealthState(), [OTHER, GPU])
    assert found == tuple(DeviceHealth(name, None, "the vendor's driver does not answer") for name in (GPU, OTHER))
    assert report(None, HealthState(), []) == ()


def test_a_node_without_devices_has_an_empty_list() -> None:
    assert report(inventories.build(snapshot()), HealthState(), ()) == ()


@given(st.text(min_size=1, max_size=3 * MAX_MESSAGE))
def test_messages_keep_the_limit_and_their_beginning(text: str) -> None:
    said = report(inventories.build(WHOLE), after(event("ecc", Severity.UNHEALTHY, text)), ())[0].message
    whole = f"ecc: {text}"
    assert len(said.encode()) <= MAX_MESSAGE
    assert said == whole or (said.endswith("...") and whole.startswith(said.removesuffix("...")))
    assert (said == whole) == (len(whole.encode()) <= MAX_MESSAGE)


def test_a_device_is_not_called_good_while_nobody_listens_and_a_known_fault_is_still_told() -> None:
    deaf = HealthState(deaf="/dev/kmsg cannot be read")
    sick, well = report(inventories.build(WHOLE), fold(deaf, event("xid-79", Severity.UNHEALTHY)), ())
    assert sick.severity is Severity.UNHEALTHY
    assert well.severity is None
    assert well.message == "the device answers; whether it has faults is not known now: /dev/kmsg cannot be read"
