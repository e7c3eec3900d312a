"""Kubernetes objects as the simulated control plane and kubelet read them: typed, frozen, unknown fields skipped.

What the driver reads itself is in `driver.model`; here is what only scheduler, controllers and kubelet need to know.
Names: k8s.io/api core/v1 and resource/v1. Writes are merge patches, so nothing that is not read here gets lost.
"""

from __future__ import annotations

from typing import Final

import msgspec

from driver.model.claims import AllocationResult, ConsumerReference
from driver.model.objects import Api, ListMeta, ObjectMeta
from driver.model.slices import SliceSpec

DELETE_PROTECTION: Final = "resource.kubernetes.io/delete-protection"
"""Finalizer of allocated claims."""
EXTENDED_CLAIM_ANNOTATION: Final = "resource.kubernetes.io/extended-resource-claim"
IMPLICIT_RESOURCE: Final = "deviceclass.resource.kubernetes.io/"
"""Prefix of the extended resource that every DeviceClass has without being told (KEP-5004)."""


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


class NodeCondition(Api, frozen=True):
    """One condition of a node."""

    type: str
    status: str


class NodeSpec(Api, frozen=True):
    """Node.spec."""

    unschedulable: bool = False


class NodeStatus(Api, frozen=True):
    """Node.status."""

    conditions: tuple[NodeCondition, ...] = ()
    allocatable: dict[str, str] = {}


class Node(Object, frozen=True):
    """v1 Node."""

    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def is_ready(self) -> bool:
        """True once its kubelet has said so."""
        return any(each.type == "Ready" and each.status == "True" for each in self.status.conditions)


class PodClaim(Api, frozen=True):
    """PodResourceClaim: a claim of the pod under a name of its own."""

    name: str
    resource_claim_name: str | None = None
    resource_claim_template_name: str | None = None


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
    resource_claims: tuple[PodClaim, ...] = ()
    scheduling_gates: tuple[dict[str, str], ...] = ()
    security_context: SecurityContext = SecurityContext()


class PodClaimStatus(Api, frozen=True):
    """Which claim was generated for an entry of spec.resourceClaims; none if it turned out not to be needed."""

    name: str
    resource_claim_name: str | None = None


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


class PodStatus(Api, frozen=True):
    """Pod.status."""

    phase: str = ""
    conditions: tuple[PodCondition, ...] = ()
    resource_claim_statuses: tuple[PodClaimStatus, ...] = ()
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

    def claim_name(self, entry: PodClaim) -> str | None:
        """Return the name of the claim behind an entry of spec.resourceClaims, None while it is not generated."""
        if entry.resource_claim_name:
            return entry.resource_claim_name
        statuses = (each for each in self.status.resource_claim_statuses if each.name == entry.name)
        return next((each.resource_claim_name for each in statuses), None)

    def condition(self, kind: str) -> PodCondition | None:
        """Return the condition of this type, or None."""
        return next((each for each in self.status.conditions if each.type == kind), None)


class CelSelector(Api, frozen=True):
    """CELDeviceSelector."""

    expression: str = ""


class Selector(Api, frozen=True):
    """DeviceSelector."""

    cel: CelSelector | None = None


class Toleration(Api, frozen=True):
    """DeviceToleration."""

    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None


class DeviceRequest(Api, frozen=True):
    """ExactDeviceRequest, and DeviceSubRequest with its name."""

    name: str = ""
    device_class_name: str = ""
    selectors: tuple[Selector, ...] = ()
    allocation_mode: str = "ExactCount"
    count: int = 1
    admin_access: bool = False
    tolerations: tuple[Toleration, ...] = ()


class Request(Api, frozen=True):
    """DeviceRequest: exactly one thing, or the first of several that can be had."""

    name: str
    exactly: DeviceRequest | None = None
    first_available: tuple[DeviceRequest, ...] = ()


class Constraint(Api, frozen=True):
    """DeviceConstraint."""

    requests: tuple[str, ...] = ()
    match_attribute: str = ""
    distinct_attribute: str = ""


class Configuration(Api, frozen=True):
    """DeviceClaimConfiguration, and DeviceClassConfiguration without requests; passed on as it is."""

    requests: tuple[str, ...] = ()
    opaque: msgspec.Raw = msgspec.Raw(b"null")


class DevicesSpec(Api, frozen=True):
    """DeviceClaim."""

    requests: tuple[Request, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    config: tuple[Configuration, ...] = ()


class ClaimSpec(Api, frozen=True):
    """ResourceClaimSpec."""

    devices: DevicesSpec = DevicesSpec()


class DeviceResults(Api, frozen=True):
    """DeviceAllocationResult without configuration, which only the driver reads."""

    results: tuple[AllocationResult, ...] = ()


class Requirement(Api, frozen=True):
    """NodeSelectorRequirement."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


class Term(Api, frozen=True):
    """NodeSelectorTerm: all of its requirements."""

    match_expressions: tuple[Requirement, ...] = ()
    match_fields: tuple[Requirement, ...] = ()


class NodeSelector(Api, frozen=True):
    """NodeSelector: any of its terms."""

    node_selector_terms: tuple[Term, ...] = ()

    def matches(self, node: Node) -> bool:
        """Say whether a node is selected (component-helpers/scheduling/corev1/nodeaffinity)."""
        fields = {"metadata.name": node.metadata.name}
        return any(
            (term.match_expressions or term.match_fields)
            and all(_holds(each, node.metadata.labels) for each in term.match_expressions)
            and all(_holds(each, fields) for each in term.match_fields)
            for term in self.node_selector_terms
        )


def _holds(requirement: Requirement, labels: dict[str, str]) -> bool:
    value, values = labels.get(requirement.key), requirement.values
    match requirement.operator:
        case "In":
            return value is not None and value in values
        case "NotIn":
            return value is None or value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" if value is not None and value.lstrip("-").isdecimal() and len(values) == 1:
            return int(value) > int(values[0]) if requirement.operator == "Gt" else int(value) < int(values[0])
    return False


class Allocation(Api, frozen=True):
    """AllocationResult."""

    devices: DeviceResults = DeviceResults()
    node_selector: NodeSelector | None = None


class ClaimStatus(Api, frozen=True):
    """ResourceClaim.status."""

    allocation: Allocation | None = None
    reserved_for: tuple[ConsumerReference, ...] = ()


class Claim(Object, frozen=True):
    """resource.k8s.io/v1 ResourceClaim, spec included."""

    spec: ClaimSpec = ClaimSpec()
    status: ClaimStatus = ClaimStatus()

    @property
    def owner(self) -> str:
        """UID of the pod that it was generated for, or empty."""
        owners = (each for each in self.metadata.owner_references if each.controller and each.kind == "Pod")
        return next((each.uid for each in owners), "")

    def is_reserved_for(self, uid: str) -> bool:
        """Say whether a pod may use it."""
        return any(each.uid == uid for each in self.status.reserved_for)


class TemplateSpec(Api, frozen=True):
    """ResourceClaimTemplateSpec; what goes into claims is passed on as it is."""

    metadata: ObjectMeta = ObjectMeta()
    spec: msgspec.Raw = msgspec.Raw(b"{}")


class Template(Object, frozen=True):
    """resource.k8s.io/v1 ResourceClaimTemplate."""

    spec: TemplateSpec = TemplateSpec()


class ClassSpec(Api, frozen=True):
    """DeviceClass.spec."""

    selectors: tuple[Selector, ...] = ()
    config: tuple[Configuration, ...] = ()
    extended_resource_name: str = ""


class DeviceClass(Object, frozen=True):
    """resource.k8s.io/v1 DeviceClass."""

    spec: ClassSpec = ClassSpec()


class PlacedSliceSpec(SliceSpec, frozen=True):
    """ResourceSlice.spec with the ways to place a pool that this driver does not use itself."""

    node_selector: NodeSelector | None = None
    all_nodes: bool = False


class Slice(Object, frozen=True):
    """resource.k8s.io/v1 ResourceSlice of any driver."""

    spec: PlacedSliceSpec

    def reaches(self, node: Node) -> bool:
        """Say whether pods on a node can use its devices."""
        if self.spec.node_name:
            return self.spec.node_name == node.metadata.name
        return self.spec.all_nodes or (self.spec.node_selector is not None and self.spec.node_selector.matches(node))


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
