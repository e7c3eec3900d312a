"""Which devices are fully linked with each other inside a node. Called by `inventory`, `ordering` and `topology`.

Pure graph work on the links that vendors report. It promises that any two devices of one domain can reach each other
over active links without passing through a third device, that each device is in one domain at most, and that the same
hardware always gives the same domains. It must not know names of devices or of attributes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import combinations

from driver.model.devices import Accelerator, Remote

Domains = dict[str, tuple[str, ...]]
"""PCI addresses of the members, sorted, by the address of each member."""


def find_domains(accelerators: Sequence[Accelerator]) -> Domains:
    """Return the domains of a node: those behind switches, then direct meshes split into fully linked groups.

    A device that is linked to no other one is in none. Devices in partition mode take no part: their links are down.
    """
    usable = [accelerator for accelerator in accelerators if not accelerator.partitioned]
    switched = _group_by_switches(usable)
    behind = {address for group in switched for address in group}
    direct = _split_into_groups(_count_direct_links([device for device in usable if device.pci_address not in behind]))
    return {address: group for group in (*switched, *direct) for address in group}


def sum_bandwidth(accelerator: Accelerator) -> int | None:
    """Return GB/s in one direction over all active links; None without any, or if one of them is not known."""
    speeds = [link.gbytes_per_second for link in accelerator.links if link.active]
    known = [speed for speed in speeds if speed is not None]
    return sum(known) if known and len(known) == len(speeds) else None


def _group_by_switches(accelerators: Sequence[Accelerator]) -> list[tuple[str, ...]]:
    """Return the groups that share switches. A switch without an address may be any: it joins all groups."""
    reached = {
        accelerator.pci_address: {
            link.remote_address for link in accelerator.links if link.active and link.remote is Remote.SWITCH
        }
        for accelerator in accelerators
    }
    groups: list[tuple[set[str], set[str | None]]] = []
    for address, switches in reached.items():
        if not switches:
            continue
        members, ends = {address}, set(switches)
        apart = []
        for group in groups:
            if None in ends or None in group[1] or ends & group[1]:
                members |= group[0]
                ends |= group[1]
            else:
                apart.append(group)
        groups = [*apart, (members, ends)]
    return sorted(tuple(sorted(members)) for members, _ in groups if len(members) > 1)


def _count_direct_links(accelerators: Sequence[Accelerator]) -> dict[tuple[str, str], int]:
    """Return the number of active links of each pair, addresses sorted. A link counts if both ends see it."""
    seen = {
        device.pci_address: [
            link.remote_address for link in device.links if link.active and link.remote is Remote.DEVICE
        ]
        for device in accelerators
    }
    pairs = combinations(sorted(seen), 2)
    counted = {(one, other): min(seen[one].count(other), seen[other].count(one)) for one, other in pairs}
    return {pair: count for pair, count in counted.items() if count}


def _split_into_groups(links: Mapping[tuple[str, str], int]) -> list[tuple[str, ...]]:
    """Split a mesh: again and again the largest fully linked group, then the most links, then the lowest address."""
    groups = []
    left = dict(links)
    while left:
        best = min(_find_cliques(left), key=lambda group: (-len(group), -_count_inside(group, left), group))
        groups.append(best)
        left = {pair: count for pair, count in left.items() if not set(pair) & set(best)}
    return groups


def _count_inside(group: tuple[str, ...], links: Mapping[tuple[str, str], int]) -> int:
    return sum(links[pair] for pair in combinations(group, 2))


def _find_cliques(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, ...]]:
    """Return all maximal fully linked groups (Bron and Kerbosch 1973, with pivots), each sorted."""
    neighbours: dict[str, set[str]] = {}
    for one, other in pairs:
        neighbours.setdefault(one, set()).add(other)
        neighbours.setdefault(other, set()).add(one)
    found: list[tuple[str, ...]] = []

    def extend(group: Set[str], candidates: set[str], excluded: set[str]) -> None:
        if not candidates and not excluded:
            found.append(tuple(sorted(group)))
            return
        pivot = max(candidates | excluded, key=lambda node: (len(candidates & neighbours[node]), node))
        for node in sorted(candidates - neighbours[pivot]):
            extend(group | {node}, candidates & neighbours[node], excluded & neighbours[node])
            candidates = candidates - {node}
            excluded = excluded | {node}

    extend(frozenset(), set(neighbours), set())
    return found
