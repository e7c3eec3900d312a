"""The values of one decision: what there is, what is wanted, what shall be done. All frozen.

`World` is made by the controller from its caches; `Decision` is what it writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Protocol

from driver.core.deciding.loads import Load
from driver.model.claims import Allocation
from driver.model.policies import GroupPolicy, Policy
from driver.model.requests import DeviceClass
from driver.model.wanted import Claim
from driver.model.workloads import ClusterNode, Workload

SHARED: Final = ""
"""Stands for the node of devices that several nodes reach."""


@dataclass(frozen=True, slots=True)
class World:
    """One view of the cluster. Objects by `namespace/name`, or `name` where there are no namespaces."""

    claims: Mapping[str, Claim]
    pods: Mapping[str, Workload]
    """Those that have claims; others count in `loads` only."""
    nodes: Mapping[str, ClusterNode]
    classes: Mapping[str, DeviceClass]
    loads: Mapping[str, Load] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Member:
    """Claims that are allocated together on one node: those of one pod, or one that waits for no pod."""

    claims: tuple[Claim, ...]
    policies: tuple[Policy, ...]
    """Of each claim."""
    pod: Workload | None = None
    others: tuple[Claim, ...] = ()
    """Claims of the pod that are allocated already."""
    within: tuple[str, str] | None = None
    """An attribute of devices and its value: accelerators have to have it, while a group is tried in one domain."""

    @property
    def priority(self) -> int:
        """Higher goes first."""
        return self.pod.spec.priority if self.pod else 0

    @property
    def age(self) -> tuple[str, str]:
        """Earlier goes first; the name decides between those of one second."""
        first = self.pod.metadata if self.pod else self.claims[0].metadata
        return first.creation_timestamp or "", f"{first.namespace}/{first.name}"


@dataclass(frozen=True, slots=True)
class Unit:
    """What is allocated as a whole or not at all: one member, or a group."""

    name: str
    """As messages say it: `claim a/b`, `group a/g`."""
    members: tuple[Member, ...]
    group: GroupPolicy | None = None
    anchors: tuple[Claim, ...] = ()
    """Claims of the group that are allocated, if it is completed now: half of it was written, or some came anew."""

    @property
    def rank(self) -> tuple[int, tuple[str, str]]:
        """The order in which units are served: priority of the pods, then age."""
        return -max(each.priority for each in self.members), min(each.age for each in self.members)


class Detail:
    """A sentence that costs time to find out: made when somebody wants to read it, and only once."""

    __slots__ = ("_made", "_make")

    def __init__(self, make: Callable[[], str]) -> None:
        self._make = make
        self._made: str | None = None

    def __str__(self) -> str:
        if self._made is None:
            try:
                self._made = self._make()
            except Exception as error:  # noqa: BLE001 - that one reason cannot be found must not keep others from being told
                self._made = f"the reason cannot be said, please report it: {type(error).__name__}: {error}"
        return self._made


class Reason(Enum):
    """Why a claim waits: the reason of its Event and the label of the metric."""

    NO_CONSUMER = "WaitingForConsumer"
    GROUP_INCOMPLETE = "WaitingForGroup"
    INVALID_POLICY = "InvalidAllocationPolicy"
    REFUSED = "AllocationRefused"
    NO_NODE = "NoSuitableNode"
    NO_DEVICES = "NoSuitableDevices"
    SCHEDULER = "WaitingForScheduler"


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a unit cannot be placed now."""

    reason: Reason
    message: str | Detail
    again_at: float = 0.0
    """When a node that was refused may be tried once more; 0: not the matter."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A claim that waits, for which pod, and why in one sentence."""

    claim: Claim
    reason: Reason
    message: str | Detail
    pod: Workload | None = None
    unit: str = ""
    """The group that waits as a whole, if there is one."""

    @property
    def text(self) -> str:
        """The whole sentence."""
        return f"{self.unit}: {self.message}" if self.unit else str(self.message)


@dataclass(frozen=True, slots=True)
class Grant:
    """An allocation to be written for a claim; `pod` is whom it is for."""

    claim: Claim
    allocation: Allocation
    node: str
    pod: Workload | None = None


@dataclass(frozen=True, slots=True)
class Bundle:
    """Grants that belong together: written one right after the other, nothing of them if one is refused before."""

    name: str
    grants: tuple[Grant, ...]


@dataclass(frozen=True, slots=True)
class Return:
    """An allocation to be taken back, and why."""

    claim: Claim
    why: str
    is_unused: bool = False
    """True if it is only taken back because no pod uses the claim, which the API server shall confirm."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to write, in this order, and what to tell."""

    bundles: tuple[Bundle, ...] = ()
    returns: tuple[Return, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    again_in: float | None = None
    """Seconds after which something may be decided although nothing changed."""
    foreign: tuple[tuple[Claim, Workload], ...] = ()
    """Claims that kube-scheduler allocates, each with the pod that waits for it."""
    idle: tuple[Waiting, ...] = ()
    """Claims that kube-scheduler would allocate if a pod that may run used them."""
    consumers: Mapping[str, tuple[Workload, ...]] = field(default_factory=dict, compare=False, repr=False)
    """The pods that want each claim, by its key in the world, the first in line first."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A node and one allocation for each claim, in their order, without a timestamp."""

    node: str
    allocations: tuple[Allocation, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """No node has the devices; why, in one sentence."""

    message: str | Detail


class Stock(Protocol):
    """The devices that our controller may allocate, and who holds them. Implemented over the allocator."""

    def hold(self, claims: Iterable[Claim], nodes: Mapping[str, ClusterNode]) -> None:
        """Let these be all nodes, and exactly these claims hold what is allocated to them."""

    def choose(self, member: Member, nodes: Mapping[str, ClusterNode]) -> Chosen | Refused:
        """Return the best of these nodes with devices for all claims of a member together.

        Raises `InvalidInput` if a claim is wrong in itself, whatever the node.
        """

    def take(self, claim: Claim, allocation: Allocation) -> None:
        """Let a claim hold devices, so that later choices leave them alone."""

    def give_back(self, claim: Claim) -> None:
        """Let a claim hold nothing."""

    def count_free(self, name: str = "") -> Mapping[str, Mapping[str, int]]:
        """Return how many devices each node has left, by value of the device attribute `name`.

        Without a name all are under one empty value, those that no single node has under the node `SHARED`. No value
        at all: no device of ours has the attribute.
        """

    def values(self, allocation: Allocation, name: str) -> frozenset[str]:
        """Return the values of an attribute on the devices of an allocation."""

    def owns(self, allocation: Allocation) -> bool:
        """Say whether all devices of an allocation are ours to allocate."""
