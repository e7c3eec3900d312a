"""What the controller has written and its watch has not shown yet.

Kept by one term. Without it the next round would see devices free that were given away a moment ago. A write whose
outcome is unknown is a doubt: its devices count as held until it is known, and the term finds out before it decides
anything else about the claim.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from driver.core.deciding import demands
from driver.model.claims import Allocation
from driver.model.wanted import Claim


@dataclass(frozen=True, slots=True)
class Doubt:
    """An allocation that was sent for a claim and may be there, or may still arrive."""

    claim: Claim
    allocation: Allocation


class Assumed:
    """One writer: the term's thread."""

    def __init__(self) -> None:
        self._written: dict[str, Claim] = {}
        self.doubts: dict[str, Doubt] = {}
        """By UID of the claim."""

    def put(self, claim: Claim) -> None:
        """Take in a claim as the API server answered it."""
        known = self._written.get(demands.key(claim))
        if known is None or known.metadata.uid != claim.metadata.uid or _version(known) < _version(claim):
            self._written[demands.key(claim)] = claim

    def doubt(self, claim: Claim, allocation: Allocation) -> None:
        """Hold the devices of an allocation whose outcome is unknown."""
        self.doubts[claim.metadata.uid] = Doubt(claim, allocation)

    def settle(self, claim: Claim) -> None:
        """The outcome is known now."""
        self.doubts.pop(claim.metadata.uid, None)

    def view(self, watched: Mapping[str, Claim]) -> dict[str, Claim]:
        """Return the claims as they are as far as anybody here knows; what the watch knows too is forgotten.

        The watch began after the term, and nothing is written that it has not shown: what is missing there is gone.
        """
        self._written = {key: claim for key, claim in self._written.items() if _is_newer(claim, watched.get(key))}
        view = {**watched, **self._written}
        for doubt in self.doubts.values():
            key = demands.key(doubt.claim)
            claim = view.get(key)
            if claim is not None and claim.metadata.uid == doubt.claim.metadata.uid and not claim.status.allocation:
                status = msgspec.structs.replace(claim.status, allocation=doubt.allocation)
                view[key] = msgspec.structs.replace(claim, status=status)
        return view


def _is_newer(claim: Claim, watched: Claim | None) -> bool:
    return watched is not None and watched.metadata.uid == claim.metadata.uid and _version(watched) < _version(claim)


def _version(claim: Claim) -> int:
    """Resource versions of one resource are whole numbers that grow (KEP-5504)."""
    return int(claim.metadata.resource_version)
