"""The nodes where pods can run, found once a round for all pods that ask for the same, and kept right as nodes fill up.

Called by `placement`. A thousand pods of one kind on a thousand nodes are a thousand looks and not a million: what only
depends on the pod's wishes is remembered by them, and after a pod was placed only its node is looked at again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

import msgspec

from driver.core.deciding import loads, placing
from driver.core.deciding.loads import Load, Requests
from driver.core.deciding.placing import Needs
from driver.core.deciding.world import Member, World
from driver.model.workloads import ClusterNode, Workload

_NOTHING: Final = Load()


@dataclass(slots=True)
class Candidates:
    """Nodes for pods that ask for the same."""

    key: bytes
    """What they ask for; equal for equal wishes."""
    needs: Needs
    nodes: dict[str, ClusterNode] = field(default_factory=dict)
    """Where they can run, by name, in order of their names."""
    obstacles: dict[str, str] = field(default_factory=dict)
    """What is in the way on the other nodes."""
    seen: int = 0
    """How many changes of loads have been taken in."""

    def within(self, allowed: AbstractSet[str] | None) -> dict[str, ClusterNode]:
        """Return those of the nodes that are allowed; None: all."""
        if allowed is None:
            return self.nodes
        return {name: node for name, node in self.nodes.items() if name in allowed}


class Finder:
    """All nodes of a round, and how full they are by now."""

    def __init__(self, world: World) -> None:
        self.nodes = {name: world.nodes[name] for name in sorted(world.nodes)}
        self._served = frozenset(
            each.spec.extended_resource_name for each in world.classes.values() if each.spec.extended_resource_name
        )
        self._loads = dict(world.loads)
        self._requests: dict[str, Requests] = {}
        self._known: dict[bytes, Candidates] = {}
        self._changed: list[str] = []

    def find(self, member: Member) -> Candidates:
        """Return the candidates for the pod of a member. They change when pods are placed."""
        key = _describe(member, self._ask(member.pod))
        found = self._known.get(key)
        if found is None:
            allocated = tuple(each.status.allocation for each in member.others if each.status.allocation is not None)
            found = self._known[key] = Candidates(
                key, Needs(member.pod, self._ask(member.pod), allocated, self._served)
            )
            self._look(found, self._narrow(found.needs))
        else:
            changed = dict.fromkeys(self._changed[found.seen :])
            self._look(found, [name for name in changed if name in found.nodes or name in found.obstacles])
        found.seen = len(self._changed)
        return found

    def occupy(self, pod: Workload, node: str, *, times: int = 1) -> None:
        """Let a pod take room on a node, or with `times=-1` give it back."""
        self._loads[node] = self._loads.get(node, _NOTHING).plus(self._ask(pod), times=times)
        self._changed.append(node)

    def _narrow(self, needs: Needs) -> Sequence[str]:
        """Return the nodes that are worth a look: if the pod is held to some by name, these."""
        named = placing.name_nodes(needs.allocated)
        return list(self.nodes) if named is None else [name for name in self.nodes if name in named]

    def _look(self, found: Candidates, names: Sequence[str]) -> None:
        is_first = not found.nodes and not found.obstacles
        is_new = False
        for name in names:
            node = self.nodes[name]
            obstacle = placing.find_obstacle(found.needs, node, self._loads.get(name, _NOTHING))
            if obstacle:
                found.nodes.pop(name, None)
                found.obstacles[name] = obstacle
            elif found.obstacles.pop(name, None) is not None or is_first:
                found.nodes[name] = node
                is_new = not is_first
        if is_new:
            found.nodes = dict(sorted(found.nodes.items()))

    def _ask(self, pod: Workload | None) -> Requests:
        if pod is None:
            return {}
        uid = pod.metadata.uid
        if uid not in self._requests:
            self._requests[uid] = placing.leave_out(loads.add_up(pod))
        return self._requests[uid]


def _describe(member: Member, requests: Requests) -> bytes:
    """Return everything that `placing` looks at, as text."""
    selectors = [each.status.allocation.node_selector for each in member.others if each.status.allocation]
    wishes: Mapping[str, object] = {}
    if member.pod is not None:
        spec = member.pod.spec
        wishes = {
            "node": spec.node_name,
            "selector": spec.node_selector,
            "affinity": spec.affinity,
            "tolerations": spec.tolerations,
        }
    return msgspec.json.encode((wishes, selectors, sorted(requests.items())))
