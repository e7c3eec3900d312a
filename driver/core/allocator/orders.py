"""In which order candidates are tried: the only difference between the ways to choose devices. Called by `search`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from driver.core.allocator.devices import Device
from driver.core.allocator.requests import Wanted
from driver.core.allocator.tracking import Ledger


class CandidateOrder(Protocol):
    """Arranges the candidates of a request when the search comes to it."""

    is_published_order: bool
    """True if `arrange` changes nothing, so that the search may skip what only repeats itself in another order."""

    def arrange(self, wanted: Wanted, candidates: Sequence[Device], ledger: Ledger) -> Sequence[Device]:
        """Return the candidates in the order to try; it may leave some out, which are then not taken.

        `ledger.taken` are the devices chosen for requests before this one. Called once each time the search comes to a
        request, not for each of its devices: a request for several takes them in this order.
        """
        ...


class FirstFit:
    """Upstream's order: pools by driver and name, slices by name, devices as listed."""

    is_published_order = True

    def arrange(self, wanted: Wanted, candidates: Sequence[Device], ledger: Ledger) -> Sequence[Device]:  # noqa: ARG002
        """Return the candidates as they are."""
        return candidates


FIRST_FIT: Final = FirstFit()
