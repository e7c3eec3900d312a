"""resource.k8s.io/v1 ResourceClaim: what was allocated, and to whom. What a claim asks for is in `model.requests`.

Names: Kubernetes v1.36 staging/src/k8s.io/api/resource/v1/types.go. Unknown fields are skipped when decoding.
"""

from __future__ import annotations

from typing import Final

import msgspec

from driver.model.objects import Api, ObjectMeta
from driver.model.selection import NodeSelector

SOURCE_CLASS: Final = "FromClass"
SOURCE_CLAIM: Final = "FromClaim"
DELETE_PROTECTION: Final = "resource.kubernetes.io/delete-protection"
"""Finalizer of allocated claims."""
POD_CLAIM_NAME_ANNOTATION: Final = "resource.kubernetes.io/pod-claim-name"
"""On claims made from a template: the name of the entry in pod.spec.resourceClaims."""


class Toleration(Api, frozen=True):
    """DeviceToleration."""

    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None


class AllocationResult(Api, frozen=True):
    """DeviceRequestAllocationResult: one device given to one request (`request` or `request/subrequest`)."""

    request: str
    driver: str
    pool: str
    device: str
    admin_access: bool | None = None
    share_id: str | None = msgspec.field(default=None, name="shareID")
    consumed_capacity: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    binding_conditions: tuple[str, ...] = ()
    binding_failure_conditions: tuple[str, ...] = ()

    @property
    def main_request(self) -> str:
        """The request without the subrequest, as the kubelet compares it."""
        return self.request.partition("/")[0]


class OpaqueConfiguration(Api, frozen=True):
    """Configuration for one driver; `parameters` is kept as the JSON text it arrived as."""

    driver: str
    parameters: msgspec.Raw = msgspec.Raw(b"{}")


class AllocationConfiguration(Api, frozen=True):
    """DeviceAllocationConfiguration: opaque parameters and the requests they are for (none: all)."""

    source: str
    requests: tuple[str, ...] = ()
    opaque: OpaqueConfiguration | None = None


class DeviceAllocation(Api, frozen=True):
    """AllocationResult.devices: results of all drivers, and configurations."""

    results: tuple[AllocationResult, ...] = ()
    config: tuple[AllocationConfiguration, ...] = ()


class Allocation(Api, frozen=True):
    """ResourceClaim.status.allocation."""

    devices: DeviceAllocation = DeviceAllocation()
    node_selector: NodeSelector | None = None
    """Nodes on which the devices can be used; None: all."""
    allocation_timestamp: str | None = None
    """RFC 3339. kube-scheduler never binds a pod whose claim lacks it."""


class ConsumerReference(Api, frozen=True):
    """One entry of status.reservedFor."""

    resource: str
    name: str
    uid: str
    api_group: str = ""


class ClaimStatus(Api, frozen=True):
    """ResourceClaim.status."""

    allocation: Allocation | None = None
    reserved_for: tuple[ConsumerReference, ...] = ()


class ResourceClaim(Api, frozen=True):
    """resource.k8s.io/v1 ResourceClaim."""

    metadata: ObjectMeta
    status: ClaimStatus = ClaimStatus()
