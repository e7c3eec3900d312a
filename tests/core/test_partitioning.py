"""What one accelerator offers in each mode: nothing twice, nothing that cannot be had, and a reason for the rest."""

from __future__ import annotations

import dataclasses

import pytest

from driver.core import counting
from driver.core.offering import Mode, Offer, Own
from driver.core.partitioning import Division, divide, owned
from driver.model.devices import Accelerator
from driver.model.prepared import PARTITION, Step
from tests.fakes.hardware import accelerator
from tests.fakes.partitionable import ADDRESS, DYNAMIC, carve, find_profile, h100, make, own

NAMES = ["1g.10gb", "1g.10gb+me", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"]


def shapes(division: Division) -> set[tuple[str, int]]:
    return {(part.published.profile, part.published.placement) for part in division.parts}


def made(division: Division) -> dict[tuple[str, int], str | None]:
    """Return what exists now: its identity, by profile and placement."""
    parts = [part for part in division.parts if part.actual.uuid]
    return {(part.published.profile, part.published.placement): part.actual.uuid for part in parts}


def said(division: Division) -> list[tuple[str, str]]:
    return [(failure.part, failure.reason) for failure in division.omitted]


def everything(device: Accelerator) -> set[tuple[str, int]]:
    return {(profile.name, place) for profile in device.profiles for place in profile.placements}


def test_dynamic_offers_every_profile_at_every_place_beside_the_whole_device() -> None:
    division = divide(h100(), DYNAMIC)
    assert division.whole
    assert {name for name, _ in shapes(division)} == set(NAMES)
    assert shapes(division) == everything(h100())
    assert len(division.parts) == 25
    assert division.counters == counting.total(h100())
    assert division.omitted == ()


def test_nothing_that_is_possible_has_an_identity_and_all_of_it_what_its_vendor_needs() -> None:
    device = h100()
    profile = dataclasses.replace(find_profile(device, "2g.20gb"), handle={"gi": 14})
    (first, *_) = divide(dataclasses.replace(device, profiles=(profile,)), DYNAMIC).parts
    assert (first.published.uuid, first.published.size, first.published.handle) == (None, 2, {"gi": 14})
    assert first.actual == first.published


def test_only_the_profiles_that_are_set_are_offered() -> None:
    division = divide(h100(), Offer(Mode.DYNAMIC, frozenset({"1g.20gb", "3g.40gb"})))
    assert shapes(division) == {("1g.20gb", place) for place in (0, 2, 4, 6)} | {("3g.40gb", 0), ("3g.40gb", 4)}
    assert division.whole


def test_a_device_that_has_none_of_the_profiles_that_are_set_says_so() -> None:
    division = divide(h100(), Offer(Mode.DYNAMIC, frozenset({"1g.5gb"})))
    assert division.whole
    assert division.parts == ()
    assert said(division) == [
        ("partitions", f"none of its profiles ({', '.join(NAMES)}) is among those that are set"),
    ]


@pytest.mark.parametrize("mode", [Mode.OFF, Mode.STATIC])
def test_a_whole_device_stays_whole_in_the_other_modes(mode: Mode) -> None:
    division = divide(h100(), Offer(mode))
    assert (division.whole, division.parts, division.omitted) == (True, (), ())


def test_static_offers_what_exists_as_it_is() -> None:
    device = carve(h100(), ("1g.10gb", 0), ("3g.40gb", 4))
    division = divide(device, Offer())
    assert not division.whole
    assert [part.published for part in division.parts] == list(device.partitions)
    assert not any(part.takes for part in division.parts)


def test_off_offers_no_partitions_whoever_made_them() -> None:
    division = divide(carve(h100(), ("1g.10gb", 0)), Offer(Mode.OFF))
    assert (division.whole, division.parts) == (False, ())
    assert said(division) == [
        ("", "it is in partition mode, and this node offers whole devices only (partitions: off)"),
    ]


def test_a_device_without_profiles_is_whole_in_every_mode() -> None:
    for mode in Mode:
        division = divide(accelerator(), Offer(mode))
        assert (division.whole, division.parts, division.omitted) == (True, (), ())


def test_a_device_whose_shapes_its_vendor_cannot_tell_says_so_in_dynamic_mode() -> None:
    """As without the permission to ask for them. In the other modes nobody wanted to know."""
    device = dataclasses.replace(accelerator(), partition_fault="insufficient permissions")
    division = divide(device, DYNAMIC)
    assert division.whole
    assert said(division) == [("partitions", "it cannot be partitioned: insufficient permissions")]
    assert divide(device, Offer(Mode.STATIC)).omitted == ()


def test_a_partition_of_ours_is_offered_as_before_it_was_made() -> None:
    before = divide(h100(), DYNAMIC)
    device = carve(h100(), ("2g.20gb", 2))
    after = divide(device, Offer(Mode.DYNAMIC, owned=own(device, ("2g.20gb", 2))))
    assert after.whole, "it can be had once the partition is gone; the counters say when"
    assert [part.published for part in after.parts] == [part.published for part in before.parts]
    assert [part.takes for part in after.parts] == [part.takes for part in before.parts]
    assert after.counters == before.counters
    assert made(after) == {("2g.20gb", 2): "MIG-2g.20gb-2"}
    assert next(part.actual.handle for part in after.parts if part.actual.uuid) == {"gi": 2}


def test_a_partition_that_is_being_made_is_ours_before_its_identity_is_known() -> None:
    device = carve(h100(), ("2g.20gb", 2))
    planned = Own(ADDRESS, "2g.20gb", 2)
    division = divide(device, Offer(Mode.DYNAMIC, owned=frozenset({planned})))
    assert made(division) == {("2g.20gb", 2): "MIG-2g.20gb-2"}
    assert division.whole
    assert all(part.takes for part in division.parts), "nothing is foreign"
    earlier = dataclasses.replace(planned, present=frozenset({"MIG-2g.20gb-2"}))
    assert not divide(device, Offer(Mode.DYNAMIC, owned=frozenset({earlier}))).whole, "it was there before: not ours"


def test_a_partition_of_another_identity_at_our_place_is_not_ours() -> None:
    device = carve(h100(), ("2g.20gb", 2))
    replaced = frozenset({Own(ADDRESS, "2g.20gb", 2, "MIG-of-before")})
    division = divide(device, Offer(Mode.DYNAMIC, owned=replaced))
    assert not division.whole
    assert [part for part in division.parts if not part.takes] == [], "nor anybody else's, while a claim has the place"


def test_what_overlaps_a_foreign_partition_is_not_offered() -> None:
    division = divide(carve(h100(), ("2g.20gb", 2)), DYNAMIC)
    assert not division.whole
    assert shapes(division) == {
        ("2g.20gb", 2),  # itself
        *(("1g.10gb", place) for place in (0, 1, 4, 5, 6)),
        *(("1g.10gb+me", place) for place in (0, 1, 4, 5, 6)),
        *(("1g.20gb", place) for place in (0, 4, 6)),
        *(("2g.20gb", place) for place in (0, 4)),
        ("3g.40gb", 4),
    }
    assert made(division) == {("2g.20gb", 2): "MIG-2g.20gb-2"}
    assert said(division) == [
        (
            "whole device",
            "whatever overlaps partitions that accel-dra did not make is not offered: 2g.20gb at 2 (MIG-2g.20gb-2)",
        )
    ]


def test_engines_of_a_foreign_partition_are_nobody_elses() -> None:
    division = divide(carve(h100(), ("1g.10gb+me", 6)), DYNAMIC)
    assert "ofa-engines" not in division.counters
    assert division.counters["multiprocessors"] == 116
    assert ("1g.10gb+me", 0) not in shapes(division), "there is one engine for optical flow"
    assert ("1g.10gb", 0) in shapes(division)


def test_a_foreign_partition_whose_place_is_not_known_stops_all_others() -> None:
    device = h100()
    odd = dataclasses.replace(make(device, "1g.10gb", 0), profile="1c.2g.20gb", size=None)
    division = divide(dataclasses.replace(device, partitioned=True, partitions=(odd,)), DYNAMIC)
    assert [part.published for part in division.parts] == [odd]
    assert said(division)[0] == (
        "partitions",
        "no partitions are made on it: the place that 1c.2g.20gb at 0 (MIG-1g.10gb-0) takes is not known",
    )


def test_a_foreign_partition_without_a_size_has_that_of_its_profile() -> None:
    device = h100()
    part = dataclasses.replace(make(device, "3g.40gb", 0), size=None)
    division = divide(dataclasses.replace(device, partitioned=True, partitions=(part,)), DYNAMIC)
    assert ("2g.20gb", 2) not in shapes(division)
    assert ("2g.20gb", 4) in shapes(division)


def test_a_device_that_cannot_be_switched_offers_what_its_mode_allows() -> None:
    fixed = dataclasses.replace(h100(), partition_fault="GPU requires reset")
    division = divide(fixed, DYNAMIC)
    assert (division.whole, division.parts) == (True, ())
    assert said(division) == [("partitions", "it cannot be partitioned: GPU requires reset")]
    division = divide(carve(fixed), DYNAMIC)
    assert not division.whole
    assert shapes(division) == everything(fixed)
    assert said(division) == [("whole device", "it is in partition mode and cannot leave it: GPU requires reset")]


def test_a_device_that_an_administrator_left_in_partition_mode_can_be_had_whole() -> None:
    division = divide(carve(h100()), DYNAMIC)
    assert division.whole
    assert shapes(division) == everything(h100())


def test_of_profiles_with_one_name_the_first_is_offered_and_none_twice() -> None:
    device = h100()
    first = dataclasses.replace(find_profile(device, "1g.10gb"), placements=(6, *range(7)))
    twin = dataclasses.replace(first, placements=(0, 0, 6), multiprocessors=15)
    division = divide(dataclasses.replace(device, profiles=(first, twin)), DYNAMIC)
    assert [part.published.placement for part in division.parts] == list(range(7))
    assert {part.published.multiprocessors for part in division.parts} == {16}


def test_a_device_with_too_many_memory_slices_for_counters_stays_whole() -> None:
    device = h100()
    fine = dataclasses.replace(find_profile(device, "1g.10gb"), placements=tuple(range(40)))
    division = divide(dataclasses.replace(device, profiles=(fine,)), DYNAMIC)
    assert (division.whole, division.parts) == (True, ())
    assert said(division) == [
        (
            "partitions",
            "no partitions are made on it: its memory slices and engines are 44 counters; at most 32 can be published",
        )
    ]


def test_as_many_counters_as_can_be_published_are_used() -> None:
    device = h100()
    fine = dataclasses.replace(find_profile(device, "1g.10gb"), placements=tuple(range(28)))
    division = divide(dataclasses.replace(device, profiles=(fine,)), DYNAMIC)
    assert len(division.counters) == 32
    assert len(division.parts) == 28


def test_a_profile_that_takes_no_memory_slice_is_none() -> None:
    device = h100()
    odd = dataclasses.replace(find_profile(device, "1g.10gb"), size=0)
    assert divide(dataclasses.replace(device, profiles=(odd,)), DYNAMIC).parts == ()


@pytest.mark.parametrize("mode", [Mode.OFF, Mode.STATIC])
def test_a_partition_of_ours_stays_until_its_claim_is_gone_whatever_the_mode(mode: Mode) -> None:
    device = carve(h100(), ("2g.20gb", 2))
    division = divide(device, Offer(mode, owned=own(device, ("2g.20gb", 2))))
    assert made(division) == {("2g.20gb", 2): "MIG-2g.20gb-2"}
    assert [part.published.uuid for part in division.parts] == [None], "the same device as in dynamic mode"


def test_a_partition_of_ours_stays_though_its_profile_is_offered_no_longer() -> None:
    device = carve(h100(), ("2g.20gb", 2))
    offer = Offer(Mode.DYNAMIC, frozenset({"1g.10gb"}), own(device, ("2g.20gb", 2)))
    division = divide(device, offer)
    assert ("2g.20gb", 2) in made(division)
    part = next(part for part in division.parts if part.actual.uuid)
    assert part.takes == counting.take(make(device, "2g.20gb", 2)), "so that nothing is allocated over it"
    gone = dataclasses.replace(device, profiles=tuple(each for each in device.profiles if each.name == "1g.10gb"))
    part = next(part for part in divide(gone, offer).parts if part.actual.uuid)
    assert (part.published.uuid, part.published.multiprocessors) == (None, 32)


def test_partitions_of_ours_are_those_that_steps_have_made() -> None:
    arguments = {"pciAddress": ADDRESS, "profile": "2g.20gb", "placement": "2"}
    done = Step(name=PARTITION, arguments=arguments, facts={"present": "MIG-a MIG-b", "uuid": "MIG-c"})
    begun = Step(name=PARTITION, arguments=arguments | {"placement": "4"}, facts={"present": ""})
    other = Step(name="compute-mode", arguments=arguments)
    unknown = Step(name=PARTITION, arguments={"place": "somewhere"})
    assert owned([done, other, begun, unknown]) == {
        Own(ADDRESS, "2g.20gb", 2, "MIG-c", frozenset({"MIG-a", "MIG-b"})),
        Own(ADDRESS, "2g.20gb", 4),
    }


@pytest.mark.parametrize("mode", list(Mode))
def test_what_a_claim_holds_and_a_boot_took_is_kept_for_it(mode: Mode) -> None:
    """Its next prepare makes it again, whatever the mode is by then; until then nobody else may have its place."""
    device = h100()
    offer = Offer(mode, profiles=frozenset({"1g.10gb"}), owned=frozenset({Own(ADDRESS, "2g.20gb", 2, "MIG-before")}))
    division = divide(device, offer)
    (kept,) = [part for part in division.parts if part.published.profile == "2g.20gb"]
    assert (kept.published.uuid, kept.published.placement, kept.published.size) == (None, 2, 2)
    assert division.whole == (mode is Mode.DYNAMIC), "then its counters keep others away"
    assert bool(kept.takes) == (mode is Mode.DYNAMIC)
    assert divide(device, Offer(mode)).whole


@pytest.mark.parametrize("mode", [Mode.STATIC, Mode.DYNAMIC])
def test_a_stranger_that_took_the_place_of_a_claim_after_a_boot_is_given_to_nobody(mode: Mode) -> None:
    device = carve(h100(), ("3g.40gb", 0), ("1g.10gb", 5))
    held = Own(ADDRESS, "2g.20gb", 2, "MIG-before")
    division = divide(device, Offer(mode, owned=frozenset({held})))
    assert [part.published.profile for part in division.parts if part.actual.uuid] == ["1g.10gb"]
    (kept,) = [part for part in division.parts if part.published.profile == "2g.20gb" and part.published.placement == 2]
    assert bool(kept.takes) == (mode is Mode.DYNAMIC), "nor is the rest of the place"
    assert ("partitions", "3g.40gb at 0 (MIG-3g.40gb-0) stands where a claim has a partition") in [
        (part, reason.partition(" that is")[0]) for part, reason in said(division)
    ]
    known = dataclasses.replace(held, uuid="", present=frozenset({"MIG-3g.40gb-0"}))
    division = divide(device, Offer(mode, owned=frozenset({known})))
    assert len([part for part in division.parts if part.actual.uuid]) == 2, (
        "it was there first, and the claim is refused"
    )
