"""What a policy wishes of the devices of a claim, as constraints that explanations understand; called by `stocks`.

A wish that is preferred is tried and given up if no node can fulfil it, the least important first: one PCIe root for
devices of several classes (a GPU and its network card), then one NUMA node, then one interconnect domain. A wish that
is required is never given up.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from driver.core import policies
from driver.core.deciding.world import Member
from driver.model.policies import Policy, Preference
from driver.model.requests import ALL, CelSelector, Constraint, DeviceRequest, Request, Selector
from driver.model.vocabulary import INTERCONNECT_DOMAIN, NUMA_NODE, PCIE_ROOT
from driver.model.wanted import Claim


@dataclass(frozen=True, slots=True)
class _Wish:
    constraints: tuple[Constraint, ...]
    preference: Preference


def list_attempts(member: Member) -> Iterator[tuple[Claim, ...]]:
    """Yield the claims of a member with all wishes first, then with fewer, last with those that are required."""
    wishes = [_list_wishes(*each) for each in zip(member.claims, member.policies, strict=True)]
    given_up = 0
    last: tuple[Claim, ...] | None = None
    while given_up <= max(map(len, wishes), default=0):
        attempt = tuple(
            _constrain(claim, _keep(own, given_up)) for claim, own in zip(member.claims, wishes, strict=True)
        )
        if attempt != last:
            yield attempt
        last = attempt
        given_up += 1


def keep_within(claim: Claim, attribute: str, value: str) -> Claim:
    """Return the claim with a selector for devices with this value of an attribute, or without the attribute."""
    domain, _, name = attribute.rpartition("/")
    has = f"device.attributes[{json.dumps(domain)}]"
    text = f"!{has}.?{name}.hasValue() || {has}.{name} == {json.dumps(value)}"
    selector = Selector(cel=CelSelector(expression=text))
    devices = claim.spec.devices
    requests = tuple(_select(request, selector) for request in devices.requests)
    spec = msgspec.structs.replace(claim.spec, devices=msgspec.structs.replace(devices, requests=requests))
    return msgspec.structs.replace(claim, spec=spec)


def _select(request: Request, selector: Selector) -> Request:
    def narrow(wish: DeviceRequest) -> DeviceRequest:
        return msgspec.structs.replace(wish, selectors=(*wish.selectors, selector))

    return msgspec.structs.replace(
        request,
        exactly=narrow(request.exactly) if request.exactly is not None else None,
        first_available=tuple(narrow(wish) for wish in request.first_available),
    )


def _keep(wishes: Sequence[_Wish], given_up: int) -> list[_Wish]:
    """Return the wishes without the first so many, except for those that are required."""
    return [each for place, each in enumerate(wishes) if place >= given_up or each.preference is Preference.REQUIRE]


def _list_wishes(claim: Claim, policy: Policy) -> list[_Wish]:
    """Return the wishes for one claim, the least important first."""
    requests = claim.spec.devices.requests
    classes = [frozenset(policies.name_classes((request,))) for request in requests]
    wishes: list[_Wish] = []
    if policy.numa is not Preference.IGNORE and _count(requests) > 1:
        if len(set(classes)) > 1:
            wishes.append(_Wish((Constraint(match_attribute=PCIE_ROOT),), Preference.PREFER))
        wishes.append(_Wish((Constraint(match_attribute=NUMA_NODE),), policy.numa))
    linked = tuple(
        Constraint(requests=tuple(each.name for each in alike), match_attribute=INTERCONNECT_DOMAIN)
        for own in Counter(classes)
        if _count(alike := [each for each, names in zip(requests, classes, strict=True) if names == own]) > 1
    )
    if policy.interconnect is not Preference.IGNORE and linked:
        wishes.append(_Wish(linked, policy.interconnect))
    return wishes


def _count(requests: Sequence[Request]) -> int:
    """Return how many devices are asked for at most; all that match count as many."""
    total = 0
    for request in requests:
        choices = (request.exactly,) if request.exactly is not None else request.first_available
        total += max((2 if each.allocation_mode == ALL else each.count for each in choices), default=0)
    return total


def _constrain(claim: Claim, wishes: Sequence[_Wish]) -> Claim:
    if not wishes:
        return claim
    devices = claim.spec.devices
    added = tuple(constraint for wish in wishes for constraint in wish.constraints)
    wider = msgspec.structs.replace(devices, constraints=(*devices.constraints, *added))
    return msgspec.structs.replace(claim, spec=msgspec.structs.replace(claim.spec, devices=wider))
