"""GpuConfig and PartitionConfig: what each field means. What is wrong with them is a table of its own."""

from __future__ import annotations

import json

import pytest

from driver.core.configuring import documents
from driver.core.configuring.sharings import DeviceConfig
from driver.model.errors import Faulty, InvalidInput
from driver.model.sharing import Interval, Sharing, Strategy


def read(sharing: object, kind: str = "GpuConfig") -> DeviceConfig:
    text = json.dumps({"apiVersion": "config.accel-dra.dev/v1alpha1", "kind": kind, "sharing": sharing})
    content = documents.read(text.encode())
    assert isinstance(content, DeviceConfig)
    return content


@pytest.mark.parametrize("kind", ["GpuConfig", "PartitionConfig"])
def test_each_strategy_may_stand_alone(kind: str) -> None:
    assert [read({"strategy": each.value}, kind).sharing for each in Strategy] == [Sharing(each) for each in Strategy]


def test_a_field_that_is_null_is_as_if_it_were_absent() -> None:
    assert read({"strategy": "MPS", "timeSlicing": None, "mps": {"perDevice": None}}) == read({"strategy": "MPS"})
    assert read({"strategy": "TimeSlicing", "timeSlicing": {"interval": None}}) == read({"strategy": "TimeSlicing"})


def test_time_slices_have_four_lengths_on_a_whole_device_and_one_on_a_partition() -> None:
    for interval in Interval:
        settings = {"strategy": "TimeSlicing", "timeSlicing": {"interval": interval.value}}
        assert read(settings).sharing == Sharing(Strategy.TIME_SLICING, interval)
    found = read({"strategy": "TimeSlicing", "timeSlicing": {"interval": "Default"}}, "PartitionConfig")
    assert found.sharing == Sharing(Strategy.TIME_SLICING, Interval.DEFAULT)
    with pytest.raises(InvalidInput, match="time slice of a partition cannot be set"):
        read({"strategy": "TimeSlicing", "timeSlicing": {"interval": "Long"}}, "PartitionConfig")


@pytest.mark.parametrize(
    ("written", "count"),
    [
        ("4Gi", 4 << 30),
        ("1Mi", 1 << 20),
        ("1.5Gi", 3 << 29),
        ("2000M", 2_000_000_000),
        ("4294967296", 4 << 30),
        (4 << 30, 4 << 30),
        ("8e9", 8_000_000_000),
    ],
)
def test_memory_is_a_quantity_of_bytes(written: object, count: int) -> None:
    assert read({"strategy": "MPS", "mps": {"pinnedMemoryLimit": written}}).sharing.pinned_memory_bytes == count


def test_of_two_overrides_for_one_device_the_later_one_wins_field_by_field() -> None:
    config = read(
        {
            "strategy": "MPS",
            "mps": {
                "perDevice": [
                    {"index": 0, "activeThreadPercentage": 10, "pinnedMemoryLimit": "1Gi"},
                    {"uuid": "GPU-a", "activeThreadPercentage": 20},
                ]
            },
        }
    )
    assert config.choose(0, "GPU-a") == Sharing(Strategy.MPS, None, 20, 1 << 30)
    assert config.choose(0, None) == Sharing(Strategy.MPS, None, 10, 1 << 30)
    assert config.choose(1, "GPU-b") == Sharing(Strategy.MPS)


def test_all_faults_of_a_document_are_told_at_once_in_their_order() -> None:
    with pytest.raises(Faulty) as caught:
        read(
            {
                "timeSlicingConfig": {},
                "strategy": "TimeSlicing",
                "mps": {"activeThreadPercentage": 0, "perDevice": [{"index": "0"}, 7, {}]},
            }
        )
    assert [fault.field for fault in caught.value.faults] == [
        "sharing.timeSlicingConfig",
        "sharing.mps.activeThreadPercentage",
        "sharing.mps.perDevice[0].index",
        "sharing.mps.perDevice[0].activeThreadPercentage",
        "sharing.mps.perDevice[1]",
        "sharing.mps.perDevice[2].index",
        "sharing.mps.perDevice[2].activeThreadPercentage",
        "sharing.mps",
    ]
    assert "timeSlicing was probably meant" in str(caught.value)
