"""The decision to prepare: whose results, is it still the same claim, is the device here, does somebody hold it."""

from __future__ import annotations

import msgspec
import pytest

from driver.core import preparing
from driver.core.preparing import Grant, Place
from driver.model.claims import AllocationResult, ClaimStatus
from driver.model.devices import Failure
from driver.model.errors import Conflict, DeviceBusy, InvalidInput, NotFound
from driver.model.prepared import Phase, PreparedDevice, Record
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


def test_configuration_that_is_for_no_device_of_ours_is_not_looked_at() -> None:
    entry = opaque(b"{}", "nic")
    assert preparing.plan(ref("u1"), claim("u1", result(device(1)), config=[entry]), (), place())


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
