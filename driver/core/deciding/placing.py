"""Can this pod run on this node, devices aside? Called for every pod that waits for claims and every node.

The rules are those that kube-scheduler checks without other pods in view: cordon, taints, node name, selector, required
affinity, claims that are allocated already, resources and the number of pods. Rules between pods (affinity, spreading),
ports and volumes are kube-scheduler's alone: where they forbid a node that was chosen here, it clears the allocation,
and the node is passed over for a while.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from driver.core import extended
from driver.core.deciding.loads import PODS, Load, Requests
from driver.model import quantities
from driver.model.claims import Allocation
from driver.model.errors import InvalidInput
from driver.model.quantities import NANO
from driver.model.selection import Term
from driver.model.workloads import ClusterNode, NodeTaint, PodToleration, Workload

_UNSCHEDULABLE: Final = NodeTaint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")
_HARD_EFFECTS: Final = ("NoSchedule", "NoExecute")


@dataclass(frozen=True, slots=True)
class Needs:
    """What a pod needs of its node."""

    pod: Workload | None
    """None: no pod waits, every node will do that takes pods."""
    requests: Requests
    allocated: tuple[Allocation, ...] = ()
    """Of the pod's other claims."""
    served: AbstractSet[str] = frozenset()
    """Extended resources that DeviceClasses serve: devices are given for them where the node itself has none."""


def find_obstacle(needs: Needs, node: ClusterNode, load: Load) -> str:
    """Say what keeps the pod from the node, in a few words that many nodes may share; empty if nothing does."""
    if needs.pod is not None and needs.pod.spec.node_name:
        # It is there already, whoever placed it, and what it takes is counted.
        return _find_mismatch(needs, node)
    return _find_closed(needs.pod, node) or _find_mismatch(needs, node) or _find_shortage(needs, node, load)


def summarize(obstacles: Iterable[str]) -> str:
    """Return obstacles of many nodes in one sentence: "3 nodes: …; 1 node: …", the most frequent first."""
    counted = sorted(Counter(obstacles).items(), key=lambda each: (-each[1], each[0]))
    return "; ".join(f"{count} node{'s' if count > 1 else ''}: {text}" for text, count in counted)


def name_nodes(allocations: Iterable[Allocation]) -> frozenset[str] | None:
    """Return the nodes that allocations name, or None if they do not name any."""
    named: frozenset[str] | None = None
    for allocation in allocations:
        selector = allocation.node_selector
        if selector is None:
            continue
        names = _read_names(selector.node_selector_terms)
        if names is not None:
            named = names if named is None else named & names
    return named


def _read_names(terms: Sequence[Term]) -> frozenset[str] | None:
    found: set[str] = set()
    for term in terms:
        names = [each.values for each in term.match_fields if each.key == "metadata.name" and each.operator == "In"]
        if not names:
            return None
        found.update(names[0])
    return frozenset(found)


def _find_closed(pod: Workload | None, node: ClusterNode) -> str:
    """Say why the node takes no such pod whatever it asks for."""
    if node.metadata.deletion_timestamp:
        return "the node is being deleted"
    if any(each.type == "Ready" and each.status != "True" for each in node.status.conditions):
        return "the node is not ready"
    tolerations = pod.spec.tolerations if pod else ()
    if node.spec.unschedulable and not _is_tolerated(_UNSCHEDULABLE, tolerations):
        return "the node is cordoned"
    for taint in node.spec.taints:
        if taint.effect in _HARD_EFFECTS and not _is_tolerated(taint, tolerations):
            return f"taint {taint.key}{f'={taint.value}' if taint.value else ''} is not tolerated"
    return ""


def _is_tolerated(taint: NodeTaint, tolerations: Iterable[PodToleration]) -> bool:
    """component-helpers scheduling/corev1, ToleratesTaint."""
    for each in tolerations:
        if each.effect not in ("", taint.effect) or each.key not in ("", taint.key):
            continue
        if each.operator == "Exists" or (each.operator in ("", "Equal") and each.key and each.value == taint.value):
            return True
    return False


def _find_mismatch(needs: Needs, node: ClusterNode) -> str:
    """Say why it is not one of the nodes that the pod asks for."""
    name, labels = node.metadata.name, node.metadata.labels
    if needs.pod is not None:
        spec = needs.pod.spec
        if spec.node_name and spec.node_name != name:
            return "the pod is on another node"
        if any(labels.get(key) != value for key, value in spec.node_selector.items()):
            return "the pod's node selector does not match"
        affinity = spec.affinity.node_affinity if spec.affinity else None
        required = affinity.required_during_scheduling_ignored_during_execution if affinity else None
        if required is not None and not required.matches(name, labels):
            return "the pod's node affinity does not match"
    for allocation in needs.allocated:
        if allocation.node_selector is not None and not allocation.node_selector.matches(name, labels):
            return "another claim of the pod is allocated for other nodes"
    return ""


def _find_shortage(needs: Needs, node: ClusterNode, load: Load) -> str:
    """Say which resource does not suffice. A node that has not told its resources yet is not judged by them."""
    allocatable = node.status.allocatable
    if not allocatable:
        return ""
    if load.pods + 1 > _read(allocatable, PODS) // NANO:
        return f"it runs {load.pods} pods already"
    for name, asked in needs.requests.items():
        # Who asks for nothing fits also where too much was given away.
        if not asked or (name in needs.served and not _read(allocatable, name)):
            continue
        if asked > _read(allocatable, name) - load.taken.get(name, 0):
            return f"too little {name}"
    return ""


def _read(allocatable: Mapping[str, str], name: str) -> int:
    try:
        return quantities.parse(allocatable.get(name, "0")).nanos
    except InvalidInput:
        return 0


def leave_out(requests: Requests) -> dict[str, int]:
    """Return the requests that a node itself may have to meet: no node has those that name a DeviceClass."""
    return {name: amount for name, amount in requests.items() if not name.startswith(extended.IMPLICIT_RESOURCE)}
