"""The inventory publishes every fact it knows, nothing it does not, within the API's limits, the same each time."""

from __future__ import annotations

import dataclasses
from itertools import combinations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driver.core import fencing, health, inventory, slicing, specification
from driver.core.offering import Mode, Offer, Own
from driver.model import vocabulary as words
from driver.model.devices import Accelerator, Fabric, Failure, Snapshot
from driver.model.health import HealthEvent, Severity
from driver.model.passthrough import Function, Group, View
from driver.model.sharing import Strategy
from driver.model.slices import Device, DeviceAttribute
from tests.fakes.hardware import GIBIBYTE, accelerator, link, mesh, partition, snapshot
from tests.fakes.partitionable import ADDRESS, DYNAMIC, carve, h100, machine, own


def publish(*devices: Accelerator) -> list[Device]:
    return [entry.device for entry in inventory.build(snapshot(*devices)).entries]


def whole(device: Accelerator) -> Device:
    (published,) = publish(device)
    return published


def part(device: Accelerator) -> Device:
    (published,) = publish(dataclasses.replace(device, partitioned=True, partitions=(partition("1g.10gb", 3),)))
    return published


def strings(device: Device) -> dict[str, str | None]:
    return {name: value.string for name, value in device.attributes.items() if value.string is not None}


def test_a_whole_device_says_everything_that_is_known() -> None:
    one, _ = mesh(*[("0000:1a:00.0", "0000:1b:00.0")] * 4)
    first, _ = publish(
        dataclasses.replace(one, fabric=Fabric("5c1f4c2e-9b1d-4a3b-8f67-2d0e5a7c9b31", 32766)),
        *mesh(*[("0000:1a:00.0", "0000:1b:00.0")] * 4)[1:],
    )
    assert msgspec.to_builtins(first) == {
        "name": "gpu-0000-1a-00-0",
        "attributes": {
            "accel-dra.dev/architecture": {"string": "Hopper"},
            "accel-dra.dev/computeCapability": {"version": "9.0.0"},
            "accel-dra.dev/driverVersion": {"version": "580.126.9"},
            "accel-dra.dev/driverVersionText": {"string": "580.126.09"},
            "accel-dra.dev/fabricDomain": {"string": "5c1f4c2e-9b1d-4a3b-8f67-2d0e5a7c9b31.32766"},
            "accel-dra.dev/index": {"int": 0},
            "accel-dra.dev/interconnectDomain": {"string": "0000-1a-00-0"},
            "accel-dra.dev/interconnectGBps": {"int": 100},
            "accel-dra.dev/model": {"string": "NVIDIA H100 80GB HBM3"},
            "accel-dra.dev/runtimeVersion": {"version": "13.0.0"},
            "accel-dra.dev/type": {"string": "gpu"},
            "accel-dra.dev/uuid": {"string": "GPU-0000:1a:00.0"},
            "accel-dra.dev/vendor": {"string": "simulated"},
            "resource.kubernetes.io/numaNode": {"int": 0},
            "resource.kubernetes.io/pciBusID": {"string": "0000:1a:00.0"},
            "resource.kubernetes.io/pcieRoot": {"string": "pci0000:15"},
        },
        "capacity": {
            "accel-dra.dev/memory": {"value": "80Gi"},
            "accel-dra.dev/multiprocessors": {"value": "132"},
        },
    }


def test_peer_defect_12_every_documented_attribute_is_published_on_partitions() -> None:
    device = part(accelerator())
    documented = {word.name for word in specification.ATTRIBUTES if word.on is not specification.On.WHOLE}
    assert set(device.attributes) == documented - {words.ALLOCATOR, words.SHARING}, "which come with settings"
    assert set(device.capacity) == set(specification.CAPACITIES) - {words.SHARE}


def test_a_partition_says_where_its_parent_is_and_what_it_is_itself() -> None:
    device = part(accelerator())
    assert device.name == "gpu-0000-1a-00-0-1g-10gb-3"
    assert strings(device)[words.TYPE] == "partition"
    assert strings(device)[words.UUID] == "MIG-1g.10gb-3"
    assert strings(device)[words.PARENT_UUID] == "GPU-0000:1a:00.0"
    assert strings(device)[words.PROFILE] == "1g.10gb"
    assert strings(device)[words.PCI_BUS_ID] == "0000:1a:00.0"
    assert device.attributes[words.PLACEMENT] == DeviceAttribute(int_=3)
    assert device.attributes[words.NUMA_NODE] == DeviceAttribute(int_=0)
    assert device.capacity[words.MEMORY].value == "10Gi"
    assert device.capacity[words.ENCODERS].value == "0"


def test_peer_defect_10_the_exact_driver_version_stands_beside_the_semantic_one() -> None:
    device = whole(accelerator())
    assert device.attributes[words.DRIVER_VERSION].version == "580.126.9"
    assert device.attributes[words.DRIVER_VERSION_TEXT].string == "580.126.09"


def test_a_driver_version_that_is_not_semantic_is_published_as_text_only() -> None:
    found = dataclasses.replace(snapshot(accelerator()), driver_version="R580 U2")
    (entry,) = inventory.build(found).entries
    assert words.DRIVER_VERSION not in entry.device.attributes
    assert entry.device.attributes[words.DRIVER_VERSION_TEXT].string == "R580 U2"


def test_peer_defect_13_what_is_not_known_is_left_out_and_never_0() -> None:
    unknown = accelerator(
        architecture=None,
        memory_bytes=None,
        multiprocessors=None,
        compute_capability=None,
        numa_node=None,
        pcie_root=None,
        links=(dataclasses.replace(link(0, None), gbytes_per_second=None),),
    )
    found = dataclasses.replace(snapshot(unknown), driver_version=None, runtime_version=None)
    (entry,) = inventory.build(found).entries
    assert set(entry.device.attributes) == {
        words.VENDOR,
        words.TYPE,
        words.MODEL,
        words.INDEX,
        words.UUID,
        words.PCI_BUS_ID,
    }
    assert entry.device.capacity == {}


def test_values_that_mean_unknown_are_not_believed() -> None:
    device = whole(accelerator(memory_bytes=0, multiprocessors=0, numa_node=-1, pcie_root="unknown"))
    assert device.capacity == {}
    assert not {words.NUMA_NODE, words.PCIE_ROOT} & set(device.attributes)


def test_facts_of_one_device_never_reach_the_next() -> None:
    known, unknown = accelerator("0000:1a:00.0"), accelerator("0000:1b:00.0", memory_bytes=None, numa_node=None)
    devices = {device.name: device for device in publish(known, unknown, accelerator("0000:1c:00.0"))}
    assert words.MEMORY in devices["gpu-0000-1a-00-0"].capacity
    assert words.MEMORY not in devices["gpu-0000-1b-00-0"].capacity
    assert words.NUMA_NODE not in devices["gpu-0000-1b-00-0"].attributes


def test_words_for_people_are_cut_to_the_limit_at_a_whole_character() -> None:
    text = whole(accelerator(model="é" * 60)).attributes[words.MODEL].string
    assert text == "é" * 32


def test_an_identity_that_is_too_long_is_left_out_rather_than_cut() -> None:
    device = whole(accelerator(uuid="x" * 65, fabric=Fabric("c" * 64, 1)))
    assert not {words.UUID, words.FABRIC_DOMAIN} & set(device.attributes)


@pytest.mark.parametrize(
    ("count", "text"), [(80 * GIBIBYTE, "80Gi"), (81559 << 20, "81559Mi"), (1000, "1k"), (16106127360, "15Gi")]
)
def test_memory_is_a_canonical_quantity(count: int, text: str) -> None:
    assert whole(accelerator(memory_bytes=count)).capacity[words.MEMORY].value == text


def test_devices_that_are_linked_carry_one_value_that_others_do_not() -> None:
    names = [f"0000:{bus:02x}:00.0" for bus in range(1, 7)]
    devices = publish(*mesh(*combinations(names[:4], 2), (names[4], names[5]), addresses=("0000:aa:00.0",)))
    values = {device.name: strings(device).get(words.INTERCONNECT_DOMAIN) for device in devices}
    assert [values[f"gpu-0000-{bus:02x}-00-0"] for bus in range(1, 7)] == ["0000-01-00-0"] * 4 + ["0000-05-00-0"] * 2
    assert values["gpu-0000-aa-00-0"] is None


def test_a_device_in_partition_mode_publishes_only_partitions() -> None:
    parts = (partition("1g.10gb", 0), partition("1g.10gb", 1))
    names = [device.name for device in publish(accelerator(partitioned=True, partitions=parts))]
    assert names == ["gpu-0000-1a-00-0-1g-10gb-0", "gpu-0000-1a-00-0-1g-10gb-1"]


def test_a_device_in_partition_mode_without_partitions_is_left_out_with_its_reason() -> None:
    result = inventory.build(snapshot(accelerator(partitioned=True), accelerator("0000:1b:00.0")))
    assert [entry.name for entry in result.entries] == ["gpu-0000-1b-00-0"]
    assert result.omitted == (Failure("0000:1a:00.0", 0, "it is in partition mode and has no partitions"),)


def test_an_empty_device_whose_vendor_says_why_is_left_out_once() -> None:
    failure = Failure("0000:1a:00.0", 0, "MIG device 0 does not answer: Unknown Error")
    found = dataclasses.replace(snapshot(accelerator(partitioned=True)), failures=(failure,))
    assert inventory.build(found).omitted == (failure,)


def test_a_device_that_does_not_answer_hides_no_other() -> None:
    failure = Failure("0000:1c:00.0", 2, "NVML: GPU is lost")
    found = dataclasses.replace(snapshot(accelerator(), accelerator("0000:1b:00.0")), failures=(failure,))
    result = inventory.build(found)
    assert len(result.entries) == 2
    assert result.omitted == (failure,)


def test_two_devices_with_one_name_are_one_device_and_one_reason() -> None:
    result = inventory.build(snapshot(accelerator(uuid="GPU-a"), accelerator(uuid="GPU-b", index=1)))
    assert [entry.accelerator.uuid for entry in result.entries] == ["GPU-a"]
    assert result.omitted == (
        Failure("0000:1a:00.0", 1, "GPU-b would have the name gpu-0000-1a-00-0, which GPU-a already has"),
    )


def test_the_vendors_own_attributes_are_published_as_they_are() -> None:
    extra: dict[str, str | int | bool] = {"nvidia.com/ecc": True, "nvidia.com/brand": "Tesla", "nvidia.com/offset": -3}
    device = whole(accelerator(extra=extra))
    assert device.attributes["nvidia.com/ecc"] == DeviceAttribute(bool_=True)
    assert device.attributes["nvidia.com/brand"] == DeviceAttribute(string="Tesla")
    assert device.attributes["nvidia.com/offset"] == DeviceAttribute(int_=-3)


@pytest.mark.parametrize("name", [words.MODEL, "accel-dra.dev/new", "noDomain", "nvidia.com/not-an-identifier"])
def test_a_vendor_cannot_replace_our_words_or_break_the_slice(name: str) -> None:
    extra: dict[str, str | int | bool] = {name: "theirs"}
    assert whole(accelerator(extra=extra)) == whole(accelerator())


def test_a_device_stays_within_the_budget_of_entries() -> None:
    extra: dict[str, str | int | bool] = {f"nvidia.com/fact{number:02}": number for number in range(40)}
    device = part(accelerator(extra=extra))
    (fenced,) = fencing.fence([device], fencing.Authority.CONTROLLER)
    assert len(fenced.attributes) + len(fenced.capacity) == words.ENTRIES_PER_DEVICE
    assert "nvidia.com/fact00" in device.attributes
    assert specification.check(device) == ()


def test_the_inventory_is_the_same_to_the_byte_however_devices_are_found() -> None:
    devices = mesh(*combinations([f"0000:{bus:02x}:00.0" for bus in range(1, 5)], 2))
    one = inventory.build(snapshot(*devices)).entries
    other = inventory.build(snapshot(*reversed(devices))).entries
    several = [h100(f"0000:{bus:02x}:00.0") for bus in range(1, 4)]
    made = [inventory.build(snapshot(*found), None, DYNAMIC).counter_sets for found in (several, several[::-1])]
    assert made[0] == made[1]
    encoder = msgspec.json.Encoder()
    assert [encoder.encode(entry.device) for entry in one] == [encoder.encode(entry.device) for entry in other]


def test_faults_are_taints() -> None:
    event = HealthEvent("0000:1a:00.0", "xid-79", Severity.UNHEALTHY, "fell off the bus", 5.0)
    result = inventory.build(
        snapshot(accelerator(), accelerator("0000:1b:00.0")), health.fold(health.HealthState(), event)
    )
    ill, well = result.entries
    assert [(taint.key, taint.value, taint.effect) for taint in ill.device.taints] == [
        (words.TAINT_UNHEALTHY, "xid-79", "NoSchedule")
    ]
    assert well.device.taints == ()


def test_an_entry_is_found_by_its_name() -> None:
    result = inventory.build(snapshot(accelerator()))
    assert result.find("gpu-0000-1a-00-0") is result.entries[0]
    assert result.find("gpu-0000-1b-00-0") is None


def names(*devices: Accelerator, offer: Offer = DYNAMIC) -> list[str]:
    return [entry.name for entry in inventory.build(snapshot(*devices), None, offer).entries]


def test_partitions_that_could_be_made_are_devices_without_an_identity() -> None:
    result = inventory.build(snapshot(h100()), None, DYNAMIC)
    entry = result.find("gpu-0000-1a-00-0-2g-20gb-4")
    assert entry is not None
    assert words.UUID not in entry.device.attributes
    assert strings(entry.device)[words.PARENT_UUID] == f"GPU-{ADDRESS}"
    assert entry.device.capacity[words.COPY_ENGINES].value == "2"
    assert entry.partition is not None
    assert entry.partition.uuid is None
    assert all(specification.check(entry.device) == () for entry in result.entries)


def test_the_whole_device_draws_all_counters_and_each_partition_its_own() -> None:
    result = inventory.build(snapshot(h100(), accelerator("0000:1b:00.0")), None, DYNAMIC)
    (counter_set,) = result.counter_sets
    whole = result.find("gpu-0000-1a-00-0")
    part = result.find("gpu-0000-1a-00-0-3g-40gb-4")
    plain = result.find("gpu-0000-1b-00-0")
    assert whole is not None
    assert part is not None
    assert plain is not None
    assert counter_set.name == "gpu-0000-1a-00-0"
    assert [draw.counters for draw in whole.device.consumes_counters] == [counter_set.counters]
    (draw,) = part.device.consumes_counters
    assert draw.counter_set == counter_set.name
    slices = [name for name in draw.counters if name.startswith("memory-slice")]
    assert slices == [f"memory-slice-{number}" for number in (4, 5, 6, 7)]
    assert plain.device.consumes_counters == (), "a device alone on its hardware excludes nothing"


def test_what_is_published_does_not_change_when_a_partition_of_ours_is_made() -> None:
    before = inventory.build(snapshot(h100()), None, DYNAMIC)
    device = carve(h100(), ("2g.20gb", 4), ("1g.10gb", 0))
    offer = Offer(Mode.DYNAMIC, owned=own(device, ("2g.20gb", 4), ("1g.10gb", 0)))
    after = inventory.build(snapshot(device), None, offer)
    assert [entry.device for entry in after.entries] == [entry.device for entry in before.entries]
    assert after.counter_sets == before.counter_sets
    made = {entry.name: entry.partition.uuid for entry in after.entries if entry.partition and entry.partition.uuid}
    assert made == {"gpu-0000-1a-00-0-2g-20gb-4": "MIG-2g.20gb-4", "gpu-0000-1a-00-0-1g-10gb-0": "MIG-1g.10gb-0"}


def test_a_fault_of_a_partition_of_ours_taints_it_and_no_other() -> None:
    device = carve(h100(), ("2g.20gb", 4))
    event = HealthEvent(ADDRESS, "xid-43", Severity.UNHEALTHY, "stopped", 5.0, partition_uuid="MIG-2g.20gb-4")
    state = health.fold(health.HealthState(), event)
    result = inventory.build(snapshot(device), state, Offer(Mode.DYNAMIC, owned=own(device, ("2g.20gb", 4))))
    assert [entry.name for entry in result.entries if entry.device.taints] == ["gpu-0000-1a-00-0-2g-20gb-4"]


def test_a_foreign_partition_is_published_as_itself() -> None:
    result = inventory.build(snapshot(carve(h100(), ("2g.20gb", 4))), None, DYNAMIC)
    entry = result.find("gpu-0000-1a-00-0-2g-20gb-4")
    assert entry is not None
    assert strings(entry.device)[words.UUID] == "MIG-2g.20gb-4"
    assert entry.device.consumes_counters == ()
    assert result.find("gpu-0000-1a-00-0") is None
    (counter_set,) = result.counter_sets
    assert not {"memory-slice-4", "memory-slice-5"} & counter_set.counters.keys()


def test_a_device_that_is_left_with_one_possibility_has_no_counters() -> None:
    device = carve(h100(), ("4g.40gb", 0), ("2g.20gb", 4))
    result = inventory.build(snapshot(device), None, Offer(Mode.DYNAMIC, frozenset({"1g.20gb"})))
    (left,) = [entry for entry in result.entries if entry.partition and entry.partition.uuid is None]
    assert (left.name, left.device.consumes_counters) == ("gpu-0000-1a-00-0-1g-20gb-6", ())
    assert result.counter_sets == ()


def test_a_profile_that_no_device_has_is_told_once_with_the_one_that_was_meant() -> None:
    offer = Offer(Mode.DYNAMIC, frozenset({"1g.10gb", "2g.2Ogb"}))
    result = inventory.build(snapshot(h100(), h100("0000:1b:00.0")), None, offer)
    (failure,) = result.omitted
    assert (failure.where, failure.part) == ("node (partitions)", "partitions")
    assert failure.reason.startswith(
        "no device here has the profile '2g.2Ogb' (2g.20gb was probably meant); there are "
    )
    assert inventory.build(snapshot(accelerator()), None, offer).omitted == (), "nothing could be partitioned anyway"


def test_two_devices_at_one_address_are_counted_once() -> None:
    result = inventory.build(snapshot(h100(), dataclasses.replace(h100(), uuid="GPU-b", index=1)), None, DYNAMIC)
    assert len(result.entries) == len({entry.name for entry in result.entries}) == 26
    assert [failure.reason for failure in result.omitted] == [
        f"GPU-b would have the name gpu-0000-1a-00-0, which GPU-{ADDRESS} already has"
    ]


def view(address: str) -> View:
    """Return a kernel that can pass the device at an address through."""
    return View(loaded=True, groups={address: Group("7", (Function(address, 0x030200, driver="vendor"),))})


def test_devices_of_which_claims_have_a_part_or_which_a_guest_has_are_marked() -> None:
    device = carve(h100(), ("2g.20gb", 4))
    others = (h100("0000:1b:00.0"), h100("0000:1c:00.0"))
    owned, bound = own(device, ("2g.20gb", 4)), frozenset({"0000:1c:00.0"})
    found = inventory.build(snapshot(device, *others), None, Offer(Mode.DYNAMIC, owned=owned, bound=bound))
    assert found.engaged == {"gpu-0000-1a-00-0", "gpu-0000-1c-00-0"}


def test_a_partition_of_ours_does_not_take_its_device_out_of_its_domain() -> None:
    pair = [dataclasses.replace(each, profiles=h100().profiles) for each in mesh(("0000:1a:00.0", "0000:1b:00.0"))]
    before = inventory.build(snapshot(*pair), None, DYNAMIC)
    device = carve(pair[0], ("2g.20gb", 4))
    after = inventory.build(snapshot(device, pair[1]), None, Offer(Mode.DYNAMIC, owned=own(device, ("2g.20gb", 4))))
    assert [entry.device for entry in after.entries] == [entry.device for entry in before.entries]
    whole = before.find("gpu-0000-1a-00-0")
    assert whole is not None
    assert words.INTERCONNECT_DOMAIN in whole.device.attributes


def test_a_device_for_virtual_machines_takes_what_its_host_twin_takes() -> None:
    result = inventory.build(snapshot(h100()), None, Offer(Mode.DYNAMIC, view=view(ADDRESS)))
    whole, twin = result.entries[-2:]
    assert (whole.name, twin.name) == ("gpu-0000-1a-00-0", "vfio-0000-1a-00-0")
    assert twin.device.consumes_counters == whole.device.consumes_counters != ()
    assert twin.accelerator == whole.accelerator


def test_a_device_that_is_offered_twice_has_counters_though_it_cannot_be_partitioned() -> None:
    result = inventory.build(snapshot(accelerator()), None, Offer(view=view(ADDRESS)))
    whole, twin = result.entries
    assert whole.device.consumes_counters == twin.device.consumes_counters
    assert [made.counters.keys() for made in result.counter_sets] == [{"memory-slice-0", "multiprocessors"}]


def test_why_a_device_cannot_be_passed_through_is_told_of_that_part_only() -> None:
    result = inventory.build(snapshot(accelerator()), None, Offer(view=View(loaded=True)))
    assert [entry.name for entry in result.entries] == ["gpu-0000-1a-00-0"]
    (failure,) = result.omitted
    assert failure.where == f"{ADDRESS} (pass-through)"


def test_shares_are_made_of_every_device_that_can_be_shared() -> None:
    result = inventory.build(snapshot(h100()), None, Offer(Mode.DYNAMIC, view=view(ADDRESS), shares=Strategy.MPS))
    *others, twin = result.entries
    assert all(entry.device.allow_multiple_allocations for entry in others)
    assert all(entry.device.consumes_counters for entry in others)
    assert not twin.device.allow_multiple_allocations
    assert all(specification.check(entry.device) == () for entry in result.entries)


def test_peer_defect_06_sixteen_devices_have_their_counters_in_two_slices_and_their_devices_in_others() -> None:
    found = machine("hgx-h100-16")
    result = inventory.build(found, None, DYNAMIC)
    laid_out = slicing.layout([entry.device for entry in result.entries], result.counter_sets)
    assert laid_out.withheld == ()
    assert [len(content.shared_counters) for content in laid_out.contents] == [8, 8] + [0] * 7
    assert [len(content.devices) for content in laid_out.contents] == [0, 0] + [64] * 6 + [32]


@st.composite
def offers(draw: st.DrawFn) -> tuple[Snapshot, Offer]:
    """Return a machine of a few devices in any state, and an offer for it."""
    devices = []
    owned: set[Own] = set()
    for number in range(draw(st.integers(1, 3))):
        device = h100(f"0000:{number + 1:02x}:00.0")
        if draw(st.booleans()):
            device = dataclasses.replace(device, partition_fault="GPU requires reset")
        if draw(st.booleans()):
            parts = draw(st.sampled_from([(), (("1g.10gb", 6),), (("2g.20gb", 2), ("3g.40gb", 4)), (("7g.80gb", 0),)]))
            device = carve(device, *parts)
            owned |= own(device, *parts[: draw(st.integers(0, len(parts)))])
        devices.append(device)
    profiles = draw(st.sampled_from([frozenset(), frozenset({"1g.10gb", "3g.40gb"}), frozenset({"none"})]))
    mode = draw(st.sampled_from(Mode))
    seen = view(devices[0].pci_address) if draw(st.booleans()) else None
    return snapshot(*devices), Offer(mode, profiles, frozenset(owned), seen)


@given(offers())
@settings(max_examples=60, deadline=None)
def test_whatever_is_offered_is_offered_once_and_can_be_had(given_offer: tuple[Snapshot, Offer]) -> None:
    result = inventory.build(given_offer[0], None, given_offer[1])
    devices = [entry.device for entry in result.entries]
    laid_out = slicing.layout(devices, result.counter_sets)
    assert laid_out.withheld == ()
    assert len({device.name for device in devices}) == len(devices)
    sets = {made.name: made.counters for made in result.counter_sets}
    drawn = [draw for device in devices for draw in device.consumes_counters]
    assert {draw.counter_set for draw in drawn} == sets.keys(), "a set from which nothing is drawn costs for nothing"
    for draw in drawn:
        for name, counter in draw.counters.items():
            assert int(counter.value) <= int(sets[draw.counter_set][name].value)
    for device in devices:
        assert specification.check(device) == ()
    silent = {entry.accelerator.pci_address for entry in result.entries} ^ {
        device.pci_address for device in given_offer[0].accelerators
    }
    assert silent <= {failure.pci_address for failure in result.omitted}, "who offers nothing says why"


def test_a_device_that_claims_share_stays_shared_whatever_the_setting_says() -> None:
    one, other = accelerator("0000:1a:00.0"), accelerator("0000:1b:00.0", index=1)
    offer = Offer(shares=None, kept={"gpu-0000-1a-00-0": Strategy.MPS})
    first, second = inventory.build(snapshot(one, other), None, offer).entries
    assert (first.device.allow_multiple_allocations, second.device.allow_multiple_allocations) == (True, False)
    turned = dataclasses.replace(offer, shares=Strategy.TIME_SLICING)
    said = [
        strings(entry.device)[words.SHARING] for entry in inventory.build(snapshot(one, other), None, turned).entries
    ]
    assert said == ["MPS", "TimeSlicing"]
