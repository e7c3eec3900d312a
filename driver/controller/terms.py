"""One term of a leader: fence off what an earlier one may still be writing, then decide and write, round by round.

`app` opens a term when the elector wins and drops it when the term ends. WHY NO DEVICE IS EVER HELD BY TWO CLAIMS:

1. An allocation is only sent for a claim that carries the finalizer, with the resourceVersion of that state, and only
   after asking whether the term still runs.
2. A term begins by reading all claims from the API server's storage and taking the finalizer off those that are not
   allocated. Any allocation that is still under way for such a claim, from whomever, carries an older resourceVersion
   then, and the API server refuses it, however late it arrives. An allocation that arrived before is seen. A claim for
   which the API server refuses that (an admission policy) holds the term up until no request can be under way.
3. Terms do not overlap (`kube.lease`), so an earlier leader's last question (1) was before (2), and so was the state
   that its write depends on. No bound on the network, on the API server or on a process that sleeps is needed.
4. Only then the claims are listed and watched. Within the term every write is either seen in its answer or a doubt,
   whose devices count as held until it is settled, in the same way as (2).
5. Others only take allocations away: kube-scheduler leaves devices with the fence alone, so what the watch has not
   shown yet makes us hold too much, never too little.

tests/properties/test_controller_machine.py plays this with two leaders, lost answers and writes that arrive late.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from driver.controller.assuming import Assumed
from driver.core.deciding import demands, rounds
from driver.core.deciding.demands import Ask
from driver.core.deciding.memory import Memory
from driver.core.deciding.world import Bundle, Decision, Grant, Return, Stock, World
from driver.model.claims import DELETE_PROTECTION, Allocation
from driver.model.errors import Conflict, DriverError, Forbidden, NotFound, Rejected, Unavailable
from driver.model.policies import Policy
from driver.model.wanted import Claim
from driver.model.workloads import Workload

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 60.0
_LONGEST_REQUEST: Final = 120.0
"""Seconds after which nothing is under way any more: an API server ends a request after 60 s (--request-timeout)."""
_DECIDING_LIMIT: Final = 1.0
"""Seconds of a round in which another unit may be looked at: what was found is written before the rest is looked at."""
Job = Callable[[], None]


class Claims(Protocol):
    """Where claims are kept; see `kube.allocations`. Every method raises `DriverError`."""

    def list_all(self) -> Sequence[Claim]:
        """Return all claims as they are now."""

    def fetch(self, claim: Claim) -> Claim | None:
        """Return a claim as it is now."""

    def fetch_pods(self, namespace: str) -> Sequence[Workload]:
        """Return the pods of a namespace as they are now."""

    def protect(self, claim: Claim) -> Claim:
        """Add the finalizer."""

    def unprotect(self, claim: Claim) -> Claim:
        """Remove the finalizer."""

    def allocate(self, claim: Claim, allocation: Allocation) -> Claim:
        """Write an allocation."""

    def clear(self, claim: Claim) -> Claim:
        """Take an allocation back."""


class TermEnded(Exception):  # noqa: N818 - it is no error: somebody else leads now
    """The term is over: write nothing more."""


@dataclass(frozen=True, slots=True)
class Hands:
    """What a term acts with."""

    claims: Claims
    leads: Callable[[], bool]
    """Says whether this very term still runs."""
    do_all: Callable[[Sequence[Job]], None]
    """Runs jobs, perhaps at the same time, and returns when all have ended."""
    clock: Callable[[], float]
    """Monotonic seconds."""
    now: Callable[[], dt.datetime]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one write."""

    claim: Claim
    error: DriverError | None = None
    node: str = ""
    devices: int = 0
    is_known: bool = True
    """False if nobody knows whether it was written."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a round decided, and what came of it."""

    world: World
    """What it decided about: with what is known of writes that the watch has not shown."""
    decision: Decision
    allocated: tuple[Outcome, ...] = ()
    returned: tuple[tuple[Outcome, str], ...] = ()
    retry_in: float | None = None
    """Seconds after which the next round is due if nothing changes."""


@dataclass(slots=True)
class _Pause:
    """A claim that the API server refused to change, for now."""

    error: DriverError
    until: float
    length: float


class Term:
    """Not for several threads, except for what `do_all` does."""

    def __init__(self, hands: Hands, memory: Memory) -> None:
        self._hands = hands
        self._memory = memory
        self._assumed = Assumed()
        self._pauses: dict[str, _Pause] = {}
        self._refused_at: float | None = None
        self._pods_read: dict[str, Sequence[Workload]] = {}
        """Pods of namespaces, as this round has seen them."""

    def open(self) -> None:
        """Make every allocation impossible that an earlier leader may still be writing.

        Raises `DriverError` if that did not work for all claims, and is to be called again; `TermEnded`.
        """
        refusals: list[DriverError] = []
        for claim in self._hands.claims.list_all():
            if claim.status.allocation is None and DELETE_PROTECTION in claim.metadata.finalizers:
                try:
                    self._fence_off(claim)
                except (Rejected, Forbidden) as error:
                    refusals.append(
                        type(error)(f"claim {claim} cannot be changed, which every term begins with: {error}")
                    )
        if refusals:
            now = self._hands.clock()
            self._refused_at = now if self._refused_at is None else self._refused_at
            if now < self._refused_at + _LONGEST_REQUEST:
                raise refusals[0]

    def step(self, world: World, stock: Stock, ask: Ask) -> Report:
        """Decide once about a view of the cluster, and write. Raises `TermEnded`."""
        self._settle_doubts()
        now = self._hands.clock()
        world = World(self._assumed.view(world.claims), world.pods, world.nodes, world.classes, world.loads)
        known = {claim.metadata.uid for claim in world.claims.values()}
        self._pauses = {uid: each for uid, each in self._pauses.items() if uid in known}
        clock, deadline = self._hands.clock, now + _DECIDING_LIMIT
        decision = rounds.decide(world, stock, self._memory, self._unless_paused(ask), now, lambda: clock() < deadline)
        allocated = self._write(decision.bundles)
        returned = self._take_all_back(decision.returns)
        return Report(world, decision, tuple(allocated), tuple(returned), self._find_pause(decision, now))

    def _find_pause(self, decision: Decision, now: float) -> float | None:
        pauses = [pause.until - now for pause in self._pauses.values() if pause.until > now]
        if decision.again_in is not None:
            pauses.append(decision.again_in)
        if self._assumed.doubts:
            pauses.append(_FIRST_PAUSE)
        return min(pauses, default=None)

    def _unless_paused(self, ask: Ask) -> Ask:
        """Return `ask`, which refuses claims that the API server lately refused to change."""

        def ask_unless_paused(claim: Claim) -> Policy | None:
            pause = self._find_refusal(claim)
            if pause is not None and claim.status.allocation is None:
                raise Rejected(f"the API server refused the allocation: {pause.error}")
            return ask(claim)

        return ask_unless_paused

    def _find_refusal(self, claim: Claim) -> _Pause | None:
        pause = self._pauses.get(claim.metadata.uid)
        return pause if pause is not None and pause.until > self._hands.clock() else None

    def _check(self) -> None:
        if not self._hands.leads():
            raise TermEnded

    def _fence_off(self, claim: Claim) -> None:
        """Change a claim so that no allocation for its present state can arrive any more; see (2) above."""
        current: Claim | None = claim
        while current is not None and current.status.allocation is None:
            if DELETE_PROTECTION not in current.metadata.finalizers:
                return
            self._check()
            try:
                self._hands.claims.unprotect(current)
            except NotFound:
                return
            except Conflict:
                found = self._hands.claims.fetch(current)
                current = found if found is not None and found.metadata.uid == claim.metadata.uid else None
            else:
                return

    def _settle_doubts(self) -> None:
        """Find out what became of writes whose answer was lost. A doubt that stays one goes on holding its devices."""
        for doubt in list(self._assumed.doubts.values()):
            self._check()
            try:
                found = self._hands.claims.fetch(doubt.claim)
                if found is not None and found.metadata.uid == doubt.claim.metadata.uid:
                    if found.status.allocation is None:
                        self._fence_off(found)
                        found = self._hands.claims.fetch(doubt.claim) or found
                    self._assumed.put(found)
                self._assumed.settle(doubt.claim)
            except Unavailable:
                return  # nor will it answer for the others
            except DriverError:
                continue

    def _is_doubted(self, claim: Claim) -> bool:
        return claim.metadata.uid in self._assumed.doubts

    def _write(self, bundles: Sequence[Bundle]) -> list[Outcome]:
        """Write all finalizers, then all allocations of the bundles of which no finalizer failed."""
        ready: dict[str, Claim] = {}
        outcomes: list[Outcome] = []
        grants = [grant for bundle in bundles for grant in bundle.grants]
        self._hands.do_all([self._protecting(grant, ready, outcomes) for grant in grants])
        whole = [each for each in bundles if all(grant.claim.metadata.uid in ready for grant in each.grants)]
        grants = [grant for bundle in whole for grant in bundle.grants]
        self._hands.do_all([self._allocating(grant, ready[grant.claim.metadata.uid], outcomes) for grant in grants])
        self._check()
        failed = {outcome.claim.metadata.uid for outcome in outcomes if outcome.error is not None}
        for bundle in whole:
            if not any(grant.claim.metadata.uid in failed for grant in bundle.grants):
                self._memory.note_granted(bundle)
        return outcomes

    def _protecting(self, grant: Grant, ready: dict[str, Claim], outcomes: list[Outcome]) -> Job:
        def protect() -> None:
            claim = grant.claim
            if DELETE_PROTECTION not in claim.metadata.finalizers:
                if not self._hands.leads():
                    return
                try:
                    claim = self._hands.claims.protect(claim)
                except DriverError as error:
                    outcomes.append(self._fail(grant.claim, error))
                    return
                self._assumed.put(claim)
            ready[claim.metadata.uid] = claim

        return protect

    def _allocating(self, grant: Grant, claim: Claim, outcomes: list[Outcome]) -> Job:
        time = self._hands.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        allocation = msgspec.structs.replace(grant.allocation, allocation_timestamp=time)

        def allocate() -> None:
            if not self._hands.leads():
                return
            # The devices count as held until it is known what became of it, whatever goes wrong on the way.
            self._assumed.doubt(claim, allocation)
            try:
                self._assumed.put(self._hands.claims.allocate(claim, allocation))
            except DriverError as error:
                outcome = self._fail(claim, error)
                outcomes.append(outcome)
                if outcome.is_known:
                    self._assumed.settle(claim)
            else:
                self._assumed.settle(claim)
                self._pauses.pop(claim.metadata.uid, None)
                outcomes.append(Outcome(claim, None, grant.node, len(allocation.devices.results)))

        return allocate

    def _fail(self, claim: Claim, error: DriverError) -> Outcome:
        """Read a claim again that somebody changed; leave one alone for a while that cannot be changed."""
        if isinstance(error, Unavailable):
            return Outcome(claim, error, is_known=False)
        if isinstance(error, Conflict):
            try:
                found = self._hands.claims.fetch(claim)
            except DriverError:
                # Perhaps our own write, sent twice, is what we conflict with.
                return Outcome(claim, error, is_known=False)
            if found is not None:
                self._assumed.put(found)
        elif not isinstance(error, NotFound):
            before = self._pauses.get(claim.metadata.uid)
            length = min(before.length * 2, _LONGEST_PAUSE) if before else _FIRST_PAUSE
            self._pauses[claim.metadata.uid] = _Pause(error, self._hands.clock() + length, length)
        return Outcome(claim, error)

    def _take_all_back(self, returns: Sequence[Return]) -> list[tuple[Outcome, str]]:
        found: list[tuple[Outcome, str]] = []
        self._pods_read = {}
        for each in returns:
            if self._is_doubted(each.claim) or self._find_refusal(each.claim) is not None:
                continue
            found.append((self._take_back(each), each.why))
            if isinstance(found[-1][0].error, Unavailable):
                break  # nor will it answer for the others
        return found

    def _take_back(self, each: Return) -> Outcome:
        """Clear an allocation that nobody uses, as the API server itself sees it, then remove the finalizer."""
        claims = self._hands.claims
        try:
            found = claims.fetch(each.claim)
            if found is None or not _is_same(found, each.claim) or self._is_wanted(found, each):
                return Outcome(each.claim, Conflict("it is used by now"))
            self._check()
            cleared = claims.clear(found)
            self._memory.note_returned(cleared)
            self._assumed.put(cleared)
            self._check()
            self._assumed.put(claims.unprotect(cleared))
        except DriverError as error:
            return self._fail(each.claim, error)
        return Outcome(each.claim)

    def _is_wanted(self, claim: Claim, each: Return) -> bool:
        """Say whether a pod wants a claim that is returned because none did."""
        if not each.is_unused:
            return False
        namespace = claim.metadata.namespace
        if namespace not in self._pods_read:
            # One look a round has to do: whoever comes later finds the claim without devices and waits for new ones.
            self._pods_read[namespace] = self._hands.claims.fetch_pods(namespace)
        pods = {str(index): pod for index, pod in enumerate(self._pods_read[namespace])}
        world = World({demands.key(claim): claim}, pods, {}, {})
        return any(not pod.is_done and demands.claims_of(pod, world)[0] for pod in pods.values())


def _is_same(found: Claim, decided: Claim) -> bool:
    """Say whether a claim is as it was when it was decided to take its allocation back."""
    return (
        found.metadata.uid == decided.metadata.uid
        and found.status.allocation == decided.status.allocation
        and not found.status.reserved_for
    )


def one_by_one(jobs: Iterable[Job]) -> None:
    """Run jobs in their order: `Hands.do_all` without threads."""
    for job in jobs:
        job()
