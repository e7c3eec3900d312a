"""What the controller remembers from round to round, and may forget: it starts empty in every process.

Kept by the round: nodes that kube-scheduler refused for a claim, and since when an allocation has had no user. A
controller that starts anew tries a refused node once more and waits the whole grace time again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from driver.core.deciding import demands, placing, turns
from driver.core.deciding.turns import Turn
from driver.core.deciding.world import Bundle, Unit, World
from driver.model.wanted import Claim
from driver.model.workloads import Workload

_FIRST_RETRY_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long things are remembered and waited for. Seconds."""

    refusal: float = 300.0
    """A node is passed over for a claim for which kube-scheduler did not take it."""
    grace: float = 60.0
    """An allocation without a user is left in place."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    count: int
    at: float


class Memory:
    """One writer: the round. Times are those of one monotonic clock."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._refusals: dict[str, dict[str, _Refusal]] = {}
        """By UID of the claim and node."""
        self._granted: dict[str, str] = {}
        self._idle: dict[str, float] = {}
        self._turn = Turn()

    def observe(self, world: World, consumers: Mapping[str, Sequence[Workload]], now: float) -> None:
        """Compare the claims with what they were: one that lost its allocation while its pod waits was refused."""
        known = {claim.metadata.uid: claim for claim in world.claims.values()}
        for uid, node in self._granted.items():
            claim = known.get(uid)
            if claim is not None and claim.status.allocation is None and consumers.get(demands.key(claim)):
                own = self._refusals.setdefault(uid, {})
                own[node] = _Refusal(own[node].count + 1 if node in own else 1, now)
        self._granted = dict(_find_unreserved(known.values()))
        self._forget_refusals(known, now)
        self._idle = {uid: since for uid, since in self._idle.items() if uid in known}

    def _forget_refusals(self, known: Mapping[str, Claim], now: float) -> None:
        kept = {
            uid: {node: each for node, each in own.items() if now < each.at + self._patience.refusal}
            for uid, own in self._refusals.items()
            if uid in known
        }
        self._refusals = {uid: own for uid, own in kept.items() if own}

    def note_granted(self, bundle: Bundle) -> None:
        """Remember allocations that were written just now."""
        for grant in bundle.grants:
            if grant.node:
                self._granted[grant.claim.metadata.uid] = grant.node

    def note_returned(self, claim: Claim) -> None:
        """Forget an allocation that we took back ourselves."""
        self._granted.pop(claim.metadata.uid, None)
        self._idle.pop(claim.metadata.uid, None)

    def list_barred(self, claim: Claim) -> Mapping[str, float]:
        """Return the nodes that are passed over for a claim while there are others.

        With each: when it may be tried again if there is no other, sooner than it is forgotten, but not often.
        """
        return {
            node: refusal.at + min(_FIRST_RETRY_SECONDS * 2 ** (refusal.count - 1), self._patience.refusal)
            for node, refusal in self._refusals.get(claim.metadata.uid, {}).items()
        }

    def remaining_grace(self, claim: Claim, now: float) -> float:
        """Return the seconds until the grace time of an allocation without a user ends; 0 once it is over."""
        since = self._idle.setdefault(claim.metadata.uid, now)
        return max(0.0, since + self._patience.grace - now)

    def begin_turn(self, units: Iterable[Unit]) -> Turn:
        """Return whose turn it is in a round."""
        return turns.begin(self._turn, units)

    def end_turn(self, turn: Turn) -> None:
        """Remember a round that ends. What it found out is only kept while there is not enough time for all."""
        self._turn = turn if turn.is_cut_short or turn.passed else Turn()

    def keep_idle(self, idle: Iterable[Claim]) -> None:
        """Forget the waiting of all claims but these."""
        uids = {claim.metadata.uid for claim in idle}
        self._idle = {uid: since for uid, since in self._idle.items() if uid in uids}


def _find_unreserved(claims: Iterable[Claim]) -> Iterable[tuple[str, str]]:
    """Yield the claims that are allocated for one node and not used, with the node."""
    for claim in claims:
        if claim.status.allocation is not None and not claim.status.reserved_for:
            nodes = placing.name_nodes((claim.status.allocation,))
            if nodes is not None and len(nodes) == 1:
                yield claim.metadata.uid, next(iter(nodes))
