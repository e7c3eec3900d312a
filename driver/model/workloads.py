"""Pods and nodes as the controller reads them: what decides where a pod can run, and which claims it waits for.

Names: Kubernetes v1.36 k8s.io/api core/v1. Unknown fields are skipped, so that a large cluster fits into little memory.
"""

from __future__ import annotations

from collections.abc import Iterable

from driver.model.objects import Api, ObjectMeta
from driver.model.selection import NodeSelector


class NodeTaint(Api, frozen=True):
    """v1 Taint."""

    key: str
    effect: str
    value: str = ""


class NodeCondition(Api, frozen=True):
    """NodeCondition."""

    type: str
    status: str


class NodeSpec(Api, frozen=True):
    """Node.spec."""

    unschedulable: bool = False
    taints: tuple[NodeTaint, ...] = ()


class NodeStatus(Api, frozen=True):
    """Node.status; quantities in text."""

    allocatable: dict[str, str] = {}
    conditions: tuple[NodeCondition, ...] = ()


class ClusterNode(Api, frozen=True):
    """v1 Node."""

    metadata: ObjectMeta
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class PodToleration(Api, frozen=True):
    """v1 Toleration."""

    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""


class NodeAffinity(Api, frozen=True):
    """NodeAffinity, as far as it is required."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = None


class Affinity(Api, frozen=True):
    """Affinity; rules between pods are kube-scheduler's alone."""

    node_affinity: NodeAffinity | None = None


class ResourceRequirements(Api, frozen=True):
    """ResourceRequirements: quantities, which YAML also lets people write as numbers."""

    requests: dict[str, str | int | float] = {}
    limits: dict[str, str | int | float] = {}


class PodContainer(Api, frozen=True):
    """v1 Container."""

    name: str = ""
    resources: ResourceRequirements = ResourceRequirements()
    restart_policy: str = ""
    """`Always` makes an init container a sidecar."""


class ClaimReference(Api, frozen=True):
    """PodResourceClaim: a claim of the pod under a name of its own."""

    name: str
    resource_claim_name: str | None = None
    resource_claim_template_name: str | None = None


class SchedulingGate(Api, frozen=True):
    """PodSchedulingGate."""

    name: str


class WorkloadSpec(Api, frozen=True):
    """Pod.spec."""

    containers: tuple[PodContainer, ...] = ()
    init_containers: tuple[PodContainer, ...] = ()
    overhead: dict[str, str] = {}
    resources: ResourceRequirements = ResourceRequirements()
    node_name: str = ""
    node_selector: dict[str, str] = {}
    affinity: Affinity | None = None
    tolerations: tuple[PodToleration, ...] = ()
    scheduling_gates: tuple[SchedulingGate, ...] = ()
    scheduler_name: str = ""
    priority: int = 0
    resource_claims: tuple[ClaimReference, ...] = ()


class GeneratedClaim(Api, frozen=True):
    """PodResourceClaimStatus: the claim made for an entry; no name if none turned out to be needed."""

    name: str
    resource_claim_name: str | None = None


def name_claim(entry: ClaimReference, generated: Iterable[GeneratedClaim]) -> str | None:
    """Return the name of the claim behind an entry of spec.resourceClaims; None while or if there is none."""
    if entry.resource_claim_name:
        return entry.resource_claim_name
    return next((each.resource_claim_name for each in generated if each.name == entry.name), None)


class ExtendedClaim(Api, frozen=True):
    """PodExtendedResourceClaimStatus."""

    resource_claim_name: str = ""


class WorkloadCondition(Api, frozen=True):
    """PodCondition."""

    type: str
    status: str
    reason: str = ""


class WorkloadStatus(Api, frozen=True):
    """Pod.status."""

    phase: str = ""
    conditions: tuple[WorkloadCondition, ...] = ()
    resource_claim_statuses: tuple[GeneratedClaim, ...] = ()
    extended_resource_claim_status: ExtendedClaim | None = None


class Workload(Api, frozen=True):
    """v1 Pod."""

    metadata: ObjectMeta
    spec: WorkloadSpec = WorkloadSpec()
    status: WorkloadStatus = WorkloadStatus()

    @property
    def is_done(self) -> bool:
        """True once no container of it will run again."""
        return self.status.phase in ("Succeeded", "Failed")

    def claim_name(self, entry: ClaimReference) -> str | None:
        """Return the name of the claim behind an entry of spec.resourceClaims; None while or if there is none."""
        return name_claim(entry, self.status.resource_claim_statuses)
