"""ResourceClaim as a whole: what it asks for and what it has. The allocator's and the controller's view.

Names: Kubernetes v1.36 staging/src/k8s.io/api/resource/v1/types.go.
"""

from __future__ import annotations

from driver.model.claims import ResourceClaim
from driver.model.requests import ClaimSpec


class Claim(ResourceClaim, frozen=True):
    """resource.k8s.io/v1 ResourceClaim with its spec."""

    spec: ClaimSpec = ClaimSpec()

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.metadata.namespace, self.metadata.name

    @property
    def owner(self) -> str:
        """UID of the pod that it was generated for, or empty."""
        owners = (each for each in self.metadata.owner_references if each.controller and each.kind == "Pod")
        return next((each.uid for each in owners), "")

    def is_reserved_for(self, uid: str) -> bool:
        """Say whether a pod may use it."""
        return any(each.uid == uid for each in self.status.reserved_for)

    def __str__(self) -> str:
        return "/".join(part for part in self.key if part)
