"""What of its hardware a node offers, as values: the settings of partitions and what claims hold. Read by `inventory`.

Made anew for each look at the hardware by `node.app` and the command line, because a label can change the mode and
each claim that is prepared or released changes which partitions are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from driver.model.passthrough import View
from driver.model.sharing import Strategy


class Mode(Enum):
    """What a node does with devices that can be partitioned; the values are those of the setting."""

    OFF = "off"
    """Whole devices only."""
    STATIC = "static"
    """What exists: partitions that an administrator made, whole devices otherwise. Nothing is made."""
    DYNAMIC = "dynamic"
    """Whatever can be made: partitions are made when they are allocated, and removed again."""


@dataclass(frozen=True, slots=True)
class Own:
    """A partition that a step of a claim has made, or is about to make."""

    pci_address: str
    profile: str
    placement: int
    uuid: str = ""
    """Empty until the step that makes it has returned."""
    present: frozenset[str] = frozenset()
    """Those that were there when the step was planned (UUIDs): somebody else's."""


@dataclass(frozen=True, slots=True)
class Offer:
    """How the hardware of a node is offered."""

    mode: Mode = Mode.STATIC
    profiles: frozenset[str] = frozenset()
    """Names of the profiles that are offered in dynamic mode; empty: all."""
    owned: frozenset[Own] = frozenset()
    """Every other partition that exists is somebody else's: it is left alone."""
    view: View | None = None
    """What the kernel says about passing devices through; None: they are not."""
    bound: frozenset[str] = frozenset()
    """PCI addresses of devices that claims of ours have passed through."""
    shares: Strategy | None = None
    """How several claims share a device; None: they do not."""
    kept: Mapping[str, Strategy] = field(default_factory=dict, hash=False)
    """By name, devices of which claims hold shares: they are shared as they were until the last is released."""
