"""Nodes, pods, namespaces as the simulated control plane and kubelet read them: typed, frozen, unknown fields skipped.

Claims and slices are in `resources`, what the driver reads itself is in `driver.model`. Names: k8s.io/api core/v1.
Writes are merge patches, so nothing that is not read here gets lost.
"""

from __future__ import annotations

import msgspec

from driver.model.objects import Api, ListMeta, ObjectMeta
from driver.model.workloads import ClaimReference, GeneratedClaim, NodeSpec, NodeStatus, name_claim


class Meta(ObjectMeta, frozen=True):
    """ObjectMeta with what only a kubelet looks at."""

    deletion_grace_period_seconds: int | None = None


class Object(Api, frozen=True):
    """Anything with metadata."""

    metadata: Meta

    @property
    def key(self) -> tuple[str, str]:
        """Namespace (empty for cluster-scoped objects) and name."""
        return self.metadata.namespace, self.metadata.name

    def __str__(self) -> str:
        return "/".join(part for part in self.key if part)


class Node(Object, frozen=True):
    """v1 Node."""

    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def is_ready(self) -> bool:
        """True once its kubelet has said so."""
        return any(each.type == "Ready" and each.status == "True" for each in self.status.conditions)


class ContainerClaim(Api, frozen=True):
    """ResourceClaim reference of a container; no request means all of the claim."""

    name: str
    request: str = ""


class ContainerResources(Api, frozen=True):
    """ResourceRequirements."""

    claims: tuple[ContainerClaim, ...] = ()
    limits: dict[str, str | int] = {}
    requests: dict[str, str | int] = {}


class SecurityContext(Api, frozen=True):
    """The user of a pod or container."""

    run_as_user: int | None = None


class Container(Api, frozen=True):
    """v1 Container."""

    name: str
    image: str = ""
    resources: ContainerResources = ContainerResources()
    security_context: SecurityContext = SecurityContext()


class PodSpec(Api, frozen=True):
    """Pod.spec."""

    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    node_name: str = ""
    node_selector: dict[str, str] = {}
    resource_claims: tuple[ClaimReference, ...] = ()
    scheduling_gates: tuple[dict[str, str], ...] = ()
    security_context: SecurityContext = SecurityContext()


class ExtendedRequest(Api, frozen=True):
    """ContainerExtendedResourceRequest: which request serves an extended resource of a container."""

    container_name: str
    resource_name: str
    request_name: str


class ExtendedClaimStatus(Api, frozen=True):
    """PodExtendedResourceClaimStatus."""

    resource_claim_name: str
    request_mappings: tuple[ExtendedRequest, ...] = ()


class PodCondition(Api, frozen=True):
    """One condition of a pod."""

    type: str
    status: str
    reason: str = ""
    message: str = ""


class ResourceHealth(Api, frozen=True):
    """Health of one device of a container (KEP-4680)."""

    resource_id: str = msgspec.field(name="resourceID")
    health: str = ""
    message: str = ""


class ResourceStatus(Api, frozen=True):
    """Health of the devices of one claim of a container; `name` is `claim:<name of the pod>[/<request>]`."""

    name: str
    resources: tuple[ResourceHealth, ...] = ()


class ContainerStatus(Api, frozen=True):
    """ContainerStatus, as far as the kubelet reads it again."""

    name: str
    allocated_resources_status: tuple[ResourceStatus, ...] = ()


class PodStatus(Api, frozen=True):
    """Pod.status."""

    phase: str = ""
    conditions: tuple[PodCondition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    resource_claim_statuses: tuple[GeneratedClaim, ...] = ()
    extended_resource_claim_status: ExtendedClaimStatus | None = None


class Pod(Object, frozen=True):
    """v1 Pod."""

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def is_done(self) -> bool:
        """True once no container of it will run again."""
        return self.status.phase in ("Succeeded", "Failed")

    @property
    def reference(self) -> dict[str, str]:
        """This pod as an entry of a claim's status.reservedFor."""
        return {"resource": "pods", "name": self.metadata.name, "uid": self.metadata.uid}

    def claim_name(self, entry: ClaimReference) -> str | None:
        """Return the name of the claim behind an entry of spec.resourceClaims, None while it is not generated."""
        return name_claim(entry, self.status.resource_claim_statuses)

    def condition(self, kind: str) -> PodCondition | None:
        """Return the condition of this type, or None."""
        return next((each for each in self.status.conditions if each.type == kind), None)


class NamespaceStatus(Api, frozen=True):
    """Namespace.status."""

    phase: str = ""


class Namespace(Object, frozen=True):
    """v1 Namespace."""

    status: NamespaceStatus = NamespaceStatus()


class Page(Api, frozen=True):
    """A list of objects that are not decoded yet."""

    metadata: ListMeta = ListMeta()
    items: tuple[msgspec.Raw, ...] = ()
