"""What an allocation tells on its way, to whoever wants to know. Called by `search` and `allocating`.

The silent reporter costs nothing: it is asked once, and then never called.
"""

from __future__ import annotations

from typing import Final, Protocol

from driver.core.allocator.bounds import Proof
from driver.core.allocator.constraints import Constraint
from driver.core.allocator.devices import Device
from driver.core.allocator.plans import Plan
from driver.core.allocator.tracking import Refusal


class Reporter(Protocol):
    """Hears why there is no answer."""

    is_silent: bool
    """True: nothing is told."""

    def planned(self, plan: Plan) -> None:
        """Hear what every request may get, before any device is chosen."""
        ...

    def proved(self, proof: Proof) -> None:
        """Hear why there cannot be an answer."""
        ...

    def refused(self, slot: int, device: Device, refusal: Refusal, constraint: Constraint | None) -> None:
        """Hear that a candidate was refused for a request because of what was chosen before."""
        ...


class Silent:
    """Tells nobody."""

    is_silent = True

    def planned(self, plan: Plan) -> None:
        """Is never called."""

    def proved(self, proof: Proof) -> None:
        """Is never called."""

    def refused(self, slot: int, device: Device, refusal: Refusal, constraint: Constraint | None) -> None:
        """Is never called."""


SILENT: Final = Silent()


class Collecting:
    """Keeps the plan, the proof, and for every request the first reason that ruled each device out."""

    is_silent = False

    def __init__(self) -> None:
        self.plan: Plan | None = None
        self.proof: Proof | None = None
        self.refusals: dict[int, dict[Device, tuple[Refusal, Constraint | None]]] = {}

    def planned(self, plan: Plan) -> None:
        """Keep the plan."""
        self.plan = plan

    def proved(self, proof: Proof) -> None:
        """Keep the proof."""
        self.proof = proof

    def refused(self, slot: int, device: Device, refusal: Refusal, constraint: Constraint | None) -> None:
        """Keep the reason if it is the first."""
        self.refusals.setdefault(slot, {}).setdefault(device, (refusal, constraint))
