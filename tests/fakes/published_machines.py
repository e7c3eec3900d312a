"""Simulated machines as their plugins would publish them, put straight into the embedded API server."""

from __future__ import annotations

from typing import Final

import msgspec

from driver import vendors
from driver.core import fencing, inventory, slicing
from driver.core.fencing import Authority
from driver.core.offering import Offer
from driver.core.slicing import Identity
from driver.model.sharing import Strategy
from driver.settings import Settings
from driver.simulation import manifests
from driver.simulation.apiserver import ApiServer
from driver.simulation.apiserver.values import JsonObject

DRIVER: Final = "gpu.accel-dra.dev"


def add_machine(
    server: ApiServer,
    name: str,
    hardware: str,
    authority: Authority = Authority.SCHEDULER,
    driver: str = DRIVER,
    shares: Strategy | None = None,
) -> None:
    """Add a Node (unless it is there) and the slices of one driver on it."""
    if not any(node["metadata"]["name"] == name for node in server.store.list("nodes")):  # type: ignore[call-overload,index]
        created = server.store.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        # Ready from the start: the taint that a new Node gets is the node controller's to remove.
        server.store.update({**created, "spec": {}})
    vendor = vendors.load("simulated", Settings().roots, {"node": hardware, "seed": f"{name}-{driver}"})
    devices = [entry.device for entry in inventory.build(vendor.snapshot(), None, Offer(shares=shares)).entries]
    contents = slicing.layout(fencing.fence(devices, authority)).contents
    for wanted in slicing.plan(Identity(driver, name, "uid", name, {}), contents, ()).create:
        value: JsonObject = msgspec.json.decode(msgspec.json.encode(wanted))
        value["metadata"] = {"name": f"{name}-{driver}-{len(server.store.list('resourceslices'))}"}
        server.store.create(value)


def add_classes(server: ApiServer) -> None:
    """Add the DeviceClasses of deploy/base."""
    for document in manifests.read(manifests.find("base", "deviceclasses.yaml")):
        server.store.create(dict(document))  # type: ignore[arg-type]  # both are JSON objects
