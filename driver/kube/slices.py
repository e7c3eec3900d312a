"""ResourceSlices of one node: read them, write what a plan says. Called by the publisher.

Updates are merge patches with uid and resourceVersion, so that labels, annotations and fields of others survive and a
slice that changed meanwhile is not overwritten. Must not decide anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec

from driver.core.slicing import SlicePlan
from driver.kube import decoding, listing, nodes
from driver.kube.client import MERGE_PATCH, Client
from driver.model.errors import NotFound, Rejected
from driver.model.slices import Device, ResourceSlice

PATH: Final = "/apis/resource.k8s.io/v1/resourceslices"
_DEVICE: Final = re.compile(r"spec\.devices\[(\d+)\]")
_slices: Final = decoding.Decoder(ResourceSlice)


class Refused(Rejected):
    """The API server refuses a slice because of one of its devices."""

    def __init__(self, message: str, device: Device) -> None:
        super().__init__(message)
        self.device = device


@dataclass(frozen=True, slots=True)
class Written:
    """One slice as it was sent and as the server stored it."""

    sent: ResourceSlice
    stored: ResourceSlice


class Slices:
    """The slices of one driver on one node."""

    def __init__(self, client: Client, driver: str, node: str) -> None:
        self._client = client
        self._driver = driver
        self._node = node

    def fetch(self) -> tuple[ResourceSlice, ...]:
        """Return the slices as they are now."""
        return fetch(self._client, self._driver, self._node)

    def fetch_node_uid(self) -> str:
        """Return the uid of the Node object, which owns the slices."""
        return nodes.fetch(self._client, self._node).metadata.uid

    def apply(self, plan: SlicePlan, report: Callable[[Written], None]) -> None:
        """Write what a plan says."""
        apply(self._client, plan, report)

    def rehearse(self, wanted: ResourceSlice) -> ResourceSlice | None:
        """Return what the server would store, or None if it would refuse."""
        return rehearse(self._client, wanted)


def select(driver: str, node: str) -> str:
    """Return the field selector for the slices of one driver on one node."""
    return f"spec.driver={driver},spec.nodeName={node}"


def fetch(client: Client, driver: str, node: str) -> tuple[ResourceSlice, ...]:
    """Return the slices of one driver on one node as they are now. Raises like `Client.get`."""
    return listing.fetch_all(client, PATH, ResourceSlice, {"fieldSelector": select(driver, node)})


def apply(client: Client, plan: SlicePlan, report: Callable[[Written], None]) -> None:
    """Delete, update and create, in this order; each stored slice is reported at once.

    A slice that is already gone counts as deleted. Raises `Conflict` if a slice changed since it was read, `Refused`
    if one device is to blame, and what `Client` raises; what was done until then has been reported.
    """
    for doomed in plan.delete:
        _delete(client, doomed)
    for wanted in plan.update:
        report(_send(wanted, partial(_patch, client)))
    for wanted in plan.create:
        report(_send(wanted, partial(_create, client)))


def rehearse(client: Client, wanted: ResourceSlice) -> ResourceSlice | None:
    """Return what the server would store, without storing it (a dry run); None if it would refuse."""
    try:
        return _slices.decode(client.create(PATH, msgspec.json.encode(wanted), {"dryRun": "All"}), "dry run")
    except Rejected:
        return None


def _delete(client: Client, doomed: ResourceSlice) -> None:
    meta = doomed.metadata
    preconditions = {"uid": meta.uid, "resourceVersion": meta.resource_version}
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": preconditions}
    try:
        client.delete(f"{PATH}/{meta.name}", msgspec.json.encode(options))
    except NotFound:
        return


def _patch(client: Client, wanted: ResourceSlice) -> bytes:
    """Send what may change. Keys that are empty now are null: a merge patch keeps what it does not name."""
    meta, spec = wanted.metadata, wanted.spec
    patch = {
        "metadata": {
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
            "annotations": meta.annotations,
            "ownerReferences": meta.owner_references,
        },
        "spec": {
            "pool": spec.pool,
            "devices": spec.devices or None,
            "sharedCounters": spec.shared_counters or None,
        },
    }
    return client.patch(f"{PATH}/{meta.name}", msgspec.json.encode(patch), MERGE_PATCH)


def _create(client: Client, wanted: ResourceSlice) -> bytes:
    return client.create(PATH, msgspec.json.encode(wanted))


def _send(wanted: ResourceSlice, request: Callable[[ResourceSlice], bytes]) -> Written:
    try:
        name = wanted.metadata.name or wanted.metadata.generate_name
        return Written(wanted, _slices.decode(request(wanted), f"slice {name}"))
    except Rejected as error:
        found = _DEVICE.match(error.field)
        if found is None or int(found[1]) >= len(wanted.spec.devices):
            raise
        raise Refused(str(error), wanted.spec.devices[int(found[1])]) from error
