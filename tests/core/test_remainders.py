"""What is left of shared devices is told as numbers that a claim could ask for."""

from __future__ import annotations

import msgspec
import pytest

from driver.core import remainders
from driver.core.allocator import Snapshot
from driver.model import quantities
from driver.model.claims import Allocation, AllocationResult, ClaimStatus, DeviceAllocation
from driver.model.objects import ObjectMeta
from driver.model.prepared import PreparedDevice
from driver.model.published import Capacity, PublishedDevice, PublishedSlice, PublishedSpec
from driver.model.slices import Pool
from driver.model.wanted import Claim

MEMORY, SHARE, UNITS = "accel-dra.dev/memory", "accel-dra.dev/share", "accel-dra.dev/multiprocessors"
CAPACITY = {MEMORY: Capacity(value="81559Mi"), SHARE: Capacity(value="100"), UNITS: Capacity(value="132")}


def share(memory: str, percent: str, device: str = "gpu-0", share_id: str | None = "s1") -> AllocationResult:
    return AllocationResult(
        request="gpu",
        driver="d",
        pool="n",
        device=device,
        share_id=share_id,
        consumed_capacity={MEMORY: memory, SHARE: percent, UNITS: "0"} if share_id else {},
    )


def allocate(*results: AllocationResult) -> Allocation:
    return Allocation(devices=DeviceAllocation(results=results))


def snapshot(*allocations: Allocation) -> Snapshot:
    devices = tuple(
        PublishedDevice(name=name, capacity=CAPACITY, allow_multiple_allocations=name != "gpu-1")
        for name in ("gpu-0", "gpu-1", "gpu-2")
    )
    spec = PublishedSpec(driver="d", pool=Pool(name="n"), node_name="n", devices=devices)
    claims = [
        Claim(metadata=ObjectMeta(name=str(number), uid=str(number)), status=ClaimStatus(allocation=each))
        for number, each in enumerate(allocations)
    ]
    return Snapshot([PublishedSlice(metadata=ObjectMeta(name="n"), spec=spec)], {}, claims)


def test_a_share_is_described_without_what_it_takes_nothing_of() -> None:
    assert remainders.describe_share(share("20Gi", "25")) == "memory 20Gi, share 25"
    assert remainders.describe_share(share("", "", share_id=None)) == ""


@pytest.mark.parametrize(
    ("held", "own", "is_counted", "left"),
    [
        ([], [share("20Gi", "25")], False, {"gpu-0 of n": "memory 61079Mi, share 75"}),
        ([share("20Gi", "25")], [share("20Gi", "25")], True, {"gpu-0 of n": "memory 61079Mi, share 75"}),
        (
            [share("20Gi", "25")],
            [share("20Gi", "25", share_id="s2")],
            False,
            {"gpu-0 of n": "memory 40599Mi, share 50"},
        ),
        ([share("81559Mi", "100")], [share("81559Mi", "100")], True, {"gpu-0 of n": "memory 0, share 0"}),
        (
            [],
            [share("1Gi", "10"), share("1Gi", "10", share_id="s2"), share("1Gi", "20", "gpu-2")],
            False,
            {"gpu-0 of n": "memory 79511Mi, share 80", "gpu-2 of n": "memory 80535Mi, share 80"},
        ),
        ([], [share("", "", "gpu-1", share_id=None)], False, {}),
        ([], [share("1Gi", "10", "gone")], False, {}),
    ],
)
def test_what_is_left_counts_every_share_once(
    held: list[AllocationResult], own: list[AllocationResult], *, is_counted: bool, left: dict[str, str]
) -> None:
    found = remainders.find_left(allocate(*own), snapshot(allocate(*held)), is_counted=is_counted)
    assert found == left


def test_on_the_node_what_is_prepared_counts_and_who_only_looks_does_not() -> None:
    held = PreparedDevice(
        requests=("gpu",), pool="n", device="gpu-0", consumed_capacity={MEMORY: "20Gi", SHARE: "25", UNITS: "0"}
    )
    watcher = msgspec.structs.replace(held, admin_access=True)
    assert remainders.find_unprepared(CAPACITY, [held, held, watcher]) == {
        MEMORY: quantities.parse("40599Mi"),
        SHARE: quantities.parse("50"),
    }
    assert remainders.find_unprepared(CAPACITY, [watcher]) == {}
