"""Shared counters: what there is on an accelerator, and what each of its devices takes."""

from __future__ import annotations

import dataclasses

from driver.core import counting
from driver.model.slices import Counter
from tests.fakes.hardware import accelerator
from tests.fakes.partitionable import find_profile, h100, make

SLICES = {f"memory-slice-{number}": 1 for number in range(8)}


def test_a_counter_has_the_most_that_the_whole_device_or_a_profile_has() -> None:
    device = h100()
    assert counting.total(device) == SLICES | {
        "multiprocessors": 132,
        "copy-engines": 8,
        "decoders": 7,
        "jpeg-engines": 7,
        "ofa-engines": 1,
    }
    fewer = dataclasses.replace(device, multiprocessors=100)
    assert counting.total(fewer)["multiprocessors"] == 132, "a profile has more than the vendor says of the whole"


def test_what_exists_changes_nothing_of_what_there_is() -> None:
    device = h100()
    odd = dataclasses.replace(make(device, "1g.10gb", 0), multiprocessors=999, placement=12)
    assert counting.total(dataclasses.replace(device, partitioned=True, partitions=(odd,))) == counting.total(device)


def test_a_device_that_cannot_be_partitioned_is_one_memory_slice() -> None:
    assert counting.total(accelerator()) == {"memory-slice-0": 1, "multiprocessors": 132}
    assert counting.total(accelerator(multiprocessors=None)) == {"memory-slice-0": 1}


def test_a_partition_takes_its_memory_slices_and_its_engines_and_nothing_of_what_it_has_none() -> None:
    taken = counting.take(make(h100(), "2g.20gb", 4))
    assert taken == {
        "memory-slice-4": 1,
        "memory-slice-5": 1,
        "multiprocessors": 32,
        "copy-engines": 2,
        "decoders": 2,
        "jpeg-engines": 2,
    }


def test_compute_instances_of_one_place_share_its_memory_and_engines() -> None:
    half = dataclasses.replace(make(h100(), "2g.20gb", 4), multiprocessors=16, subplacement=0)
    other = dataclasses.replace(half, subplacement=1, uuid="MIG-other")
    beside = make(h100(), "1g.10gb", 0)
    assert counting.take_together([half, beside, other]) == {
        "memory-slice-0": 1,
        "memory-slice-4": 1,
        "memory-slice-5": 1,
        "multiprocessors": 48,
        "copy-engines": 3,
        "decoders": 3,
        "jpeg-engines": 3,
    }


def test_what_is_left_is_never_less_than_nothing() -> None:
    left = counting.subtract({"a": 2, "b": 1, "c": 4}, {"a": 3, "b": 1, "d": 9})
    assert left == {"c": 4}
    assert counting.fits({"c": 4}, left)
    assert not counting.fits({"c": 5}, left)
    assert not counting.fits({"a": 1}, left)


def test_counters_are_written_in_one_order_and_read_again() -> None:
    made = counting.make_set(h100(), {"b": 2, "a": 1})
    assert made.name == "gpu-0000-1a-00-0"
    assert list(made.counters.items()) == [("a", Counter(value="1")), ("b", Counter(value="2"))]
    (consumption,) = counting.consume(made, {"a": 1})
    assert (consumption.counter_set, counting.read(consumption.counters)) == (made.name, {"a": 1})


def test_there_is_one_partition_with_media_extensions_because_their_engine_is_one() -> None:
    extended = find_profile(h100(), "1g.10gb+me")
    assert extended.ofa_engines == counting.total(h100())["ofa-engines"] == 1
