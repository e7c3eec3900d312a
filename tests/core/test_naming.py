"""Names are labels, stable, and say where the device is."""

from __future__ import annotations

import dataclasses
import re

import pytest

from driver.core import naming
from tests.fakes.hardware import accelerator, partition

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def test_a_whole_device_is_named_by_its_address() -> None:
    assert naming.name_accelerator(accelerator("0000:1a:00.0")) == "gpu-0000-1a-00-0"


def test_what_is_no_gpu_is_not_called_one() -> None:
    nic = dataclasses.replace(accelerator("0000:1b:00.0"), type="nic")
    assert naming.name_accelerator(nic) == "nic-0000-1b-00-0"


def test_a_partition_is_named_by_parent_profile_and_placement() -> None:
    assert naming.name_partition(accelerator(), partition("1g.10gb", 3)) == "gpu-0000-1a-00-0-1g-10gb-3"


def test_a_partition_of_a_partition_is_told_apart_by_its_subplacement() -> None:
    part = dataclasses.replace(partition("1c.3g.40gb", 4), subplacement=2)
    assert naming.name_partition(accelerator(), part) == "gpu-0000-1a-00-0-1c-3g-40gb-4-2"


@pytest.mark.parametrize(
    ("address", "name", "expected"),
    [
        ("0000:1a:00.0", "gpu-0000-1a-00-0", True),
        ("0000:1A:00.0", "nic-0000-1a-00-0", True),
        ("0000:1a:00.0", "gpu-0000-1a-00-0-1g-10gb-3", True),
        ("0000:1a:00.0", "gpu-0000-1a-00-1", False),
        ("0000:1a:00.0", "gpu-0000-1a-00-01", False),
        ("1a:00.0", "gpu-0001a-00-0", False),
    ],
)
def test_a_name_tells_the_address_without_the_device(address: str, name: str, *, expected: bool) -> None:
    assert naming.is_at(name, address) is expected


def test_index_and_uuid_are_no_part_of_a_name() -> None:
    before = accelerator(index=0, uuid="GPU-a")
    after = accelerator(index=7, uuid="GPU-b")
    assert naming.name_accelerator(before) == naming.name_accelerator(after)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1g.10gb+me", "1g-10gb-me"), ("4G..20GB", "4g-20gb"), ("..x..", "x"), ("0000:1A:00.0", "0000-1a-00-0")],
)
def test_slug(text: str, expected: str) -> None:
    assert naming.slug(text) == expected


def test_a_name_that_is_too_long_stays_a_label_and_stays_distinct() -> None:
    names = {
        naming.name_partition(accelerator(), partition(f"{'very-long-profile-name-' * 3}{end}", 0)) for end in "abc"
    }
    assert len(names) == 3
    assert all(LABEL.fullmatch(name) for name in names)


def test_partitions_with_and_without_media_engines_are_told_apart() -> None:
    """`1g.24gb+me` and `1g.24gb-me` stand beside each other on one GPU (RTX PRO 6000)."""
    names = [
        naming.name_partition(accelerator(), partition(f"1g.24gb{end}", 3)) for end in ("", "+me", "-me", "+me.all")
    ]
    ends = [name.removeprefix("gpu-0000-1a-00-0-1g-24gb") for name in names]
    assert ends == ["-3", "-me-3", "-no-me-3", "-me-all-3"]
