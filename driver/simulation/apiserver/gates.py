"""Which features the server has: the gates of a Kubernetes version, each one switchable.

Handed to the strategies, which drop fields of features that are off, silently, as the real server does.
Defaults: pkg/features/kube_features.go of each version.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FeatureGates:
    """The DRA gates of kube-apiserver 1.36; `minor` is the version the server pretends to be (1.`minor`)."""

    minor: int = 36
    prioritized_list: bool = True
    """DRAPrioritizedList: firstAvailable."""
    admin_access: bool = True
    """DRAAdminAccess."""
    partitionable_devices: bool = True
    """DRAPartitionableDevices: sharedCounters, consumesCounters, perDeviceNodeSelection."""
    device_taints: bool = True
    """DRADeviceTaints: taints, tolerations."""
    consumable_capacity: bool = True
    """DRAConsumableCapacity: allowMultipleAllocations, requestPolicy, capacity requests, distinctAttribute."""
    binding_conditions: bool = True
    """DRADeviceBindingConditions."""
    device_status: bool = True
    """DRAResourceClaimDeviceStatus: status.devices."""
    extended_resource: bool = True
    """DRAExtendedResource: extendedResourceName."""
    list_attributes: bool = False
    """DRAListTypeAttributes."""
    node_allocatable: bool = False
    """DRANodeAllocatableResources."""
    granular_status: bool = True
    """DRAResourceClaimGranularStatusAuthorization: resourceclaims/binding and /driver."""

    @property
    def version(self) -> str:
        """What /version calls gitVersion."""
        return f"v1.{self.minor}.2" if self.minor == 36 else f"v1.{self.minor}.0"

    @property
    def small_slices(self) -> bool:
        """Whether a slice with taints or counters holds 64 devices only, and counters apart (since 1.35)."""
        return self.minor >= 35


def gates_of(minor: int) -> FeatureGates:
    """The default gates of Kubernetes 1.`minor` (34 to 37). ValueError for other versions."""
    if minor in {34, 35}:
        return FeatureGates(
            minor=minor,
            partitionable_devices=False,
            device_taints=False,
            consumable_capacity=False,
            binding_conditions=False,
            extended_resource=False,
            granular_status=False,
        )
    if minor in {36, 37}:
        return FeatureGates(minor=minor)
    raise ValueError(f"no feature gates known for Kubernetes 1.{minor}")
