"""What a ResourceClaim asks for, and what a DeviceClass adds to it.

Names: Kubernetes v1.36 staging/src/k8s.io/api/resource/v1/types.go. Unknown fields are skipped when decoding.
"""

from __future__ import annotations

from typing import Final

from driver.model.claims import OpaqueConfiguration, Toleration
from driver.model.objects import Api, ObjectMeta

EXACT_COUNT: Final = "ExactCount"
ALL: Final = "All"


class CelSelector(Api, frozen=True):
    """CELDeviceSelector."""

    expression: str = ""


class Selector(Api, frozen=True):
    """DeviceSelector."""

    cel: CelSelector | None = None


class CapacityRequirements(Api, frozen=True):
    """CapacityRequirements: how much of each capacity is wanted, as quantities in text, by literal capacity name."""

    requests: dict[str, str] = {}


class DeviceRequest(Api, frozen=True):
    """ExactDeviceRequest, and DeviceSubRequest with its name."""

    name: str = ""
    device_class_name: str = ""
    selectors: tuple[Selector, ...] = ()
    allocation_mode: str = EXACT_COUNT
    count: int = 1
    admin_access: bool = False
    tolerations: tuple[Toleration, ...] = ()
    capacity: CapacityRequirements | None = None


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

    def concerns(self, request: str) -> bool:
        """Say whether it is about a request (`request` or `request/subrequest`); a request covers its subrequests."""
        return not self.requests or request in self.requests or request.partition("/")[0] in self.requests


class Configuration(Api, frozen=True):
    """DeviceClaimConfiguration, and DeviceClassConfiguration, which names no requests."""

    requests: tuple[str, ...] = ()
    opaque: OpaqueConfiguration | None = None


class DevicesSpec(Api, frozen=True):
    """DeviceClaim."""

    requests: tuple[Request, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    config: tuple[Configuration, ...] = ()


class ClaimSpec(Api, frozen=True):
    """ResourceClaimSpec."""

    devices: DevicesSpec = DevicesSpec()


class TemplateSpec(Api, frozen=True):
    """ResourceClaimTemplateSpec: metadata and spec of the claims that are made from it."""

    metadata: ObjectMeta = ObjectMeta()
    spec: ClaimSpec = ClaimSpec()


class ResourceClaimTemplate(Api, frozen=True):
    """resource.k8s.io/v1 ResourceClaimTemplate."""

    metadata: ObjectMeta
    spec: TemplateSpec = TemplateSpec()


class ClassSpec(Api, frozen=True):
    """DeviceClass.spec."""

    selectors: tuple[Selector, ...] = ()
    config: tuple[Configuration, ...] = ()
    extended_resource_name: str = ""


class DeviceClass(Api, frozen=True):
    """resource.k8s.io/v1 DeviceClass."""

    metadata: ObjectMeta
    spec: ClassSpec = ClassSpec()
