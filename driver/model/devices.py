"""What a vendor finds on the machine: hardware facts, before any word of Kubernetes.

A fact that is not known is None and never a made-up number: a device without a known NUMA node publishes none,
a device without a known memory size publishes no memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from driver.model import slices, vocabulary


class Remote(Enum):
    """What is at the other end of a link (NVML nvmlIntNvLinkDeviceType_t: GPU, SWITCH, IBMNPU, UNKNOWN)."""

    DEVICE = "device"
    SWITCH = "switch"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Link:
    """One point-to-point link of an accelerator (NVLink, xGMI, Xe Link)."""

    index: int
    active: bool
    version: int | None
    """Generation of the link, as the vendor counts it (NVLink 4 is 4)."""
    gbytes_per_second: int | None
    """Bandwidth in one direction, in GB/s (10^9); None where the vendor does not tell."""
    remote: Remote
    remote_address: str | None
    """PCI address of the device or switch at the other end, `dddd:bb:dd.f`, lower case."""


@dataclass(frozen=True, slots=True)
class Fabric:
    """Membership in a multi-node fabric (NVML nvmlGpuFabricInfo_t): only once registration is complete."""

    cluster_uuid: str
    clique: int


@dataclass(frozen=True, slots=True)
class Partition:
    """A part of an accelerator with its own memory and engines that exists now (a MIG device)."""

    profile: str
    """The vendor's name for its shape, such as `1g.10gb`."""
    placement: int
    """First memory slice it occupies on the parent."""
    subplacement: int | None
    """First compute slice inside its memory share; None when it owns all of it."""
    uuid: str | None
    """None: it does not exist yet, it could be made."""
    memory_bytes: int | None
    multiprocessors: int | None
    copy_engines: int | None = None
    decoders: int | None = None
    encoders: int | None = None
    jpeg_engines: int | None = None
    ofa_engines: int | None = None
    size: int | None = None
    """How many memory slices it occupies on the parent, from `placement` on."""
    handle: Mapping[str, int | str] = field(default_factory=dict)
    """What only the vendor needs to find it again (NVIDIA: GPU instance and compute instance ids)."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A shape in which an accelerator can be partitioned, and where (NVML nvmlGpuInstanceProfileInfo_t)."""

    name: str
    """The vendor's name, such as `1g.10gb`; one of a kind on its accelerator."""
    size: int
    """Memory slices that one partition occupies."""
    placements: tuple[int, ...]
    """Memory slices at which one may begin, ascending."""
    memory_bytes: int
    multiprocessors: int
    copy_engines: int = 0
    decoders: int = 0
    encoders: int = 0
    jpeg_engines: int = 0
    ofa_engines: int = 0
    handle: Mapping[str, int | str] = field(default_factory=dict)
    """What only the vendor needs to make one (NVIDIA: profile ids)."""

    def shape(self, placement: int, uuid: str | None = None) -> Partition:
        """Return a partition of this profile at a place; without `uuid` one that could be made."""
        return Partition(
            profile=self.name,
            placement=placement,
            subplacement=None,
            uuid=uuid,
            memory_bytes=self.memory_bytes,
            multiprocessors=self.multiprocessors,
            copy_engines=self.copy_engines,
            decoders=self.decoders,
            encoders=self.encoders,
            jpeg_engines=self.jpeg_engines,
            ofa_engines=self.ofa_engines,
            size=self.size,
            handle=self.handle,
        )


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One physical accelerator that answers."""

    pci_address: str
    """`dddd:bb:dd.f`, lower case. Its identity: names are derived from it."""
    index: int
    """The vendor's enumeration order on this node, for people; never part of a name."""
    uuid: str
    model: str
    architecture: str | None
    memory_bytes: int | None
    multiprocessors: int | None
    compute_capability: str | None
    """`9.0`, as the vendor writes it."""
    numa_node: int | None
    pcie_root: str | None
    """`pci0000:00`, as sysfs names the root complex."""
    links: tuple[Link, ...] = ()
    fabric: Fabric | None = None
    partitioned: bool = False
    """True while the device is in partition mode (MIG enabled): only its partitions can be used then."""
    partitions: tuple[Partition, ...] = ()
    """Those that exist."""
    profiles: tuple[Profile, ...] = ()
    """Shapes in which it can be partitioned, also while it is not in partition mode; none if it cannot be at all."""
    partition_fault: str | None = None
    """Why partition mode cannot be switched (a reset is pending, this generation needs one); None: it can, while the
    device is idle."""
    handle: Mapping[str, int | str] = field(default_factory=dict)
    """What only the vendor needs to find it again (NVIDIA: the minor number of /dev/nvidiaN)."""
    type: str = vocabulary.TYPE_GPU
    """What it is while it is whole: value of the attribute `type`, and the first part of its name."""
    extra: Mapping[str, str | int | bool] = field(default_factory=dict)
    """Attributes of the vendor's own domain, fully qualified, published as they are."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An accelerator that is there and does not answer, or answers with an error."""

    pci_address: str | None
    index: int | None
    reason: str
    """One sentence with the vendor's error, for the log, the metric and `accel-dra inventory`."""
    part: str = ""
    """What of it is meant, such as `partitions`, while the rest is published; empty: the device itself."""

    @property
    def where(self) -> str:
        """Which device it is, and what of it, for people."""
        device = self.pci_address or (f"index {self.index}" if self.index is not None else "node")
        return f"{device} ({self.part})" if self.part else device


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a vendor found in one look."""

    vendor: str
    driver_version: str | None
    """The exact text of the vendor (`580.126.09`)."""
    runtime_version: str | None
    """CUDA, ROCm or oneAPI level that the driver supports (`13.0`)."""
    management_version: str | None
    """Version of the management library (NVML)."""
    accelerators: tuple[Accelerator, ...]
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One device of the inventory: what is published and the hardware behind it."""

    device: slices.Device
    accelerator: Accelerator
    partition: Partition | None

    @property
    def name(self) -> str:
        """The published device name."""
        return self.device.name


@dataclass(frozen=True, slots=True)
class Inventory:
    """What this node offers, in the order in which devices should be taken (order is meaning)."""

    snapshot: Snapshot
    entries: tuple[Entry, ...]
    omitted: tuple[Failure, ...]
    """Hardware, or what could be made of it, that is not published, each with its reason."""
    counter_sets: tuple[slices.CounterSet, ...] = ()
    """What the devices of one accelerator draw from, so that two that exclude each other are never both allocated."""
    engaged: frozenset[str] = frozenset()
    """Names of whole devices of which claims have a part, or which a virtual machine has."""

    def find(self, name: str) -> Entry | None:
        """Return the entry with this device name, or None."""
        return next((entry for entry in self.entries if entry.device.name == name), None)
