"""A node as a whole for tests of any history: simulated hardware, records, CDI folder, slices, and who allocates.

Hardware is that of the simulated vendor, changed through its own steps; claims are allocated by `core.allocator` from
the slices that `core.inventory` and `core.slicing` make of a look at it. A test can crash the plugin before any change
of disk or hardware, refuse changes of hardware, and act as an administrator.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from driver import settings as settings_module
from driver import vendors
from driver.core import allocator, inventory, slicing
from driver.core.allocator import Allocated, NodeView
from driver.core.offering import Mode
from driver.core.ownership import Holdings
from driver.model.claims import ClaimStatus, ResourceClaim
from driver.model.devices import Inventory, Profile
from driver.model.errors import NotFound
from driver.model.objects import ObjectMeta
from driver.model.occurrences import Occurrence
from driver.model.prepared import PARTITION_MODE, ClaimRef, Record
from driver.model.published import PublishedSlice
from driver.model.requests import ClaimSpec, DeviceClass
from driver.model.slices import Device
from driver.model.wanted import Claim
from driver.node.preparer import Outside, Preparer, open_preparer
from driver.node.surveying import Survey, Surveyor
from driver.passthrough.binding import Passthrough
from driver.settings import Settings
from driver.state import record_files
from driver.vendors.simulated.instances import InstanceError
from driver.vendors.simulated.vendor import Simulated
from tests.fakes.disks import CrashError, CrashingDisk

NODE = "node-a"
CLASSES = {
    name: msgspec.convert(
        {
            "metadata": {"name": name},
            "spec": {
                "selectors": [
                    {"cel": {"expression": f'device.attributes["accel-dra.dev"].?type.orValue("") == "{name}"'}}
                ]
            },
        },
        DeviceClass,
    )
    for name in ("gpu", "partition")
}

Place = tuple[str, str, int]
"""Address, profile and placement of a partition."""
Layout = dict[str, tuple[bool, tuple[tuple[str, int, str | None], ...]]]
"""By PCI address: whether it is in partition mode, and its instances as (profile, placement, UUID)."""


class NoDaemons:
    """A runner for hardware whose sharing needs no daemon."""

    def start(self, daemon: object) -> None:
        raise NotImplementedError

    def stop(self, name: str, end: Callable[[], None] | None = None) -> None:
        raise NotImplementedError


@dataclass
class Held:
    """A claim of the cluster that is allocated."""

    claim: Claim
    epoch: int
    """When it was allocated."""

    @property
    def ref(self) -> ClaimRef:
        meta = self.claim.metadata
        return ClaimRef(meta.namespace, meta.name, meta.uid)

    @property
    def devices(self) -> list[str]:
        allocation = self.claim.status.allocation
        return [result.device for result in allocation.devices.results] if allocation else []


@dataclass
class World:
    """One node and its part of the cluster."""

    root: Path
    changes: Mapping[str, object] = field(default_factory=dict)
    """Of the plugin's settings."""
    in_real_time: bool = False
    """Else each look at the clock takes a tenth of a second, and waiting none."""
    node: str = "hgx-h100"
    mode: Mode = Mode.DYNAMIC
    claims: dict[str, Held] = field(default_factory=dict)
    """What the API server has, by name."""
    foreign: dict[str, Place] = field(default_factory=dict)
    """Partitions that an administrator made: address, profile and placement by UUID."""
    modes: dict[str, bool | None] = field(default_factory=dict)
    """Whether the administrator left an accelerator in partition mode; None: he and the driver both had to do with it.
    Not named: no."""
    refused: set[str] = field(default_factory=set)
    """Changes of hardware that are refused from now on."""
    epoch: int = 0
    """Goes up with everything that may make an allocation void: strangers, another mode."""
    seen: int = -1
    """The epoch in which the inventory was made."""
    happened: list[Occurrence] = field(default_factory=list)
    faults: list[Exception] = field(default_factory=list)

    def __post_init__(self) -> None:
        for folder in ("cdi", "state", "sys", "proc/sys/kernel/random"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        self._numbers = itertools.count(1)
        self._now = itertools.count()
        self.disk = CrashingDisk()
        self.boots = 0
        self._boot()
        self.vendor = self._load()
        self.preparers: list[Preparer] = []
        self.inventory: Inventory | None = None
        self.slices: tuple[PublishedSlice, ...] = ()
        self.start()

    @property
    def settings(self) -> Settings:
        values: dict[str, object] = {
            "node_name": NODE,
            "state_dir": str(self.root / "state"),
            "cdi_root": str(self.root / "cdi"),
            "proc_root": str(self.root / "proc"),
            "sys_root": str(self.root / "sys"),
            "prepare_deadline": 20.0 if self.in_real_time else 5.0,
        }
        return Settings(**{**values, **self.changes})  # type: ignore[arg-type]

    # The plugin

    def start(self) -> None:
        """Start two instances of the plugin, as during an upgrade; the second one repairs what the last one left."""
        outside = Outside(
            fetch=self._fetch,
            inventory=lambda: self.inventory,
            emit=self.happened.append,
            on_fault=lambda _, error: self.faults.append(error),
            clock=time.monotonic if self.in_real_time else lambda: next(self._now) / 10,
            wait=threading.Event().wait if self.in_real_time else lambda _: False,
        )
        self.preparers = [open_preparer(self.settings, self.vendor, outside, self.disk) for _ in range(2)]
        devices = Passthrough(str(self.root / "sys"), str(self.root / "proc"))
        self.surveyor = Surveyor(self.vendor, devices, self.preparers[0].read_steps, offers_passthrough=False)
        self.scan()
        self.preparers[1].recover()

    def stop(self) -> None:
        """End both instances."""
        for preparer in self.preparers:
            preparer.close()

    def restart(self) -> None:
        """End both instances and start two new ones."""
        self.stop()
        self.disk.crash_at = 0
        self.vendor = self._load()
        self.start()

    def reboot(self) -> None:
        """Boot the machine: no instance is left on the hardware, the CDI folder is empty."""
        self.stop()
        if self.foreign:
            self.epoch += 1
        self.foreign.clear()
        self.modes = dict.fromkeys(self.switched())
        for path in (self.root / "cdi").iterdir():
            path.unlink()
        self._boot()
        self.restart()

    @contextmanager
    def crash(self, after: int) -> Iterator[None]:
        """Crash within, before the change of disk or hardware that comes after so many; then start again.

        If nothing more is changed than that, there is no crash, only a restart.
        """
        self.disk.crash_at = self.disk.changes + after + 1
        try:
            yield
        except CrashError:
            pass
        finally:
            self.restart()

    # The cluster

    def scan(self) -> None:
        """Look at the hardware and publish."""
        self.inventory = self.look()
        self.slices = self.publish(self.inventory)
        self.seen = self.epoch

    def look(self) -> Inventory:
        """Return what would be published if we looked now."""
        survey = self.surveyor.snapshot()
        return self._build(survey)

    def allocate(self, *requests: Mapping[str, object], config: tuple[Mapping[str, object], ...] = ()) -> Held | None:
        """Have a claim made and allocated from what is published; None if there is nothing for it."""
        uid = f"u{next(self._numbers)}"
        document = {
            "devices": {
                "requests": [{"name": f"r{number}", "exactly": each} for number, each in enumerate(requests)],
                "config": [
                    {"opaque": {"driver": self.settings.driver_name, "parameters": each}, "requests": []}
                    for each in config
                ],
            }
        }
        meta = ObjectMeta(name=f"claim-{uid}", namespace="default", uid=uid)
        wanted = Claim(metadata=meta, spec=msgspec.json.decode(msgspec.json.encode(document), type=ClaimSpec))
        held = [each.claim for each in self.claims.values()]
        snapshot = allocator.Snapshot(self.slices, CLASSES, held)
        outcome = allocator.allocate(snapshot, NodeView(NODE), [wanted])
        if not isinstance(outcome, Allocated):
            return None
        status = ClaimStatus(allocation=outcome.allocations[0])
        known = self.epoch if self.seen == self.epoch else -1
        found = Held(msgspec.structs.replace(wanted, status=status), known)
        self.claims[meta.name] = found
        return found

    def publish(self, found: Inventory) -> tuple[PublishedSlice, ...]:
        """Return the slices of an inventory as others read them."""
        laid_out = slicing.layout([entry.device for entry in found.entries], found.counter_sets)
        assert laid_out.withheld == ()
        identity = slicing.Identity(self.settings.driver_name, NODE, "node-uid", NODE, {})
        slices = slicing.plan(identity, laid_out.contents, ()).create
        named = [
            msgspec.structs.replace(each, metadata=msgspec.structs.replace(each.metadata, name=f"s{number}"))
            for number, each in enumerate(slices)
        ]
        return msgspec.json.decode(msgspec.json.encode(named), type=tuple[PublishedSlice, ...])

    # An administrator

    def switch(self, mode: Mode) -> None:
        """Have the node offer its devices otherwise."""
        if mode is not self.mode:
            self.mode = mode
            self.epoch += 1

    def make_foreign(self, address: str, profile: Profile, placement: int) -> str | None:
        """Make a partition with the vendor's tool; None if the hardware refuses."""
        chip = self.vendor.look().chips[address]
        try:
            with self._unwatched(), self.vendor.instances.open(chip) as gpu:
                switched = not gpu.look().partitioned
                gpu.switch_mode(enabled=True)
                try:
                    uuid = gpu.create_compute_instance(gpu.create_gpu_instance(profile, placement))
                except InstanceError:
                    if switched:
                        gpu.switch_mode(enabled=False)
                    raise
        except InstanceError:
            return None
        self.foreign[uuid] = (address, profile.name, placement)
        self.modes[address] = None if address in self.switched() else True
        self.epoch += 1
        return uuid

    def destroy_foreign(self, uuid: str) -> None:
        """Destroy a partition that the administrator made; the mode stays as it is."""
        chip = self.vendor.look().chips[self.foreign.pop(uuid)[0]]
        with self._unwatched(), self.vendor.instances.open(chip) as gpu:
            number = next(each.number for each in gpu.look().instances if each.uuid == uuid)
            gpu.destroy_compute_instance(number)
            gpu.destroy_gpu_instance(number)
        self.epoch += 1

    # What there is

    def layout(self) -> Layout:
        """Return what is on the hardware."""
        found: Layout = {}
        for address, chip in self.vendor.look().chips.items():
            seen = self.vendor.instances.look(chip)
            parts = tuple((each.profile.name, each.placement, each.uuid) for each in seen.instances)
            found[address] = (seen.partitioned, parts)
        return found

    def records(self) -> list[Record]:
        """Return the records on disk."""
        paths = sorted((self.root / "state/claims").glob("*.json"))
        return [record_files.decode(path.read_bytes(), str(path)) for path in paths]

    def files(self) -> dict[str, bytes]:
        """Return all files that claims leave: specs, records, metadata, what the vendor remembers of steps."""
        folders = ("cdi", "state/claims", "state/quarantine", "state/dra-device-metadata")
        own = ("begun", "power", "compute-mode", "time-slice", "mps")
        found = [*folders, *(f"state/simulated/{name}" for name in own)]
        paths = (path for folder in found for path in (self.root / folder).rglob("*") if path.is_file())
        return {str(path.relative_to(self.root)): path.read_bytes() for path in sorted(paths)}

    def devices(self) -> dict[str, Device]:
        """Return what would be published now, by name."""
        return {entry.name: entry.device for entry in self.look().entries}

    def switched(self) -> set[str]:
        """Return the accelerators whose mode claims have to do with."""
        steps = (step for record in self.records() for step in record.steps)
        return {step.arguments["pciAddress"] for step in steps if step.name == PARTITION_MODE}

    def profile(self, address: str, name: str) -> Profile:
        """Return a profile of an accelerator."""
        found = self.vendor.look().chips[address].find_profile(name)
        assert found is not None
        return found

    def places(self) -> dict[str, Place]:
        """Return where the partitions are that exist: address, profile and placement by UUID."""
        layout = self.layout().items()
        return {str(uuid): (address, name, at) for address, (_, parts) in layout for name, at, uuid in parts}

    def _fetch(self, namespace: str, name: str, _timeout: float) -> ResourceClaim:
        if name not in self.claims:
            raise NotFound(f"claim {namespace}/{name} not found", name=name)
        return self.claims[name].claim

    def _build(self, survey: Survey) -> Inventory:
        held = Holdings(survey.ownership.steps, devices=survey.ownership.devices)
        offer = settings_module.make_offer(self.settings, held)
        offer = replace(offer, mode=self.mode, owned=survey.ownership.owned)
        return inventory.build(survey.snapshot, None, offer)

    def _boot(self) -> None:
        self.boots += 1
        (self.root / "proc/sys/kernel/random/boot_id").write_text(f"boot-{self.boots}\n")

    def _load(self) -> Simulated:
        vendor = vendors.load("simulated", self.settings.roots, {"node": self.node}, NoDaemons())
        assert isinstance(vendor, Simulated)
        vendor.instances.before_change = self._watch
        return vendor

    def _watch(self, call: str) -> None:
        self.disk.note(call)
        if call in self.refused:
            raise InstanceError(f"refused: {call}")

    @contextmanager
    def _unwatched(self) -> Iterator[None]:
        """What the administrator does is nobody's crash."""
        self.vendor.instances.before_change = lambda _: None
        try:
            yield
        finally:
            self.vendor.instances.before_change = self._watch
