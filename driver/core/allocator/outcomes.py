"""How an allocation ends: with allocations, without, or with a claim that no node can help."""

from __future__ import annotations

from dataclasses import dataclass

from driver.core.allocator.reasons import Code
from driver.model.claims import Allocation
from driver.model.errors import DriverError


class InvalidClaim(DriverError):  # noqa: N818 - the names are the driver's vocabulary, see model.errors
    """The claim, its class or a selector is wrong: its pod cannot be scheduled, and no other node helps.

    kube-scheduler aborts the scheduling of the pod at this point. The text is one sentence for the claim's author.
    """

    def __init__(self, message: str, code: Code = Code.INVALID_CLAIM) -> None:
        self.code = code
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Allocated:
    """Devices for every claim."""

    allocations: tuple[Allocation, ...]
    """`status.allocation` of each claim, in the order of the claims, without its timestamp."""
    ranks: tuple[int, ...] = ()
    """For every request with alternatives, in order: the position of the one that was taken."""
    steps: int = 0
    """Choices that the search made; how much work it was."""


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """The claims cannot be allocated together on this node; another may do."""

    message: str = ""
    """Not empty if something on the node is wrong too: a pool that it uses is invalid."""
    steps: int = 0
    is_proven: bool = True
    """False if the search was given up: the claims are of a kind for which nobody knows a quick answer."""

    @property
    def is_node_error(self) -> bool:
        """True if an invalid pool was met, which the admin should know even if another node is found."""
        return bool(self.message)
