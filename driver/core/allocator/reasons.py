"""Why claims get no devices, as data: for sentences, Events and metrics. Made by `explaining` and `summarizing`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from driver.core.allocator.misses import Shortfall


class Code(Enum):
    """What is in the way, as one word for metrics and conditions."""

    CLASS_MISSING = "ClassMissing"
    INVALID_CLAIM = "InvalidClaim"
    SELECTOR_ERROR = "SelectorError"
    TOO_MANY_DEVICES = "TooManyDevices"
    NO_DEVICES = "NoDevices"
    POOL_INCOMPLETE = "PoolIncomplete"
    POOL_INVALID = "PoolInvalid"
    POOL_OBSOLETE = "PoolObsolete"
    SELECTOR_MISMATCH = "SelectorMismatch"
    OTHER_NODES = "OtherNodes"
    CAPACITY_EXCEEDED = "CapacityExceeded"
    TAINTED = "Tainted"
    IN_USE = "InUse"
    COUNTERS_EXHAUSTED = "CountersExhausted"
    CONSTRAINT_UNSATISFIED = "ConstraintUnsatisfied"
    NO_COMBINATION = "NoCombination"
    """Every request could be had alone, but not all of them together."""


@dataclass(frozen=True, slots=True)
class Reason:
    """What keeps one request, or all requests together, from being had on a node."""

    code: Code
    text: str
    """Part of a sentence; equal on nodes where it is the same."""
    holders: tuple[str, ...] = ()
    """Claims that hold what is missing, `namespace/name`."""
    shortfall: Shortfall | None = None
    """By how much it is missed, if that is all: nodes that differ only in this are told together."""
    source: str = ""
    """What asks for it, behind a shortfall: `selector #1`."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """One request that cannot be had, or several that cannot be had together."""

    claim: str
    request: str
    """Several are joined by commas; empty: the claim as a whole."""
    wanted: str
    """`2 devices`, `all devices`."""
    reason: Reason


@dataclass(frozen=True, slots=True)
class NodeReport:
    """Why claims cannot be had on one node; nothing is blocked if they can."""

    node: str
    blocked: tuple[Blocked, ...] = ()
    is_fatal: bool = False
    """kube-scheduler stops here, and does not look at other nodes."""


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes on which the same is in the way."""

    blocked: Blocked
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why no node can give claims their devices."""

    text: str
    """One sentence, at most as long as an Event's message may be. Empty if some node can."""
    groups: tuple[Group, ...] = ()
    """The largest first."""
    codes: Mapping[tuple[str, str], Code] = field(default_factory=dict)
    """By claim and request: what is in the way on most nodes."""
