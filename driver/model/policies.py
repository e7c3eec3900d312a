"""AllocationPolicy of `config.accel-dra.dev/v1alpha1` as a value: how our controller chooses devices for a claim.

Read from opaque configuration by `core.policies`; the defaults are those of a policy that says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

GROUP_LABEL: Final = "accel-dra.dev/group"
"""Label of claims: its value is the name of their group within the namespace."""


class When(Enum):
    """When a claim is allocated."""

    FIRST_CONSUMER = "FirstConsumer"
    """Once a pod wants it, on a node where that pod can run."""
    IMMEDIATE = "Immediate"


class Preference(Enum):
    """How much it matters that the devices of a claim share an interconnect domain or a NUMA node."""

    REQUIRE = "Require"
    PREFER = "Prefer"
    IGNORE = "Ignore"


class Spreading(Enum):
    """Which node is chosen among those where the devices are equally good."""

    PACK = "Pack"
    SPREAD = "Spread"


@dataclass(frozen=True, slots=True)
class GroupPolicy:
    """Claims of one group are allocated together or not at all."""

    size: int
    """Claims that make the group complete; at least 1."""
    within: str = ""
    """Attribute of devices or label of nodes that all members must share; empty: none."""


@dataclass(frozen=True, slots=True)
class Policy:
    """One AllocationPolicy."""

    when: When = When.FIRST_CONSUMER
    interconnect: Preference = Preference.PREFER
    numa: Preference = Preference.PREFER
    placement: Spreading = Spreading.PACK
    group: GroupPolicy | None = None
