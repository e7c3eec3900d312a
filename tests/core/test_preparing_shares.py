"""Preparing shares: which fit beside each other on a device, what each is limited to, and what is remembered."""

from __future__ import annotations

import json

import pytest

from driver.core import metadata, preparing, recording, shares
from driver.core.preparing import Grant, Place
from driver.model.claims import AllocationResult
from driver.model.errors import DeviceBusy, InvalidInput
from driver.model.prepared import ContainerEdits, Preparation, Record
from driver.model.sharing import Sharing, Strategy
from driver.model.vocabulary import CONFIG_API_VERSION
from tests.fakes import cdi as judge
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
    share,
    shared_inventory,
)

GIBIBYTE = 2**30
MPS = Place(DRIVER, NODE, shared_inventory(Strategy.MPS))
TURNS = Place(DRIVER, NODE, shared_inventory(Strategy.TIME_SLICING))
ALONE = Place(DRIVER, NODE, node_inventory())
FOLDER = "/var/lib/kubelet/plugins/gpu.accel-dra.dev"
EVERYTHING = ("80Gi", 100)


def plan(
    uid: str, *results: AllocationResult, records: tuple[Record, ...] = (), place: Place = MPS
) -> tuple[Grant, ...]:
    return preparing.plan(ref(uid), claim(uid, *results), records, place)


def prepare(uid: str, *results: AllocationResult, records: tuple[Record, ...] = (), place: Place = MPS) -> Record:
    grants = plan(uid, *results, records=records, place=place)
    edits = Preparation(ContainerEdits(), {grant.aim(uid).key: ContainerEdits(env=("A=1",)) for grant in grants})
    return recording.draft(ref(uid), place, grants, edits, (), BOOT)


def quarter(uid: str, *, request: str = "gpu", slot: int = 1) -> AllocationResult:
    return share(device(slot), f"share-{uid}-{request}", "20Gi", 25, request)


def environment(record: Record) -> dict[str, list[str]]:
    (document,) = record.cdi.values()
    return {each["name"]: each["containerEdits"]["env"] for each in judge.check(bytes(document))["devices"]}  # type: ignore[attr-defined]


def test_four_quarters_fit_and_a_fifth_does_not() -> None:
    records: tuple[Record, ...] = ()
    for uid in ("u1", "u2", "u3", "u4"):
        records = (*records, prepare(uid, quarter(uid), records=records))
    assert all(record.devices[0].shared for record in records)
    with pytest.raises(DeviceBusy, match=r"u1\) and .*u4\); memory 20Gi is wanted and 0 is left"):
        plan("u5", quarter("u5"), records=records)
    assert plan("u5", quarter("u5", slot=2), records=records)
    assert plan("u4", quarter("u4"), records=records), "its own record does not count against it"


def test_who_takes_all_of_it_is_alone_and_needs_nothing_set_up() -> None:
    record = prepare("u1", share(device(1), "s1", *EVERYTHING))
    (held,) = record.devices
    assert (held.shared, held.sharing, held.share_id) == (False, None, "s1")
    assert environment(record) == {f"u1-{device(1)}-s1": ["A=1"]}
    with pytest.raises(DeviceBusy, match="memory 20Gi is wanted and 0 is left"):
        plan("u2", quarter("u2"), records=(record,))
    with pytest.raises(DeviceBusy, match="memory 80Gi is wanted and 60Gi is left"):
        plan("u2", share(device(1), "s2", *EVERYTHING), records=(prepare("u1", quarter("u1")),))


def test_a_share_is_limited_to_what_it_consumes_and_told_so() -> None:
    record = prepare("u1", quarter("u1"))
    (held,) = record.devices
    assert held.sharing == Sharing(Strategy.MPS, active_thread_percentage=25, pinned_memory_bytes=20 * GIBIBYTE)
    assert environment(record)[f"u1-{device(1)}-share-u1-gpu"] == ["A=1", "ACCEL_DRA_SHARE_ENFORCED=true"]
    unlimited = prepare("u1", quarter("u1"), place=TURNS)
    assert unlimited.devices[0].sharing == Sharing(Strategy.TIME_SLICING)
    assert environment(unlimited)[f"u1-{device(1)}-share-u1-gpu"] == ["A=1", "ACCEL_DRA_SHARE_ENFORCED=false"]


def test_two_shares_of_one_device_in_one_claim_are_two_devices_of_it() -> None:
    record = prepare("u1", quarter("u1", request="a"), quarter("u1", request="b"))
    assert [held.share_id for held in record.devices] == ["share-u1-a", "share-u1-b"]
    assert [held.requests for held in record.devices] == [("a",), ("b",)]
    first, second = environment(record).values()
    assert first == second, "a container may have both"
    with pytest.raises(DeviceBusy, match="share 60 is wanted and 40 is left"):
        plan("u1", share(device(1), "s1", "1Gi", 60, "a"), share(device(1), "s2", "1Gi", 60, "b"))


def test_a_share_and_the_same_device_unshared_exclude_each_other() -> None:
    """The setting was changed while a claim holds the device."""
    with pytest.raises(DeviceBusy, match="it is not shared"):
        plan("u2", quarter("u2"), records=(prepare("u1", result(device(1)), place=ALONE),))
    with pytest.raises(DeviceBusy, match="it is not shared"):
        plan("u2", result(device(1)), records=(prepare("u1", quarter("u1")),), place=ALONE)


def test_shares_by_different_strategies_exclude_each_other() -> None:
    held = prepare("u1", quarter("u1"))
    with pytest.raises(DeviceBusy, match="shared by MPS and not by TimeSlicing until that is released"):
        plan("u2", quarter("u2"), records=(held,), place=TURNS)
    assert plan("u2", quarter("u2", slot=2), records=(held,), place=TURNS)


def test_a_share_that_outlives_the_setting_is_prepared_without_limits() -> None:
    record = prepare("u1", quarter("u1"), place=ALONE)
    assert record.devices[0].shared
    assert shares.find_unenforced(record.devices) == (device(1),)


def test_admin_access_to_a_shared_device_neither_counts_nor_is_limited() -> None:
    crowd = prepare("u1", share(device(1), "s1", *EVERYTHING))
    watcher = result(
        device(1), adminAccess=True, shareID="s2", consumedCapacity=dict(crowd.devices[0].consumed_capacity)
    )
    (grant,) = plan("u2", watcher, records=(crowd,))
    assert (grant.sharing, grant.is_shared) == (None, False)
    watching = prepare("u2", watcher)
    assert plan("u3", quarter("u3"), records=(watching,))


def test_shares_of_partitions_and_of_their_parent_exclude_each_other_as_wholes_do() -> None:
    parted = shared_inventory(Strategy.MPS, accelerator(2, partition(0), partition(3)))
    place = Place(DRIVER, NODE, parted)
    part, other = (entry.name for entry in parted.entries)
    held = prepare("u1", share(part, "s1", "5Gi", 50), place=place)
    assert held.devices[0].sharing == Sharing(
        Strategy.MPS, active_thread_percentage=50, pinned_memory_bytes=5 * GIBIBYTE
    )
    assert plan("u2", share(part, "s2", "5Gi", 50), share(other, "s3", "5Gi", 50, "b"), records=(held,), place=place)
    with pytest.raises(DeviceBusy, match=f"through {part}"):
        plan(
            "u2",
            quarter("u2", slot=2),
            records=(held,),
            place=Place(DRIVER, NODE, shared_inventory(Strategy.MPS, accelerator(2))),
        )


def test_configuration_that_contradicts_a_share_names_what_is_allowed() -> None:
    document = {"apiVersion": CONFIG_API_VERSION, "kind": "GpuConfig", "sharing": {"strategy": "TimeSlicing"}}
    made = claim("u1", quarter("u1"), config=[opaque(json.dumps(document).encode())])
    with pytest.raises(InvalidInput, match="strategy: 'TimeSlicing' is not allowed; allowed: MPS"):
        preparing.plan(ref("u1"), made, (), MPS)


def test_after_a_boot_shares_are_set_up_as_they_were() -> None:
    record = prepare("u1", quarter("u1"), share(device(2), "s2", *EVERYTHING, "b"))
    first, second = preparing.plan_again(record, MPS)
    assert first.aim("u1").sharing == record.devices[0].sharing
    assert (first.is_shared, second.is_shared) == (True, False)
    assert (first.aim("u1").shared, second.aim("u1").shared) == (True, False)
    edits = Preparation(ContainerEdits(), {first.aim("u1").key: ContainerEdits(env=("A=2",))})
    renewed = recording.renew(record, DRIVER, edits, "another boot")
    assert renewed.devices == record.devices
    assert environment(renewed) == {f"u1-{device(1)}-share-u1-gpu": ["A=2", "ACCEL_DRA_SHARE_ENFORCED=true"]}


@pytest.mark.parametrize(("place", "enforced"), [(MPS, True), (TURNS, False)])
def test_metadata_says_what_a_container_has_of_the_device(place: Place, *, enforced: bool) -> None:
    made = claim("u1", quarter("u1"), share(device(2), "s2", *EVERYTHING))
    (document,) = metadata.describe(made, preparing.plan(ref("u1"), made, (), place), place, FOLDER)
    first, second = json.loads(document.document)["requests"][0]["devices"]
    own = {name: value for name, value in first["attributes"].items() if "/shar" in name}
    assert own == {
        "accel-dra.dev/shareEnforced": {"bool": enforced},
        "accel-dra.dev/shareID": {"string": "share-u1-gpu"},
        "accel-dra.dev/shareMemory": {"string": "20Gi"},
        "accel-dra.dev/sharePercent": {"int": 25},
        "accel-dra.dev/sharing": {"string": "MPS" if enforced else "TimeSlicing"},
    }
    assert "accel-dra.dev/shareID" not in second["attributes"]
