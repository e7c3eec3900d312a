"""Slices that this driver publishes, for allocators: eight A100 in partitions, sixteen H100, eight H100 with shares.

Called by `scenarios`, and by the tests, which see that the slices in tests/vectors/machines are still published so.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from driver import vendors
from driver.core import inventory, naming, slicing
from driver.core.offering import Mode, Offer
from driver.core.slicing import Identity
from driver.model.devices import Inventory
from driver.model.sharing import Strategy
from driver.settings import Settings
from driver.simulation import manifests

Json = dict[str, Any]  # documents as they are recorded

NODE: Final = "node-1"
DRIVER: Final = "gpu.accel-dra.dev"
MACHINES: Final[Mapping[str, tuple[str, Offer]]] = {
    "a100-partitions": ("hgx-a100-mig", Offer(Mode.DYNAMIC)),
    "h100-16-dynamic": ("hgx-h100-16", Offer(Mode.DYNAMIC)),
    "h100-shares": ("hgx-h100", Offer(Mode.DYNAMIC, shares=Strategy.MPS)),
}
"""By name: the simulated node, and how it is offered."""
OWN: Final = 'device.attributes["accel-dra.dev"]'
CAPACITY: Final = 'device.capacity["accel-dra.dev"]'
PARENT: Final = "accel-dra.dev/parentUUID"
NUMA: Final = "resource.kubernetes.io/numaNode"
LINKED: Final = "accel-dra.dev/interconnectDomain"
MEMORY: Final = "accel-dra.dev/memory"
SHARE: Final = "accel-dra.dev/share"


def find_inventory(machine: str) -> Inventory:
    """Return what a machine offers."""
    node, offer = MACHINES[machine]
    vendor = vendors.load("simulated", Settings().roots, {"node": node, "seed": NODE})
    return inventory.build(vendor.snapshot(), None, offer)


def make_slices(machine: str) -> list[Json]:
    """Return the slices of a machine as the API server would hold them."""
    found = find_inventory(machine)
    contents = slicing.layout([entry.device for entry in found.entries], found.counter_sets).contents
    made: list[Json] = []
    for each in slicing.plan(Identity(DRIVER, NODE, "node-uid", NODE, {}), contents, ()).create:
        document = json.loads(msgspec.json.encode(each))
        document["metadata"] = {"name": f"{each.metadata.generate_name}abcde"}
        made.append(document)
    return made


def make_classes() -> list[Json]:
    """Return the classes of deploy/base that kube-scheduler allocates from."""
    documents: list[Json] = [dict(each) for each in manifests.read(manifests.find("base", "deviceclasses.yaml"))]
    return [each for each in documents if each["metadata"]["name"] != "topology.accel-dra.dev"]


def want(
    kind: str, *selectors: str, count: int = 1, capacity: Mapping[str, str] | None = None, mode: str = "ExactCount"
) -> Json:
    """Return an exact request, with everything that the API server would fill in."""
    wanted: Json = {"deviceClassName": f"{kind}.accel-dra.dev", "allocationMode": mode}
    if mode == "ExactCount":
        wanted["count"] = count
    if selectors:
        wanted["selectors"] = [{"cel": {"expression": text}} for text in selectors]
    if capacity:
        wanted["capacity"] = {"requests": dict(capacity)}
    return wanted


def part(profile: str, count: int = 1, **more: Any) -> Json:
    """Return a request for partitions of one profile."""
    return want("partition", f'{OWN}.profile == "{profile}"', count=count, **more)


def at_least(memory: str) -> str:
    """Return a selector for so much memory."""
    return f'{CAPACITY}.memory.compareTo(quantity("{memory}")) >= 0'


def claim(name: str, *requests: Json | Sequence[Json], match: str = "", distinct: str = "") -> Json:
    """Return a claim. A request that is a list is one of firstAvailable."""
    spec: Json = {"requests": [_number(position, each) for position, each in enumerate(requests)]}
    if match or distinct:
        spec["constraints"] = [{"matchAttribute": match} if match else {"distinctAttribute": distinct}]
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": metadata,
        "spec": {"devices": spec},
        "status": {},
    }


def _number(position: int, request: Json | Sequence[Json]) -> Json:
    name = f"r{position}"
    if isinstance(request, dict):
        return {"name": name, "exactly": request}
    return {"name": name, "firstAvailable": [{"name": f"s{rank}", **each} for rank, each in enumerate(request)]}


def hold(name: str, *devices: str, shares: Mapping[str, Mapping[str, str]] | None = None) -> Json:
    """Return a claim that holds devices, and shares of devices with what they take."""
    held: list[Json] = [{"request": "r0", "driver": DRIVER, "pool": NODE, "device": device} for device in devices]
    for number, (device, consumed) in enumerate((shares or {}).items()):
        share_id = f"11111111-1111-4111-8111-{number:06}{zlib.crc32(name.encode()) % 10**6:06}"
        place = {"request": "r0", "driver": DRIVER, "pool": NODE, "device": device}
        held.append({**place, "shareID": share_id, "consumedCapacity": dict(consumed)})
    made = claim(name, want("gpu"))
    made["status"] = {"allocation": {"devices": {"results": held}}}
    return made


class Bench:
    """Makes the scenarios of one machine."""

    def __init__(self, machine: str) -> None:
        self.machine = machine
        self.found = find_inventory(machine)
        self.wholes = [naming.name_accelerator(device) for device in self.found.snapshot.accelerators]
        self._classes = make_classes()
        self._count = 0

    def pose(self, topic: str, *claims: Json, allocated: Sequence[Json] = ()) -> Json:
        """Return one scenario."""
        self._count += 1
        return {
            "id": f"{self.machine}-{self._count:03}",
            "category": self.machine,
            "topic": topic,
            "scenario": {
                "node": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}},
                "slices": self.machine,
                "classes": self._classes,
                "claims": list(claims),
                "allocated": list(allocated),
            },
        }
