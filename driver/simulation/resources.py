"""Claims, slices, classes and templates as the simulated control plane and kubelet read them.

What is in them are the types of `driver.model`; their metadata is what the simulation reads. Names: k8s.io/api
resource/v1.
"""

from __future__ import annotations

from typing import Final

import msgspec

from driver.model import published, requests, wanted
from driver.model.claims import ClaimStatus
from driver.model.objects import Api, ObjectMeta
from driver.model.published import PublishedSpec
from driver.model.requests import ClaimSpec, ClassSpec
from driver.simulation.objects import Object

DELETE_PROTECTION: Final = "resource.kubernetes.io/delete-protection"
"""Finalizer of allocated claims."""
EXTENDED_CLAIM_ANNOTATION: Final = "resource.kubernetes.io/extended-resource-claim"
IMPLICIT_RESOURCE: Final = "deviceclass.resource.kubernetes.io/"
"""Prefix of the extended resource that every DeviceClass has without being told (KEP-5004)."""


class Claim(Object, frozen=True):
    """resource.k8s.io/v1 ResourceClaim, spec included."""

    spec: ClaimSpec = ClaimSpec()
    status: ClaimStatus = ClaimStatus()

    @property
    def wanted(self) -> wanted.Claim:
        """The claim as the allocator takes it."""
        return wanted.Claim(metadata=self.metadata, spec=self.spec, status=self.status)

    @property
    def owner(self) -> str:
        """UID of the pod that it was generated for, or empty."""
        return self.wanted.owner

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


class DeviceClass(Object, frozen=True):
    """resource.k8s.io/v1 DeviceClass."""

    spec: ClassSpec = ClassSpec()

    @property
    def wanted(self) -> requests.DeviceClass:
        """The class as the allocator takes it."""
        return requests.DeviceClass(metadata=self.metadata, spec=self.spec)


class Slice(Object, frozen=True):
    """resource.k8s.io/v1 ResourceSlice of any driver."""

    spec: PublishedSpec

    @property
    def published(self) -> published.PublishedSlice:
        """The slice as the allocator takes it."""
        return published.PublishedSlice(metadata=self.metadata, spec=self.spec)
