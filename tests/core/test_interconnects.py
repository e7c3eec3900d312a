"""Domains: switches join, meshes split into fully linked groups, broken links count for nothing."""

from __future__ import annotations

import dataclasses
from itertools import combinations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.core.interconnects import find_domains, sum_bandwidth
from driver.model.devices import Accelerator, Remote
from tests.fakes.hardware import accelerator, link, mesh

ADDRESSES = [f"0000:{bus:02x}:00.0" for bus in range(1, 17)]


def switched(address: str, *switches: str | None) -> Accelerator:
    links = tuple(link(index, switch, remote=Remote.SWITCH) for index, switch in enumerate(switches))
    return accelerator(address, links=links)


def groups(devices: tuple[Accelerator, ...]) -> set[tuple[str, ...]]:
    return set(find_domains(devices).values())


def test_all_devices_behind_shared_switches_are_one_domain() -> None:
    devices = tuple(switched(address, "0000:aa:00.0", "0000:ab:00.0") for address in ADDRESSES[:8])
    assert groups(devices) == {tuple(ADDRESSES[:8])}


def test_switches_that_share_no_device_are_domains_of_their_own() -> None:
    one = [switched(address, "0000:aa:00.0") for address in ADDRESSES[:4]]
    other = [switched(address, "0000:ab:00.0") for address in ADDRESSES[4:8]]
    assert groups((*one, *other)) == {tuple(ADDRESSES[:4]), tuple(ADDRESSES[4:8])}


def test_switches_without_an_address_are_taken_for_one_fabric() -> None:
    devices = tuple(switched(address, None, None) for address in ADDRESSES[:4])
    assert groups(devices) == {tuple(ADDRESSES[:4])}


def test_a_switch_without_an_address_joins_those_with_one() -> None:
    devices = (
        switched(ADDRESSES[0], "0000:aa:00.0"),
        switched(ADDRESSES[1], "0000:ab:00.0"),
        switched(ADDRESSES[2], None),
    )
    assert groups(devices) == {tuple(ADDRESSES[:3])}


def test_a_switch_that_joins_late_joins_everything_it_reaches() -> None:
    devices = (
        switched(ADDRESSES[0], "0000:aa:00.0"),
        switched(ADDRESSES[1], "0000:ab:00.0"),
        switched(ADDRESSES[2], "0000:aa:00.0", "0000:ab:00.0"),
    )
    assert groups(devices) == {tuple(ADDRESSES[:3])}


def test_a_device_alone_behind_a_switch_is_in_no_domain() -> None:
    assert find_domains([switched(ADDRESSES[0], "0000:aa:00.0")]) == {}


def test_links_that_are_down_lead_nowhere() -> None:
    down = tuple(dataclasses.replace(item, active=False) for item in switched(ADDRESSES[0], "0000:aa:00.0").links)
    devices = [accelerator(ADDRESSES[0], links=down), *(switched(name, "0000:aa:00.0") for name in ADDRESSES[1:3])]
    assert find_domains(devices) == dict.fromkeys(ADDRESSES[1:3], tuple(ADDRESSES[1:3]))


def test_a_link_that_only_one_end_sees_does_not_count() -> None:
    one, other = mesh((ADDRESSES[0], ADDRESSES[1]))
    deaf = dataclasses.replace(other, links=(dataclasses.replace(other.links[0], active=False),))
    assert find_domains([one, deaf]) == {}


def test_devices_in_partition_mode_take_no_part() -> None:
    devices = tuple(switched(address, "0000:aa:00.0") for address in ADDRESSES[:3])
    devices = (dataclasses.replace(devices[0], partitioned=True), *devices[1:])
    assert groups(devices) == {tuple(ADDRESSES[1:3])}


def test_a_full_mesh_is_one_domain() -> None:
    assert groups(mesh(*combinations(ADDRESSES[:4], 2))) == {tuple(ADDRESSES[:4])}


def test_a_hybrid_cube_mesh_is_two_groups_of_four() -> None:
    cube = [*combinations(ADDRESSES[:4], 2), *combinations(ADDRESSES[4:8], 2)]
    cube += [(ADDRESSES[number], ADDRESSES[number + 4]) for number in range(4)]
    assert groups(mesh(*cube)) == {tuple(ADDRESSES[:4]), tuple(ADDRESSES[4:8])}


def test_pairs_with_bridges_are_pairs() -> None:
    assert groups(mesh((ADDRESSES[0], ADDRESSES[1]), (ADDRESSES[2], ADDRESSES[3]))) == {
        tuple(ADDRESSES[:2]),
        tuple(ADDRESSES[2:4]),
    }


def test_a_ring_prefers_the_pairs_with_more_links() -> None:
    a, b, c, d = ADDRESSES[:4]
    ring = [(a, b), (b, c), (b, c), (c, d), (d, a), (d, a)]
    assert groups(mesh(*ring)) == {(b, c), (a, d)}


def test_bandwidth_is_the_sum_over_active_links() -> None:
    (one, _) = mesh(*[(ADDRESSES[0], ADDRESSES[1])] * 3)
    broken = dataclasses.replace(one, links=(*one.links, link(9, ADDRESSES[1], active=False)))
    assert sum_bandwidth(broken) == 75


@pytest.mark.parametrize("speeds", [(), (25, None)])
def test_bandwidth_is_unknown_without_links_or_with_an_unknown_one(speeds: tuple[int | None, ...]) -> None:
    links = tuple(
        dataclasses.replace(link(index, ADDRESSES[1]), gbytes_per_second=speed) for index, speed in enumerate(speeds)
    )
    assert sum_bandwidth(accelerator(links=links)) is None


pairs_of_devices = st.lists(st.sampled_from(list(combinations(ADDRESSES[:8], 2))), max_size=24)


@given(pairs_of_devices)
def test_members_of_a_domain_are_all_linked_and_each_device_is_in_one(pairs: list[tuple[str, str]]) -> None:
    domains = find_domains(mesh(*pairs))
    for address, group in domains.items():
        assert address in group
        assert len(group) > 1
        assert all(pair in pairs for pair in combinations(group, 2))
        assert all(domains[member] == group for member in group)


@given(pairs_of_devices, st.randoms(use_true_random=False))
def test_the_order_in_which_devices_are_found_does_not_matter(pairs: list[tuple[str, str]], random: Random) -> None:
    devices = list(mesh(*pairs))
    expected = find_domains(devices)
    random.shuffle(devices)
    assert find_domains(devices) == expected


@given(pairs_of_devices)
def test_no_two_domains_could_be_one(pairs: list[tuple[str, str]]) -> None:
    for one, other in combinations(set(find_domains(mesh(*pairs)).values()), 2):
        joined = tuple(sorted((*one, *other)))
        assert not all(pair in pairs for pair in combinations(joined, 2))
