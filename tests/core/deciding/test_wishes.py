"""Wishes of a policy: tried together, given up in their order, and never if they are required."""

from __future__ import annotations

from driver.core.deciding import wishes
from driver.core.deciding.world import Member
from driver.model.objects import ObjectMeta
from driver.model.policies import Policy, Preference
from driver.model.requests import ALL, ClaimSpec, DeviceRequest, DevicesSpec, Request
from driver.model.vocabulary import INTERCONNECT_DOMAIN, NUMA_NODE, PCIE_ROOT
from driver.model.wanted import Claim

REQUIRE, PREFER, IGNORE = Preference.REQUIRE, Preference.PREFER, Preference.IGNORE


def claim(**counts: int | str) -> Claim:
    """Return a claim with a request for so many devices of the class of the same name; `a2` is of class `a` as well."""
    requests = tuple(
        Request(
            name=name,
            exactly=DeviceRequest(device_class_name=name[0], allocation_mode=ALL)
            if count == ALL
            else DeviceRequest(device_class_name=name[0], count=int(count)),
        )
        for name, count in counts.items()
    )
    return Claim(metadata=ObjectMeta(name="c"), spec=ClaimSpec(devices=DevicesSpec(requests=requests)))


def attempts(wanted: Claim, policy: Policy) -> list[list[tuple[str, tuple[str, ...]]]]:
    """Return the constraints of each attempt, by attribute and requests."""
    member = Member((wanted,), (policy,))
    return [
        [(each.match_attribute, each.requests) for each in claims[0].spec.devices.constraints]
        for claims in wishes.list_attempts(member)
    ]


NUMA, ROOT = (NUMA_NODE, ()), (PCIE_ROOT, ())


def linked(*requests: str) -> tuple[str, tuple[str, ...]]:
    return INTERCONNECT_DOMAIN, requests


def test_the_least_important_wish_is_given_up_first() -> None:
    assert attempts(claim(a=2), Policy()) == [[NUMA, linked("a")], [linked("a")], []]
    expected = [[ROOT, NUMA, linked("a")], [NUMA, linked("a")], [linked("a")], []]
    assert attempts(claim(a=2, b=1), Policy()) == expected


def test_what_is_required_is_never_given_up() -> None:
    both = Policy(interconnect=REQUIRE, numa=REQUIRE)
    assert attempts(claim(a=2), both) == [[NUMA, linked("a")]]
    assert attempts(claim(a=2), Policy(interconnect=REQUIRE)) == [[NUMA, linked("a")], [linked("a")]]
    assert attempts(claim(a=1, b=1), Policy(numa=REQUIRE)) == [[ROOT, NUMA], [NUMA]]


def test_what_is_ignored_is_no_wish() -> None:
    assert attempts(claim(a=4), Policy(interconnect=IGNORE, numa=IGNORE)) == [[]]
    assert attempts(claim(a=4), Policy(interconnect=IGNORE)) == [[NUMA], []]


def test_one_device_has_nothing_to_be_near_to() -> None:
    assert attempts(claim(a=1), Policy(interconnect=REQUIRE, numa=REQUIRE)) == [[]]


def test_links_are_between_devices_of_one_class_over_all_requests() -> None:
    policy = Policy(interconnect=REQUIRE, numa=IGNORE)
    assert attempts(claim(a=1, a2=1, b=1), policy) == [[linked("a", "a2")]]
    assert attempts(claim(a=ALL), policy) == [[linked("a")]]


def test_constraints_of_the_claim_stay() -> None:
    member = Member((claim(a=2), claim(a=2)), (Policy(), Policy(interconnect=REQUIRE)))
    found = [[len(each.spec.devices.constraints) for each in claims] for claims in wishes.list_attempts(member)]
    assert found == [[2, 2], [1, 1], [0, 1]]
