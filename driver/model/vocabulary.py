"""The words the driver publishes. `docs/vocabulary.md` is their specification; both carry the same version."""

from __future__ import annotations

from typing import Final

SPEC_VERSION: Final = "1.2.0"

DOMAIN: Final = "accel-dra.dev"
STANDARD_DOMAIN: Final = "resource.kubernetes.io"
PARTITIONS_LABEL: Final = f"{DOMAIN}/partitions"
"""Label of a Node that says which mode of partitions holds there, instead of the plugin's setting."""
DEFAULT_DRIVER_NAME: Final = "gpu.accel-dra.dev"
CONFIG_API_VERSION: Final = "config.accel-dra.dev/v1alpha1"

# Attributes on every device (KEP-4381 attribute names are C identifiers after a domain).
VENDOR: Final = f"{DOMAIN}/vendor"
TYPE: Final = f"{DOMAIN}/type"
MODEL: Final = f"{DOMAIN}/model"
ARCHITECTURE: Final = f"{DOMAIN}/architecture"
INDEX: Final = f"{DOMAIN}/index"
UUID: Final = f"{DOMAIN}/uuid"
DRIVER_VERSION: Final = f"{DOMAIN}/driverVersion"
DRIVER_VERSION_TEXT: Final = f"{DOMAIN}/driverVersionText"
RUNTIME_VERSION: Final = f"{DOMAIN}/runtimeVersion"
COMPUTE_CAPABILITY: Final = f"{DOMAIN}/computeCapability"
INTERCONNECT_DOMAIN: Final = f"{DOMAIN}/interconnectDomain"
INTERCONNECT_GBPS: Final = f"{DOMAIN}/interconnectGBps"
FABRIC_DOMAIN: Final = f"{DOMAIN}/fabricDomain"
ALLOCATOR: Final = f"{DOMAIN}/allocator"
SHARING: Final = f"{DOMAIN}/sharing"

# Attributes of partitions only.
PROFILE: Final = f"{DOMAIN}/profile"
PARENT_UUID: Final = f"{DOMAIN}/parentUUID"
PLACEMENT: Final = f"{DOMAIN}/placement"

# Attributes that Kubernetes itself defines (KEP-4381, KEP-6072).
PCI_BUS_ID: Final = f"{STANDARD_DOMAIN}/pciBusID"
PCIE_ROOT: Final = f"{STANDARD_DOMAIN}/pcieRoot"
NUMA_NODE: Final = f"{STANDARD_DOMAIN}/numaNode"

# Capacities.
MEMORY: Final = f"{DOMAIN}/memory"
MULTIPROCESSORS: Final = f"{DOMAIN}/multiprocessors"
COPY_ENGINES: Final = f"{DOMAIN}/copyEngines"
DECODERS: Final = f"{DOMAIN}/decoders"
ENCODERS: Final = f"{DOMAIN}/encoders"
JPEG_ENGINES: Final = f"{DOMAIN}/jpegEngines"
OFA_ENGINES: Final = f"{DOMAIN}/ofaEngines"
SHARE: Final = f"{DOMAIN}/share"

# Values of TYPE.
TYPE_GPU: Final = "gpu"
TYPE_PARTITION: Final = "partition"
TYPE_VFIO: Final = "vfio"
TYPE_NIC: Final = "nic"

# Value of ALLOCATOR.
ALLOCATOR_CONTROLLER: Final = "controller"

# Taint keys.
TAINT_UNHEALTHY: Final = f"{DOMAIN}/unhealthy"
TAINT_DEGRADED: Final = f"{DOMAIN}/degraded"
TAINT_CONTROLLER_ONLY: Final = f"{DOMAIN}/controller-only"

# Attributes plus capacities a device may carry: the API allows 32 (MaxAttributesAndCapacitiesPerDevice), we keep
# four spare for cluster operators and later versions.
ENTRIES_PER_DEVICE: Final = 28
