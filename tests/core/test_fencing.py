"""The fence: on every device or on none, told apart from faults, and the only thing that says who allocates."""

from __future__ import annotations

import dataclasses

import pytest

from driver.core import adopting, fencing, health, inventory, slicing, specification
from driver.core.adopting import TAINTS, Memory
from driver.core.fencing import FENCE, Authority
from driver.model import vocabulary
from driver.model.devices import Snapshot
from driver.model.published import PublishedDevice
from driver.model.slices import MAX_DEVICES_WITH_TAINTS_OR_COUNTERS, Device, DeviceAttribute, DeviceTaint
from tests.fakes.hardware import accelerator, snapshot

PLAIN = Device(name="plain")
BROKEN = Device(name="broken", taints=(DeviceTaint(key=vocabulary.TAINT_UNHEALTHY, value="ecc", effect="NoSchedule"),))
BOTH = (PLAIN, BROKEN)
LACKING = Memory(missing=frozenset({TAINTS}))


def test_kube_schedulers_devices_are_published_as_they_are() -> None:
    assert fencing.fence(BOTH, Authority.SCHEDULER) == BOTH


def test_the_controllers_devices_carry_the_fence_beside_their_faults() -> None:
    plain, broken = fencing.fence(BOTH, Authority.CONTROLLER)
    assert plain.taints == (FENCE,)
    assert broken.taints == (FENCE, *BROKEN.taints)
    for device in (plain, broken):
        assert device.attributes["accel-dra.dev/allocator"].string == "controller"
        assert fencing.take_down(device) == Device(name=device.name)
    assert (FENCE.key, FENCE.effect) == ("accel-dra.dev/controller-only", "NoSchedule")


def test_fence_and_the_most_faults_fit_into_the_four_taints_of_kubernetes_1_34() -> None:
    assert health.MAX_HEALTH_TAINTS + 1 <= 4


@pytest.mark.parametrize(
    ("taint", "is_fence"),
    [
        (FENCE, True),
        (DeviceTaint(key=FENCE.key, effect="NoSchedule", value="x", time_added="2026-01-01T00:00:00Z"), True),
        (DeviceTaint(key=FENCE.key, effect="None"), False),
        (DeviceTaint(key=vocabulary.TAINT_UNHEALTHY, effect="NoSchedule"), False),
    ],
)
def test_only_the_blocking_taint_of_our_key_is_the_fence(taint: DeviceTaint, *, is_fence: bool) -> None:
    assert fencing.is_fence(taint) is is_fence
    assert fencing.is_fenced(PublishedDevice(name="d", taints=(taint,))) is is_fence


def test_the_taints_alone_say_who_allocates() -> None:
    assert fencing.read_authority(BOTH) is Authority.SCHEDULER
    assert fencing.read_authority(fencing.fence(BOTH, Authority.CONTROLLER)) is Authority.CONTROLLER
    assert fencing.read_authority([PLAIN, *fencing.fence(BOTH, Authority.CONTROLLER)]) is None
    assert fencing.read_authority([]) is None


def test_fenced_devices_are_64_a_slice() -> None:
    devices = [Device(name=f"gpu-{index}") for index in range(130)]
    assert [len(each.devices) for each in slicing.layout(devices).contents] == [128, 2]
    fenced = slicing.layout(fencing.fence(devices, Authority.CONTROLLER))
    assert [len(each.devices) for each in fenced.contents] == [MAX_DEVICES_WITH_TAINTS_OR_COUNTERS, 64, 2]


def test_a_fence_is_asked_for_before_anything_is_published() -> None:
    assert adopting.find_needed([PLAIN]) == frozenset()
    assert adopting.find_needed(fencing.fence([PLAIN], Authority.CONTROLLER)) == {TAINTS}


def test_without_taints_the_fence_falls_and_only_broken_devices_are_withheld() -> None:
    offer = adopting.adapt(LACKING, fencing.fence(BOTH, Authority.CONTROLLER), ())
    assert offer.devices == (PLAIN,)
    assert [name for name, _ in offer.withheld] == ["broken"]


def test_fenced_devices_follow_the_vocabulary_with_as_many_entries_as_a_device_may_have() -> None:
    extra = {f"simulated.example.com/extra{number}": number for number in range(40)}
    whole = dataclasses.replace(accelerator(), extra=extra)
    found = [entry.device for entry in inventory.build(snapshot(whole)).entries]
    for device in fencing.fence(found, Authority.CONTROLLER):
        assert specification.check(device) == ()
        assert len(device.attributes) + len(device.capacity) == vocabulary.ENTRIES_PER_DEVICE


def test_a_fence_that_was_published_is_no_fault_after_a_restart() -> None:
    attributes = {vocabulary.PCI_BUS_ID: DeviceAttribute(string="0000:1a:00.0")}
    published = fencing.fence([Device(name="gpu", attributes=attributes)], Authority.CONTROLLER)
    restored = health.restore(published, Snapshot("simulated", None, None, None, ()))
    assert restored == health.HealthState()
