"""A node whose partitions are made on demand: the preparer on simulated hardware, with looks at it as the plugin has.

`look` is what the scanner does; tests call it when a second or two would have passed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from driver import vendors
from driver.core import inventory, shares
from driver.core.offering import Mode, Offer
from driver.daemons.places import Place
from driver.daemons.supervisor import Supervisor
from driver.model.claims import AllocationResult
from driver.model.devices import Accelerator, Inventory
from driver.model.prepared import ClaimRef
from driver.model.sharing import Strategy
from driver.node.preparer import Preparer, open_preparer
from driver.node.surveying import Surveyor
from driver.passthrough.binding import Passthrough
from driver.state.files import Disk
from driver.vendors.simulated.vendor import Simulated
from tests.fakes.bench import Bench, claim, result, share
from tests.vendors.machines import make_roots
from tests.vendors.nvidia.sharers import QUICK

ADDRESSES = ("0000:1a:00.0", "0000:3a:00.0")
SLICES = 7
"""How many of the smallest partition an H100 has room for."""


class PartitionedNode:
    """Two H100. `start` is a fresh process of the plugin."""

    def __init__(self, root: Path) -> None:
        self.bench = Bench(root)
        self.root = root
        self.mode = Mode.DYNAMIC
        self.shares: Strategy | None = None
        self._file = root / "node.json"
        self.write()
        self.start()

    def write(self, call_seconds: float = 0.0, **fields: object) -> None:
        """Change the node file: how long the hardware takes for each change; `fields` are those of the first device."""
        node = json.loads((Path(vendors.__file__).parent / "simulated/data/nodes/hgx-h100.json").read_text())
        first, second = node["devices"][:2]
        node["devices"] = [
            {"pciAddress": address, "model": device["model"]}
            for address, device in zip(ADDRESSES, (first, second), strict=True)
        ]
        node["devices"][0] |= fields
        node["callSeconds"] = call_seconds
        node.pop("switches", None)
        self._file.write_text(json.dumps(node))

    def start(self, disk: Disk | None = None) -> Preparer:
        """Return a plugin's preparer, which has looked at the hardware."""
        self.bench.disk = disk or self.bench.disk
        self.supervisor = Supervisor(self.root / "state/daemons", self.bench.emit, QUICK)
        self.vendor = Simulated(make_roots(self.root), {"node": str(self._file)}, self.supervisor)
        self.preparer = open_preparer(self.bench.settings, self.vendor, self.bench.outside(), self.bench.disk)
        passing = Passthrough(str(self.root / "sys"), str(self.root / "proc"))
        self._surveyor = Surveyor(self.vendor, passing, self.preparer.read_steps, offers_passthrough=False)
        self.look()
        return self.preparer

    def stop(self) -> None:
        """End the plugin; what claims have stays."""
        self.preparer.close()
        self.supervisor.close()

    def look(self) -> Inventory:
        """Look at the hardware, as the scanner does every second or two."""
        survey = self._surveyor.snapshot()
        kept = shares.keep(survey.ownership.devices, self.shares)
        offer = Offer(mode=self.mode, owned=survey.ownership.owned, shares=self.shares, kept=kept)
        self.bench.inventory = inventory.build(survey.snapshot, None, offer)
        return self.bench.inventory

    def find(self, profile: str, placement: int, address: str = ADDRESSES[0]) -> str:
        """Return the name under which a partition is published."""
        for entry in self.look().entries:
            part = entry.partition
            place = (entry.accelerator.pci_address, part.profile, part.placement) if part else None
            if place == (address, profile, placement):
                return entry.name
        raise LookupError(f"{profile} at {placement} of {address}")

    def whole(self, number: int = 0) -> str:
        """Return the name of a whole device."""
        return f"gpu-{ADDRESSES[number].replace(':', '-').replace('.', '-')}"

    def add(self, uid: str, *devices: str, admin_access: bool = False) -> ClaimRef:
        """Put a claim into the cluster that was given these devices, each for a request of its own."""
        results: Sequence[AllocationResult] = [
            result(name, f"r{number}", adminAccess=admin_access or None) for number, name in enumerate(devices)
        ]
        return self.bench.add(claim(uid, *results))

    def add_share(self, uid: str, device: str, percent: int) -> ClaimRef:
        """Put a claim into the cluster that was given so much of a device's compute, and a gibibyte."""
        return self.bench.add(claim(uid, share(device, f"share-{uid}", "1Gi", percent)))

    def daemons(self) -> dict[str, int]:
        """Return the number of each daemon's process by name."""
        places = (Place(folder) for folder in (self.root / "state/daemons").glob("*"))
        return {place.name: process.pid for place in places if (process := place.read())}

    def accelerator(self, number: int = 0) -> Accelerator:
        """Return one of the devices as it is now."""
        return self.vendor.snapshot().accelerators[number]

    def partitions(self, number: int = 0) -> dict[int, str]:
        """Return the UUIDs of the partitions of a device that exist, by placement."""
        return {part.placement: str(part.uuid) for part in self.accelerator(number).partitions}

    def make_foreign(self, profile: str, placement: int) -> str:
        """Make a partition of the first device as an administrator would; return its UUID."""
        chip = self.vendor.look().chips[ADDRESSES[0]]
        shape = chip.find_profile(profile)
        assert shape is not None
        with self.vendor.instances.open(chip) as gpu:
            gpu.switch_mode(enabled=True)
            return gpu.create_compute_instance(gpu.create_gpu_instance(shape, placement))

    def destroy(self, uuid: str) -> None:
        """Destroy a partition of the first device as an administrator would."""
        chip = self.vendor.look().chips[ADDRESSES[0]]
        with self.vendor.instances.open(chip) as gpu:
            number = next(each.number for each in gpu.look().instances if each.uuid == uuid)
            gpu.destroy_compute_instance(number)
            gpu.destroy_gpu_instance(number)

    def left(self) -> dict[str, bytes]:
        """Return the files of claims that are left: records, specs, metadata, notes of the vendor."""
        return self.bench.files("cdi", "state/claims", "state/dra-device-metadata", "state/simulated/begun")
