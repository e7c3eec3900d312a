"""Groups: which are complete, which claims go together, and who goes first.

Called once a round, after `demands`. A group is all claims with one value of the label `accel-dra.dev/group` in one
namespace whose policies ask for a group. It is ready when `size` of its claims can be allocated as far as they
themselves are concerned; those of which some are allocated already (half of it was written when a controller ended, or
a pod came anew) are completed. A group of more claims than `size` is served `size` claims at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from driver.core.deciding import demands
from driver.core.deciding.demands import Ask, Demands
from driver.core.deciding.world import Member, Reason, Unit, Waiting, World
from driver.model.errors import InvalidInput
from driver.model.policies import GROUP_LABEL, GroupPolicy, Policy, When
from driver.model.wanted import Claim

_Name = tuple[str, str]
"""Namespace and label."""


@dataclass(frozen=True, slots=True)
class Grouped:
    """Units in the order in which they are served, and the claims whose group is not ready."""

    units: tuple[Unit, ...]
    waiting: tuple[Waiting, ...]
    halves: tuple[Claim, ...]
    """Allocated claims of groups that were never whole and cannot be completed, because claims are missing."""


@dataclass(frozen=True, slots=True)
class _Group:
    name: _Name
    policy: GroupPolicy
    members: tuple[Member, ...]
    """In their order."""
    anchors: tuple[Claim, ...]

    def __str__(self) -> str:
        return "/".join(self.name)


def arrange(world: World, ask: Ask, found: Demands) -> Grouped:
    """Return all units of a round."""
    single: list[Unit] = []
    grouped: dict[_Name, list[Member]] = {}
    waiting: list[Waiting] = []
    for member in found.members:
        names = sorted({name for each in zip(member.claims, member.policies, strict=True) if (name := _name(*each))})
        if len(names) > 1:
            text = f"the pod has claims of several groups: {', '.join(label for _, label in names)}"
            waiting += _refuse(member, text)
        elif names:
            grouped.setdefault(names[0], []).append(member)
        else:
            single.append(Unit(_describe(member), (member,)))
    halves: list[Claim] = []
    anchors = _find_anchors(world, ask)
    for name in sorted(grouped.keys() | anchors.keys()):
        units, waits, lone = _serve(name, grouped.get(name, []), anchors.get(name, []), ask)
        single += units
        waiting += waits
        halves += lone
    return Grouped(tuple(sorted(single, key=lambda unit: unit.rank)), tuple(waiting), tuple(halves))


def _name(claim: Claim, policy: Policy) -> _Name | None:
    label = demands.group_of(claim, policy)
    return (claim.metadata.namespace, label) if label else None


def _describe(member: Member) -> str:
    return f"pod {_key(member)}" if member.pod else f"claim {member.claims[0]}"


def _key(member: Member) -> str:
    return f"{member.pod.metadata.namespace}/{member.pod.metadata.name}" if member.pod else ""


def _find_anchors(world: World, ask: Ask) -> dict[_Name, list[Claim]]:
    """Return the claims of groups that are allocated."""
    found: dict[_Name, list[Claim]] = {}
    for claim in world.claims.values():
        if GROUP_LABEL not in claim.metadata.labels or not claim.status.allocation or claim.metadata.deletion_timestamp:
            continue
        try:
            policy = ask(claim)
        except InvalidInput:
            continue
        if policy is not None and (name := _name(claim, policy)):
            found.setdefault(name, []).append(claim)
    return found


def _serve(
    name: _Name, members: list[Member], anchors: list[Claim], ask: Ask
) -> tuple[list[Unit], list[Waiting], list[Claim]]:
    policies = _policies(name, members, anchors, ask)
    if len(policies) > 1:
        text = f"the claims of group {name[1]} have different policies: {'; '.join(sorted(map(_show, policies)))}"
        return [], [wait for member in members for wait in _refuse(member, text)], []
    ((policy, _),) = policies
    ordered = sorted(members, key=lambda each: (-each.priority, each.age))
    return _split(_Group(name, policy, tuple(ordered), tuple(anchors)))


def _policies(
    name: _Name, members: Iterable[Member], anchors: Iterable[Claim], ask: Ask
) -> set[tuple[GroupPolicy, When]]:
    found = [each for member in members for each in zip(member.claims, member.policies, strict=True)]
    found += [(claim, policy) for claim in anchors if (policy := ask(claim)) is not None]
    return {(policy.group, policy.when) for claim, policy in found if policy.group and _name(claim, policy) == name}


def _show(policy: tuple[GroupPolicy, When]) -> str:
    group, when = policy
    return f"size {group.size}{f' within {group.within}' if group.within else ''}, {when.value}"


def _split(group: _Group) -> tuple[list[Unit], list[Waiting], list[Claim]]:
    """Cut a group into units of its size; the first one completes what is there already."""
    size = group.policy.size
    there = len(group.anchors) % size
    wanted = size - there
    anchors = group.anchors if there else ()
    units: list[Unit] = []
    rest = list(group.members)
    while batch := _take(rest, wanted, group.name):
        units.append(Unit(f"group {group}", tuple(batch), group.policy, anchors))
        rest = rest[len(batch) :]
        wanted, anchors = size, ()
    text = _describe_missing(group, rest, size, wanted)
    waiting = [Waiting(claim, Reason.GROUP_INCOMPLETE, text, member.pod) for member in rest for claim in member.claims]
    return units, waiting, list(anchors) if len(anchors) < size else []


def _take(members: Sequence[Member], wanted: int, name: _Name) -> list[Member]:
    """Return the first members that together have so many claims of the group; none if they are too few."""
    count = 0
    for index, member in enumerate(members):
        count += _count(member, name)
        if count >= wanted:
            return list(members[: index + 1])
    return []


def _count(member: Member, name: _Name) -> int:
    return sum(_name(claim, policy) == name for claim, policy in zip(member.claims, member.policies, strict=True))


def _describe_missing(group: _Group, rest: Sequence[Member], size: int, wanted: int) -> str:
    ready = sum(_count(member, group.name) for member in rest)
    there = size - wanted
    allocated = f", {there} are allocated" if there else ""
    return f"group {group.name[1]} has {ready + there} of {size} claims that can be allocated{allocated}"


def _refuse(member: Member, text: str) -> list[Waiting]:
    return [Waiting(claim, Reason.INVALID_POLICY, text, member.pod) for claim in member.claims]
