"""Nodes as the allocator sees them, and which slices and devices they reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from driver.model.published import PublishedDevice, PublishedSpec


@dataclass(frozen=True, slots=True)
class NodeView:
    """What decides which slices a node sees."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)


def reaches(where: PublishedSpec | PublishedDevice, node: NodeView) -> bool:
    """Say whether the node selection of a slice, or of a device that has its own, includes a node."""
    if where.node_name:
        return where.node_name == node.name
    if where.all_nodes:
        return True
    return where.node_selector is not None and where.node_selector.matches(node.name, node.labels)


def concerns(spec: PublishedSpec, node: NodeView) -> bool:
    """Say whether a slice has anything for a node; one that chooses nodes in a way we do not know has not."""
    if spec.per_device_node_selection and not (spec.node_name or spec.all_nodes or spec.node_selector):
        return any(reaches(device, node) for device in spec.devices)
    return reaches(spec, node)
