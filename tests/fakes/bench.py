"""A bench to prepare claims on: a vendor whose hardware is files, claims, an inventory, and all folders of a node.

The vendor keeps its hardware's state on disk, so that it outlives a killed process, and changes it through a `Disk`,
so that a test can stop it between any two changes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from driver.contract import Target
from driver.core import inventory, shares
from driver.model.claims import (
    Allocation,
    AllocationConfiguration,
    AllocationResult,
    ClaimStatus,
    DeviceAllocation,
    OpaqueConfiguration,
    ResourceClaim,
)
from driver.model.devices import Accelerator, Inventory, Partition, Snapshot
from driver.model.errors import NotFound, StepFailed, Unavailable
from driver.model.objects import ObjectMeta
from driver.model.occurrences import HardwareChanged, Occurrence
from driver.model.prepared import (
    ClaimRef,
    ContainerEdits,
    DeviceNode,
    Mount,
    Preparation,
    PrepareAnswer,
    Record,
    Step,
)
from driver.model.sharing import Strategy
from driver.model.vocabulary import MEMORY, MULTIPROCESSORS, SHARE
from driver.node.hardware import Neutral
from driver.node.preparer import Outside, Preparer, open_preparer
from driver.settings import Settings
from driver.state import record_files
from driver.state.files import Disk

DRIVER = "gpu.accel-dra.dev"
NODE = "node-a"
BOOT = "11111111-2222-4333-8444-555555555555"


def accelerator(slot: int, *partitions: Partition) -> Accelerator:
    """Return an accelerator at PCI bus `slot`."""
    return Accelerator(
        pci_address=f"0000:{slot:02x}:00.0",
        index=slot,
        uuid=f"GPU-{slot:08d}",
        model="Bench 80GB",
        architecture="Bench",
        memory_bytes=80 << 30,
        multiprocessors=132,
        compute_capability="9.0",
        numa_node=0,
        pcie_root="pci0000:00",
        partitioned=bool(partitions),
        partitions=partitions,
    )


def partition(placement: int) -> Partition:
    """Return a partition of one slice at `placement`."""
    return Partition(
        profile="1g.10gb",
        placement=placement,
        subplacement=None,
        uuid=f"MIG-{placement}",
        memory_bytes=10 << 30,
        multiprocessors=16,
    )


def node_inventory(*accelerators: Accelerator) -> Inventory:
    """Return what a node with these accelerators publishes; by default four whole ones."""
    found = accelerators or tuple(accelerator(slot) for slot in range(1, 5))
    return inventory.build(Snapshot("bench", "1.2.3", "13.0", "1", found))


def shared_inventory(strategy: Strategy, *accelerators: Accelerator) -> Inventory:
    """Return what a node with these accelerators publishes if claims may have shares of them."""
    whole = node_inventory(*accelerators)
    entries = (replace(entry, device=shares.offer_shares(entry.device, strategy)) for entry in whole.entries)
    return replace(whole, entries=tuple(entries))


def share(device_name: str, share_id: str, memory: str, percent: int, request: str = "gpu") -> AllocationResult:
    """Return a result for a share of a device."""
    consumed = {MEMORY: memory, SHARE: str(percent), MULTIPROCESSORS: "0"}
    return result(device_name, request, shareID=share_id, consumedCapacity=consumed)


def device(slot: int) -> str:
    """Return the published name of the whole accelerator at `slot`."""
    return f"gpu-0000-{slot:02x}-00-0"


def result(device_name: str, request: str = "gpu", **fields: object) -> AllocationResult:
    """Return an allocation result of our driver and pool, unless `fields` say otherwise."""
    document = {"request": request, "driver": DRIVER, "pool": NODE, "device": device_name, **fields}
    return msgspec.convert(document, AllocationResult)


def opaque(
    parameters: bytes, *requests: str, source: str = "FromClaim", driver: str = DRIVER
) -> AllocationConfiguration:
    """Return an opaque configuration as an allocation carries it."""
    configuration = OpaqueConfiguration(driver=driver, parameters=msgspec.Raw(parameters))
    return AllocationConfiguration(source=source, requests=requests, opaque=configuration)


def claim(
    uid: str,
    *results: AllocationResult,
    config: Sequence[AllocationConfiguration] = (),
    annotations: dict[str, str] | None = None,
) -> ResourceClaim:
    """Return an allocated claim `default/claim-<uid>`."""
    devices = DeviceAllocation(results=results, config=tuple(config))
    meta = ObjectMeta(name=f"claim-{uid}", namespace="default", uid=uid, annotations=annotations or {})
    return ResourceClaim(metadata=meta, status=ClaimStatus(allocation=Allocation(devices=devices)))


def ref(uid: str) -> ClaimRef:
    """Return the kubelet's words for the claim of this UID."""
    return ClaimRef("default", f"claim-{uid}", uid)


COMMON = ContainerEdits(
    env=("BENCH=1",), mounts=(Mount(host_path="/usr/lib/libbench.so.1", container_path="/usr/lib/libbench.so.1"),)
)


@dataclass
class PlainVendor:
    """Hardware that needs nothing done before it is used."""

    edits: ContainerEdits | None = None
    """Edits of every device; by default its device node."""
    common: ContainerEdits = COMMON
    steps_per_device: int = 0
    """Steps for a device that is given to one claim alone; shares and admin access need none."""
    away: str = ""
    """Why the driver is not there, if it is not."""
    name: str = "bench"
    node_numbers: int = 0
    """Added to the major number of device nodes: another one after a reboot."""

    def fingerprint(self) -> str:
        return ""

    def snapshot(self) -> Snapshot:
        return node_inventory().snapshot

    def prepare(self, targets: Sequence[Target], done: Sequence[Step] = ()) -> Preparation:  # noqa: ARG002 - steps tell containers nothing
        if self.away:
            raise Unavailable(self.away)
        devices = {target.key: self._edit(target) for target in targets}
        return Preparation(self.common, devices)

    def plan(self, targets: Sequence[Target]) -> tuple[Step, ...]:
        return tuple(
            Step(name="hold", arguments={"device": target.name, "part": str(part)})
            for target in targets
            if target.share_id is None and not target.admin_access
            for part in range(self.steps_per_device)
        )

    def _edit(self, target: Target) -> ContainerEdits:
        if self.edits is not None:
            return self.edits
        node = DeviceNode(
            path=f"/dev/{target.name}", type="c", major=195 + self.node_numbers, minor=target.accelerator.index
        )
        return ContainerEdits(device_nodes=(node,))


@dataclass
class BenchVendor(PlainVendor):
    """Hardware that is files: a step `hold` of a device makes the file `<device>.<part>`, undoing it removes it."""

    hardware: Path = Path()
    disk: Disk = field(default_factory=Disk)
    fail_runs: set[str] = field(default_factory=set)
    """Names of files whose making is refused."""
    fail_undos: set[str] = field(default_factory=set)

    def run(self, step: Step, done: Sequence[Step]) -> Step:  # noqa: ARG002 - steps do not depend on each other
        path = self._file(step)
        if path.name in self.fail_runs:
            raise StepFailed(step.name, f"the hardware refuses {path.name}")
        self.disk.write(path, b"held", 0o644, sync=False)
        return step

    def undo(self, step: Step) -> None:
        path = self._file(step)
        if path.name in self.fail_undos:
            raise StepFailed(step.name, f"the hardware keeps {path.name}")
        if path.exists():
            self.disk.unlink(path)

    def _file(self, step: Step) -> Path:
        return self.hardware / f"{step.arguments['device']}.{step.arguments['part']}"


@dataclass
class Bench:
    """The folders of one node, its cluster's claims, and preparers on them."""

    root: Path
    disk: Disk = field(default_factory=Disk)
    vendor: BenchVendor = field(init=False)
    claims: dict[str, ResourceClaim] = field(default_factory=dict)
    """What the API server has, by name."""
    inventory: Inventory | None = field(default_factory=node_inventory)
    happened: list[Occurrence] = field(default_factory=list)
    changed: list[HardwareChanged] = field(default_factory=list)
    """What happened to hardware, apart from the rest."""
    faults: list[Exception] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)
    """How long each read was given, in seconds."""
    now: float = 0.0
    """Added to the clock by waiting."""
    reach: Callable[[str, str], ResourceClaim] | None = None
    """What claims are read with, if not simply with `fetch`."""
    neutral: Sequence[Neutral] = ()
    """Who stands in for the vendor."""
    stopping: bool = False
    """Whether waiting ends at once because the plugin is being stopped."""

    def __post_init__(self) -> None:
        for folder in ("hardware", "cdi", "state"):
            (self.root / folder).mkdir(exist_ok=True)
        self.boot(BOOT)
        self.vendor = BenchVendor(hardware=self.root / "hardware", disk=self.disk)
        self._lock = threading.Lock()

    @property
    def settings(self) -> Settings:
        return Settings(
            node_name=NODE,
            state_dir=str(self.root / "state"),
            cdi_root=str(self.root / "cdi"),
            proc_root=str(self.root / "proc"),
        )

    def boot(self, boot_id: str) -> None:
        """Set the kernel's boot id."""
        path = self.root / "proc/sys/kernel/random/boot_id"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{boot_id}\n")

    def reboot(self, boot_id: str) -> None:
        """Boot the machine: the tmpfs is empty, the hardware forgets, device numbers change."""
        for folder in ("hardware", "cdi"):
            for path in (self.root / folder).iterdir():
                path.unlink()
        self.vendor.node_numbers += 1
        self.boot(boot_id)

    def add(self, added: ResourceClaim) -> ClaimRef:
        """Put a claim into the cluster."""
        self.claims[added.metadata.name] = added
        return ClaimRef(added.metadata.namespace, added.metadata.name, added.metadata.uid)

    def fetch(self, namespace: str, name: str) -> ResourceClaim:
        """Read a claim as the API server has it."""
        with self._lock:
            self.fetched.append(name)
        if name not in self.claims:
            raise NotFound(f"claim {namespace}/{name} not found")
        return self.claims[name]

    def fetch_within(self, namespace: str, name: str, timeout: float) -> ResourceClaim:
        """Read a claim as the preparer does, which says how long it may take."""
        self.limits.append(timeout)
        return (self.reach or self.fetch)(namespace, name)

    def wait(self, seconds: float) -> bool:
        """Let time pass at once."""
        self.now += seconds
        return self.stopping

    def emit(self, occurrence: Occurrence) -> None:
        """Note what happened."""
        if isinstance(occurrence, HardwareChanged):
            self.changed.append(occurrence)
        else:
            self.happened.append(occurrence)

    def outside(self) -> Outside:
        return Outside(
            fetch=self.fetch_within,
            inventory=lambda: self.inventory,
            emit=self.emit,
            on_fault=lambda _, error: self.faults.append(error),
            clock=lambda: time.monotonic() + self.now,
            wait=self.wait,
        )

    def open(self, settings: Settings | None = None) -> Preparer:
        """Return a preparer as a freshly started plugin has it, not recovered yet."""
        return open_preparer(settings or self.settings, self.vendor, self.outside(), self.disk, self.neutral)

    def records(self) -> list[Record]:
        """Return the records on disk."""
        paths = sorted((self.root / "state/claims").glob("*.json"))
        return [record_files.decode(path.read_bytes(), str(path)) for path in paths]

    def files(self, *folders: str) -> dict[str, bytes]:
        """Return all files that a claim leaves, by path: specs, records, metadata, hardware, interrupted writes."""
        chosen = folders or ("cdi", "hardware", "state/claims", "state/dra-device-metadata")
        found = (path for folder in chosen for path in (self.root / folder).rglob("*") if path.is_file())
        return {str(path.relative_to(self.root)): path.read_bytes() for path in sorted(found)}


def prepare_one(preparer: Preparer, wanted: ClaimRef) -> PrepareAnswer:
    """Prepare one claim as a call of the kubelet with one claim does."""
    return preparer.prepare([wanted])[wanted.uid]


def unprepare_one(preparer: Preparer, wanted: ClaimRef) -> str:
    """Unprepare one claim; return the error."""
    return preparer.unprepare([wanted])[wanted.uid]
