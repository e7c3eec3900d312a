"""Where a group goes: the fullest domain that holds all of it.

Called by the round for units that are groups. A domain is one value of what the policy's `within` names: an attribute
of devices if any device of ours has it, else a label of nodes. Every member then only gets devices with that value, or
only nodes with that label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from driver.core.deciding import gathering, placing
from driver.core.deciding.placement import Placed, Placement
from driver.core.deciding.world import SHARED, Detail, Failed, Member, Reason, Unit
from driver.model.claims import Allocation

_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class _Domain:
    value: str
    free: Mapping[str, int]
    """Devices left, by node."""
    members: tuple[Member, ...]
    """As they ask within this domain."""


def place_group(searching: Placement, unit: Unit) -> list[Placed] | Failed:
    """Place all members or none."""
    within = unit.group.within if unit.group else ""
    if not within:
        return gathering.hold_all(searching, unit.members, None)
    domains = list(_list_domains(searching, unit, within))
    if not domains:
        return Failed(Reason.NO_DEVICES, f"no device and no node has {within}")
    everything = searching.stock.count_free().get("", {})
    failures: list[tuple[str, Failed]] = []
    for domain in sorted(domains, key=lambda each: (sum(each.free.values()), each.value)):
        answer = _try(searching, domain, everything)
        if isinstance(answer, list):
            return answer
        failures.append((domain.value, answer))
    return _sum_up(within, failures)


def _try(searching: Placement, domain: _Domain, everything: Mapping[str, int]) -> list[Placed] | Failed:
    """Place the members in a domain. `everything`: devices that each node has left, of whatever kind."""
    needed = sum(gathering.count_devices(claim) for member in domain.members for claim in member.claims)
    # Devices of every kind count, since claims may also want some without the attribute, such as network cards.
    left = sum(everything.get(node, 0) for node in domain.free)
    if needed > left and not everything.get(SHARED):
        return Failed(Reason.NO_DEVICES, f"{left} devices are left of {needed} needed")
    return gathering.hold_all(searching, domain.members, frozenset(domain.free))


def _list_domains(searching: Placement, unit: Unit, within: str) -> Iterator[_Domain]:
    by_attribute = searching.stock.count_free(within)
    if by_attribute:
        placed = [searching.stock.values(allocation, within) for allocation in _allocations(unit)]
        for value in _choose(by_attribute, unit, placed):
            members = tuple(replace(member, within=(within, value)) for member in unit.members)
            yield _Domain(value, by_attribute[value], members)
        return
    by_label = _count_by_label(searching, within)
    labels = {name: node.metadata.labels.get(within, "") for name, node in searching.nodes.items()}
    placed = [
        frozenset(labels.get(node, "") for node in placing.name_nodes([allocation]) or ())
        for allocation in _allocations(unit)
    ]
    for value in _choose(by_label, unit, placed):
        yield _Domain(value, by_label[value], unit.members)


def _allocations(unit: Unit) -> list[Allocation]:
    return [claim.status.allocation for claim in unit.anchors if claim.status.allocation is not None]


def _count_by_label(searching: Placement, label: str) -> dict[str, dict[str, int]]:
    counts = searching.stock.count_free().get("", {})
    found: dict[str, dict[str, int]] = {}
    for name, node in searching.nodes.items():
        value = node.metadata.labels.get(label)
        if value is not None:
            found.setdefault(value, {})[name] = counts.get(name, 0)
    return found


def _choose(domains: Mapping[str, Mapping[str, int]], unit: Unit, placed: Sequence[frozenset[str]]) -> list[str]:
    """Return the domains that may be used: all, or those in which a part of the group is that is to be completed."""
    size = unit.group.size if unit.group else 1
    counted = Counter(value for values in placed for value in values)
    begun = {value for value, count in counted.items() if count % size}
    return [value for value in sorted(domains) if value in begun or not unit.anchors]


def _sum_up(within: str, failures: Sequence[tuple[str, Failed]]) -> Failed:
    again = min((failure.again_at for _, failure in failures if failure.again_at), default=0.0)
    return Failed(Reason.NO_DEVICES, Detail(partial(_describe, within, failures)), again)


def _describe(within: str, failures: Sequence[tuple[str, Failed]]) -> str:
    shown = [f"{value}: {failure.message}" for value, failure in failures[:_SHOWN]]
    if len(failures) > _SHOWN:
        shown.append(f"and {len(failures) - _SHOWN} more")
    return f"no {within} has room for the whole group: {'; '.join(shown)}"
