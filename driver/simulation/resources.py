"""Claims, slices, classes and templates as the simulated control plane and kubelet read them.

Typed, frozen, unknown fields skipped, like `objects`. Names: k8s.io/api resource/v1.
"""

from __future__ import annotations

from typing import Final

import msgspec

from driver.model.claims import AllocationConfiguration, AllocationResult, ConsumerReference
from driver.model.objects import Api, ObjectMeta
from driver.model.slices import SliceSpec
from driver.simulation.objects import Node, Object

DELETE_PROTECTION: Final = "resource.kubernetes.io/delete-protection"
"""Finalizer of allocated claims."""
EXTENDED_CLAIM_ANNOTATION: Final = "resource.kubernetes.io/extended-resource-claim"
IMPLICIT_RESOURCE: Final = "deviceclass.resource.kubernetes.io/"
"""Prefix of the extended resource that every DeviceClass has without being told (KEP-5004)."""


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
    """DeviceAllocationResult."""

    results: tuple[AllocationResult, ...] = ()
    config: tuple[AllocationConfiguration, ...] = ()


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
