"""The clusters that the allocator is measured on: the recorded inputs in `data/`, and larger ones of the same kind."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from driver.core.allocator import NodeView
from driver.model.objects import ObjectMeta
from driver.model.published import PublishedSlice
from driver.model.requests import DeviceClass
from driver.model.wanted import Claim

DATA: Final = Path(__file__).parent / "data"
FILES: Final = {
    "whole-gpu-100": "whole-gpu-100",
    "whole-gpu-1000": "whole-gpu-1000",
    "mig-1g-100": "mig-100",
    "mig-mixed-100": "mig-100",
}
"""Input to file."""
_Kind = TypeVar("_Kind")


@dataclass(frozen=True, slots=True)
class Cluster:
    """Nodes with devices, and the claims that are made again and again under new names."""

    name: str
    nodes: tuple[NodeView, ...]
    classes: dict[str, DeviceClass]
    slices: tuple[PublishedSlice, ...]
    claims: tuple[Claim, ...]

    def make_claims(self, count: int) -> list[Claim]:
        """Return claims that differ in name and UID, one kind after the other."""
        return [_rename(self.claims[number % len(self.claims)], number) for number in range(count)]

    def slices_of(self, node: str) -> tuple[PublishedSlice, ...]:
        """Return the slices of one node."""
        return tuple(each for each in self.slices if each.spec.node_name == node)


def load(name: str) -> Cluster:
    """Read one input."""
    data = json.loads(gzip.decompress((DATA / f"{FILES[name]}.json.gz").read_bytes()))
    return Cluster(
        name=name,
        nodes=tuple(NodeView(each["name"], each["labels"]) for each in data["nodes"]),
        classes={each.metadata.name: each for each in _decode(data["classes"], DeviceClass)},
        slices=_decode(data["slices"], PublishedSlice),
        claims=_decode(data["claims"][name], Claim),
    )


def _decode(values: Sequence[object], kind: type[_Kind]) -> tuple[_Kind, ...]:
    return tuple(msgspec.json.decode(json.dumps(value), type=kind) for value in values)


def grow(cluster: Cluster, nodes: int) -> tuple[tuple[NodeView, ...], Iterator[PublishedSlice]]:
    """Return so many nodes, each with the slices of one of the cluster's under other names, decoded one by one."""
    views = tuple(
        NodeView(f"node-{number:05}", {"kubernetes.io/hostname": f"node-{number:05}"}) for number in range(nodes)
    )
    return views, (each for number, view in enumerate(views) for each in _copy(cluster, number, view))


def _copy(cluster: Cluster, number: int, view: NodeView) -> Iterator[PublishedSlice]:
    """Encode and decode, so that nothing is shared with other copies: as it comes from an API server."""
    original = cluster.nodes[number % len(cluster.nodes)].name
    for each in cluster.slices_of(original):
        text = msgspec.json.encode(each).decode()
        text = text.replace(original, view.name).replace("GPU-", f"GPU-{number:05}-")
        yield msgspec.json.decode(text, type=PublishedSlice)


def _rename(claim: Claim, number: int) -> Claim:
    metadata = ObjectMeta(name=f"claim-{number}", namespace=claim.metadata.namespace, uid=f"uid-{number}")
    return msgspec.structs.replace(claim, metadata=metadata)
