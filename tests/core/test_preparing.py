"""The decision to prepare: whose results, is it still the same claim, is the device here, does somebody hold it."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from driver.core import preparing, recording
from driver.core.preparing import Grant, Place
from driver.model import vocabulary
from driver.model.claims import AllocationConfiguration, AllocationResult, ClaimStatus
from driver.model.devices import Failure, Partition
from driver.model.errors import Conflict, DeviceBusy, InvalidInput, NotFound
from driver.model.prepared import PARTITION, ContainerEdits, Phase, Preparation, PreparedDevice, Record, Step
from driver.model.sharing import Interval, Sharing, Strategy
from tests.fakes.bench import (
    BOOT,
    DRIVER,
    NODE,
    accelerator,
    claim,
    device,
    node_inventory,
    opaque,
    partition,
    ref,
    result,
)

GROUP = "config.accel-dra.dev/v1alpha1"
PARTED = node_inventory(accelerator(1), accelerator(2, partition(0), partition(3)))
PART = "gpu-0000-02-00-0-1g-10gb-0"
OTHER_PART = "gpu-0000-02-00-0-1g-10gb-3"


def place(inventory: object = None) -> Place:
    return Place(DRIVER, NODE, node_inventory() if inventory is None else inventory)  # type: ignore[arg-type]


def held(uid: str, *devices: str, share_id: str | None = None, admin_access: bool = False) -> Record:
    prepared = tuple(
        PreparedDevice(requests=("gpu",), pool=NODE, device=name, share_id=share_id, admin_access=admin_access)
        for name in devices
    )
    return Record(
        uid=uid, namespace="default", name=f"claim-{uid}", phase=Phase.PREPARED, boot_id=BOOT, devices=prepared
    )


def plan(*results: AllocationResult, records: tuple[Record, ...] = (), where: Place | None = None) -> tuple[Grant, ...]:
    return preparing.plan(ref("u1"), claim("u1", *results), records, where or place())


def test_grants_come_in_the_order_of_the_allocation() -> None:
    grants = plan(result(device(3), "b"), result(device(1), "a"))
    assert [(grant.entry.name, grant.requests) for grant in grants] == [(device(3), ("b",)), (device(1), ("a",))]


def test_peer_defect_11_results_of_other_drivers_are_skipped_first() -> None:
    foreign = result("eth0", "nic", driver="nic.example.com", pool="elsewhere")
    assert [grant.entry.name for grant in plan(foreign, result(device(1)), foreign)] == [device(1)]
    assert plan(foreign) == ()


def test_a_replaced_claim_is_refused() -> None:
    with pytest.raises(Conflict, match=r"got replaced.*UID u1.*has other"):
        preparing.plan(ref("u1"), claim("other", result(device(1))), (), place())


def test_a_claim_that_is_not_allocated_is_refused() -> None:
    waiting = msgspec.structs.replace(claim("u1"), status=ClaimStatus())
    with pytest.raises(InvalidInput, match="not allocated"):
        preparing.plan(ref("u1"), waiting, (), place())


def test_a_device_of_another_pool_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"request gpu: pool: 'node-b'.*node-a"):
        plan(result(device(1), pool="node-b"))


def test_a_device_that_is_not_here_is_refused() -> None:
    with pytest.raises(NotFound, match=f"device {device(9)} of request gpu is not on this node now$"):
        plan(result(device(9)))


def test_a_device_that_failed_is_refused_with_its_reason() -> None:
    inventory = node_inventory(accelerator(1))
    broken = type(inventory)(
        inventory.snapshot, inventory.entries, (Failure("0000:09:00.0", 9, "it fell off the bus"),)
    )
    with pytest.raises(NotFound, match="fell off the bus"):
        plan(result(device(9)), where=place(broken))


def test_the_kubelet_is_told_requests_without_subrequests() -> None:
    (grant,) = plan(result(device(1), "gpu/a100"))
    assert grant.main_requests == ("gpu",)
    assert grant.requests == ("gpu/a100",)


def test_peer_defect_09_share_ids_are_passed_through() -> None:
    first, second = plan(result(device(1), shareID="s1"), result(device(1), shareID="s2"))
    assert (first.share_id, second.share_id) == ("s1", "s2")
    assert (first.aim("u1").share_id, first.aim("u1").name) == ("s1", device(1))


def test_a_device_asked_for_twice_by_one_claim_is_one_grant() -> None:
    (grant,) = plan(result(device(1), "a", adminAccess=True), result(device(1), "b"))
    assert grant.requests == ("a", "b")
    assert not grant.admin_access


def test_configuration_is_checked() -> None:
    with pytest.raises(InvalidInput, match="apiVersion"):
        preparing.plan(
            ref("u1"), claim("u1", result(device(1)), config=[opaque(b'{"apiVersion":"x","kind":"y"}')]), (), place()
        )


@pytest.mark.parametrize("driver", ["nic.example.com", DRIVER])
def test_configuration_is_not_looked_at_if_no_device_or_no_word_of_it_is_ours(driver: str) -> None:
    foreign = result("eth0", "nic", driver="nic.example.com", pool="elsewhere")
    entry = opaque(b"{}", driver=driver)
    results = (foreign,) if driver == DRIVER else (result(device(1)),)
    assert len(preparing.plan(ref("u1"), claim("u1", *results, config=[entry]), (), place())) == (driver != DRIVER)


# How devices are shared


def gpu_config(sharing: str, *requests: str, source: str = "FromClaim") -> AllocationConfiguration:
    text = f'{{"apiVersion":"config.accel-dra.dev/v1alpha1","kind":"GpuConfig","sharing":{sharing}}}'
    return opaque(text.encode(), *requests, source=source)


SLICING = '{"strategy":"TimeSlicing","timeSlicing":{"interval":"Long"}}'
MPS = '{"strategy":"MPS","mps":{"activeThreadPercentage":50,"pinnedMemoryLimit":"4Gi"}}'
LIMITED = Sharing(Strategy.MPS, active_thread_percentage=50, pinned_memory_bytes=4 << 30)


def configured(*entries: AllocationConfiguration, results: tuple[AllocationResult, ...] = ()) -> tuple[Grant, ...]:
    made = claim("u1", *(results or (result(device(1), "a"), result(device(2), "b"))), config=entries)
    return preparing.plan(ref("u1"), made, (), place())


def test_each_device_is_shared_as_the_last_word_about_its_request_says() -> None:
    first, second = configured(gpu_config(SLICING, source="FromClass"), gpu_config(MPS, "b"))
    assert first.sharing == Sharing(Strategy.TIME_SLICING, interval=Interval.LONG)
    assert second.sharing == second.aim("u1").sharing == LIMITED


def test_without_configuration_nothing_is_shared() -> None:
    assert [grant.sharing for grant in configured()] == [None, None]


def test_a_device_given_to_two_requests_is_shared_as_one_of_them_says() -> None:
    results = (result(device(1), "a"), result(device(1), "b"))
    (grant,) = configured(gpu_config(MPS, "b"), results=results)
    assert grant.sharing == LIMITED


def test_a_device_given_to_two_requests_cannot_be_shared_in_two_ways() -> None:
    results = (result(device(1), "a"), result(device(1), "b"))
    with pytest.raises(InvalidInput, match=r"request b: .*'MPS' is not allowed; allowed: the same as for request a"):
        configured(gpu_config(SLICING, "a"), gpu_config(MPS, "b"), results=results)


def mps(*results: AllocationResult) -> tuple[Grant, ...]:
    """Plan a claim whose devices, also partitions, are shared through MPS."""
    parts = msgspec.json.encode({"apiVersion": GROUP, "kind": "PartitionConfig", "sharing": {"strategy": "MPS"}})
    whole = [gpu_config(MPS)] if any(given.device == device(1) for given in results) else []
    config = [opaque(parts), *whole]
    return preparing.plan(ref("u1"), claim("u1", *results, config=config), (), place(PARTED))


def test_one_request_cannot_have_partitions_with_an_mps_daemon_each() -> None:
    """A container gets all devices of a request, and its processes speak with one daemon."""
    with pytest.raises(InvalidInput) as caught:
        mps(result(PART, "a"), result(OTHER_PART, "a/second"))
    assert str(caught.value) == (
        "request a: '2 devices with a daemon each' is not allowed; allowed: with MPS one partition or share, or whole "
        "devices: a process speaks with one daemon only"
    )


def test_whole_devices_of_a_request_have_one_mps_daemon_and_requests_one_each() -> None:
    whole = preparing.plan(
        ref("u1"), claim("u1", result(device(1)), result(device(2)), config=[gpu_config(MPS)]), (), place()
    )
    assert [grant.sharing for grant in whole] == [LIMITED, LIMITED]
    parts = mps(result(PART, "a"), result(OTHER_PART, "b"), result(device(1), "c"))
    assert len(parts) == 3


def test_a_record_knows_how_its_devices_are_shared() -> None:
    grants = configured(gpu_config(SLICING, "a"), gpu_config(MPS, "b"))
    record = recording.draft(ref("u1"), place(), grants, Preparation(ContainerEdits(), {}), (), BOOT)
    again = preparing.plan_again(record, place())
    assert [grant.sharing for grant in again] == [grant.sharing for grant in grants]
    assert again == grants


def test_what_a_share_takes_is_remembered() -> None:
    consumed = {"accel-dra.dev/share": "20"}
    given = result(device(1), shareID="s1", consumedCapacity=consumed)
    grants = configured(results=(given,))
    record = recording.draft(ref("u1"), place(), grants, Preparation(ContainerEdits(), {}), (), BOOT)
    assert record.devices[0].consumed_capacity == consumed
    assert preparing.plan_again(record, place())[0].consumed_capacity == consumed


# Partitions that are made


def test_a_partition_that_is_published_without_its_uuid_has_to_be_made() -> None:
    """Also if it is there just now: the inventory may be older than its end."""
    entry = next(entry for entry in PARTED.entries if entry.name == PART)
    unnamed = {name: value for name, value in entry.device.attributes.items() if name != vocabulary.UUID}
    possible = replace(entry, device=msgspec.structs.replace(entry.device, attributes=unnamed))
    made, static = (Grant(each, None, admin_access=False, requests=("gpu",)) for each in (possible, entry))
    assert made.aim("u1").partition == partition_without_uuid()
    assert static.aim("u1").partition == partition(0)


def partition_without_uuid() -> Partition:
    return replace(partition(0), uuid=None)


def test_what_a_step_has_learnt_goes_into_the_grant() -> None:
    grants = plan(result(PART), result(device(1)), where=place(PARTED))
    arguments = {"pciAddress": "0000:02:00.0", "profile": "1g.10gb", "placement": "0"}
    steps = [
        Step(name=PARTITION, arguments=arguments, facts={"uuid": "MIG-new"}),
        Step(name=PARTITION, arguments={**arguments, "placement": "3"}, facts={"uuid": "MIG-other"}),
        Step(name="hold", arguments=arguments, facts={"uuid": "none"}),
    ]
    learnt, whole = preparing.learn(grants, steps)
    assert learnt.entry.device.attributes[vocabulary.UUID].string == "MIG-new"
    assert learnt.entry.partition is not None
    assert learnt.entry.partition.uuid == "MIG-new"
    assert list(learnt.entry.device.attributes) == sorted(learnt.entry.device.attributes)
    assert whole == grants[1]
    assert preparing.learn(grants, ()) == grants


# Who holds what


def test_peer_defect_18_a_device_that_another_claim_holds_is_refused_with_the_name_of_the_holder() -> None:
    with pytest.raises(DeviceBusy) as caught:
        plan(result(device(1)), records=(held("u2", device(1)),))
    assert caught.value.holder == "default/claim-u2 (u2)"
    assert device(1) in str(caught.value)


def test_ones_own_record_is_no_holder() -> None:
    assert plan(result(device(1)), records=(held("u1", device(1)),))


def test_an_interrupted_claim_holds_its_devices() -> None:
    record = msgspec.structs.replace(held("u2", device(1)), phase=Phase.PREPARING)
    with pytest.raises(DeviceBusy):
        plan(result(device(1)), records=(record,))


def test_admin_access_is_not_held_up() -> None:
    assert plan(result(device(1), adminAccess=True), records=(held("u2", device(1)),))


def test_admin_access_holds_nothing() -> None:
    assert plan(result(device(1)), records=(held("u2", device(1), admin_access=True),))


@pytest.mark.parametrize(
    ("mine", "theirs", "busy"),
    [("s1", "s2", False), ("s1", "s1", True), (None, "s1", True), ("s1", None, True), (None, None, True)],
)
def test_shares_of_one_device_do_not_exclude_each_other(mine: str | None, theirs: str | None, *, busy: bool) -> None:
    wanted = result(device(1), shareID=mine)
    records = (held("u2", device(1), share_id=theirs),)
    if busy:
        with pytest.raises(DeviceBusy):
            plan(wanted, records=records)
    else:
        assert plan(wanted, records=records)


def test_partitions_of_one_device_do_not_exclude_each_other() -> None:
    assert plan(result(PART), records=(held("u2", OTHER_PART),), where=place(PARTED))


def test_a_partition_excludes_the_whole_device_that_it_is_a_part_of() -> None:
    """The device was in partition mode when the partition was prepared; now it is offered whole."""
    whole = node_inventory(accelerator(2))
    with pytest.raises(DeviceBusy, match=rf"{device(2)} \(through {PART}\)"):
        plan(result(device(2)), records=(held("u2", PART),), where=place(whole))


def test_a_whole_device_excludes_partitions_made_of_it_meanwhile() -> None:
    with pytest.raises(DeviceBusy, match=rf"through {device(2)}"):
        plan(result(PART), records=(held("u2", device(2)),), where=place(PARTED))


def test_a_whole_device_and_its_partition_in_the_same_inventory_exclude_each_other() -> None:
    """Partitionable devices publish both, and counters keep them apart; this is the line behind the counters."""
    both = node_inventory(accelerator(2))
    parts = node_inventory(accelerator(2, partition(0)))
    inventory = type(both)(both.snapshot, both.entries + parts.entries, ())
    with pytest.raises(DeviceBusy):
        plan(result(device(2)), records=(held("u2", PART),), where=place(inventory))
    with pytest.raises(DeviceBusy):
        plan(result(PART), records=(held("u2", device(2)),), where=place(inventory))


def test_names_that_only_look_alike_do_not_exclude_each_other() -> None:
    assert plan(result(device(2)), records=(held("u2", "gpu-0000-02-00-01"),))


# After a boot


def test_a_claim_from_before_the_boot_is_planned_from_its_record() -> None:
    record = held("u2", device(2), share_id="s1")
    (grant,) = preparing.plan_again(record, place())
    assert (grant.entry.name, grant.share_id, grant.requests) == (device(2), "s1", ("gpu",))


def test_a_claim_whose_device_did_not_come_back_says_so() -> None:
    with pytest.raises(NotFound, match=device(9)):
        preparing.plan_again(held("u2", device(9)), place())
