"""`best-fit` on one node: the best of all feasible sets of devices, by branch and bound.

Called by `choosing` and by the cluster. What is feasible is decided by the same books as for `first-fit` (`tracking`);
what is better by `tallies`. Devices that are alike are tried once. The search is exact unless it reaches its budget;
then it gives the best set that it has seen, and if it has seen none, the one that `first-fit` finds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from driver.core.allocator import bounds, candidates
from driver.core.allocator.allocating import MAX_STEPS, open_ledger, search_first
from driver.core.allocator.devices import Device
from driver.core.allocator.frames import Frame
from driver.core.allocator.outcomes import InvalidClaim
from driver.core.allocator.plans import Options, Plan
from driver.core.allocator.requests import MAX_RESULTS
from driver.core.allocator.search import Outcome, Search
from driver.core.allocator.snapshots import Books
from driver.core.allocator.standings import Place, Standing
from driver.core.allocator.tallies import Companion, Cost, Tally
from driver.core.allocator.tracking import Taken
from driver.model.policies import Policy

BUDGET: Final = 2000
"""Devices tried on one node; some ten milliseconds."""
MAX_DEEP: Final = 160
"""Devices that claims may ask for together to be searched in this way, which is recursive."""

Ranks = tuple[int, ...]
"""For every request with alternatives the position of the one that is taken."""
Pick = tuple[int, int, int]
"""Slot, alternative and position of one device."""


@dataclass(frozen=True, slots=True)
class Found:
    """The best set of devices, without any names, so that it holds for every node of the same layout and standing."""

    ranks: Ranks
    cost: Cost
    picks: tuple[Pick, ...]
    steps: int = 0
    is_proven: bool = True
    """False if the budget ended the search: a better set may exist."""

    @property
    def key(self) -> tuple[Ranks, Cost]:
        """The smaller, the better."""
        return self.ranks, self.cost


@dataclass(slots=True)
class Problem:
    """Claims on a node: what is searched for and what is known."""

    plan: Plan
    books: Books
    place: Place
    frame: Frame
    standing: Standing
    policies: Sequence[Policy]
    companions: Sequence[Companion] = ()
    steps: int = 0
    """Devices tried, once the search is over."""


def find_best(problem: Problem, budget: int = BUDGET) -> Found | None:
    """Return the best set of devices, or None if there is none.

    Raises `InvalidClaim` where first-fit does, unless there is a set without the device that is to blame.
    """
    plan = problem.plan
    if not plan.may_abort and bounds.find_shortage(plan) is not None:
        return None
    search = _BestSearch(problem, budget)
    if _count_most(plan) <= MAX_DEEP:
        search.run()
    problem.steps = search.steps
    if search.best is not None:
        return replace(search.best, steps=search.steps, is_proven=not search.is_cut)
    if not (search.is_cut or plan.may_abort or _count_most(plan) > MAX_DEEP):
        return None
    return _find_first(problem, MAX_STEPS if budget >= BUDGET else budget)


def _count_most(plan: Plan) -> int:
    return sum(max((each.count for each in alternatives), default=0) for alternatives in plan.options)


def _find_first(problem: Problem, limit: int) -> Found | None:
    """Return what first-fit finds within so many steps."""
    plan = problem.plan
    search, outcome, steps = search_first(plan, problem.books, max_steps=limit)
    problem.steps += steps
    if search is None or outcome is not Outcome.FOUND:
        return None
    tally = Tally(problem.standing, problem.policies, problem.companions)
    taken = list(search.ledger.taken)
    picks = tuple(_locate(problem, search, taken))
    for each, (_, _, position) in zip(taken, picks, strict=True):
        tally.push(each, position)
    ranks = tuple(search.ranks[slot] for slot, each in enumerate(plan.slots) if each.is_list)
    return Found(ranks, tally.finish(), picks, problem.steps, is_proven=False)


def _locate(problem: Problem, search: Search, taken: Sequence[Taken]) -> Iterator[Pick]:
    """Yield slot, alternative and position of every device that first-fit took."""
    for each in taken:
        for slot, alternatives in enumerate(problem.plan.options):
            rank = search.ranks.get(slot, 0)
            if problem.plan.slots[slot].claim == each.claim and alternatives[rank].wanted is each.wanted:
                yield slot, rank, problem.place.positions[each.device]
                break


class _BestSearch:
    """One search. Recursive: no deeper than the number of devices asked for."""

    def __init__(self, problem: Problem, budget: int) -> None:
        self.best: Found | None = None
        self.steps = 0
        self._budget = budget
        self._plan = problem.plan
        self._ledger = open_ledger(problem.plan, problem.books)
        self._tally = Tally(problem.standing, problem.policies, problem.companions)
        self._frame = problem.frame
        self._layout = problem.place.layout
        self._positions = problem.place.positions
        self._ranks: list[int] = []
        self._picks: list[Pick] = []
        self._least = self._find_least()

    @property
    def is_cut(self) -> bool:
        """True if the budget is used up."""
        return self.steps >= self._budget

    def run(self) -> None:
        """Search."""
        self._enter(0)

    def _find_least(self) -> list[Cost]:
        """Return for every slot the least that it and all later ones cost."""
        least = [Cost()]
        for alternatives, ones in zip(reversed(self._plan.options), reversed(self._frame.least), strict=True):
            costs = [one.times(options.count) for options, one in zip(alternatives, ones, strict=True)]
            least.append(least[-1].plus(Cost(*map(min, zip(*costs, strict=True)))))
        return least[::-1]

    def _is_worse(self, least: Cost) -> bool:
        """Say whether what is chosen so far and the least that follows cannot be better than the best set known."""
        if self.best is None:
            return False
        return (tuple(self._ranks), self._tally.cost.plus(least)) >= self.best.key

    def _enter(self, slot: int) -> None:
        """Go on with a request; at the end, keep what was found if it is better."""
        if slot == len(self._plan.slots):
            self._finish()
            return
        is_list = self._plan.slots[slot].is_list
        for rank, options in enumerate(self._plan.options[slot]):
            if is_list:
                self._ranks.append(rank)
            if not self._is_worse(self._least[slot + 1]):
                self._choose(slot, rank, options)
            if is_list:
                self._ranks.pop()

    def _finish(self) -> None:
        key = (tuple(self._ranks), self._tally.finish())
        if self.best is None or key < self.best.key:
            self.best = Found(*key, tuple(sorted(self._picks)))

    def _choose(self, slot: int, rank: int, options: Options) -> None:
        """Choose the devices of one alternative."""
        claim = self._plan.slots[slot].claim
        if self._ledger.counts[claim] + options.count > MAX_RESULTS:
            return
        if options.wanted.is_all:
            self._choose_all(slot, rank, options)
        elif options.count <= 0:
            self._enter(slot + 1)
        else:
            arranged = self._arrange(claim, options)
            is_last = slot == len(self._plan.slots) - 1 and options.count == 1 and self._frame.is_plain
            choice = _Choice(slot, rank, options, arranged, self._frame.least[slot][rank], is_last)
            self._choose_next(choice, 0, options.count)

    def _choose_all(self, slot: int, rank: int, options: Options) -> None:
        taken = 0
        for device in options.devices:
            if not self._take(slot, rank, options, device):
                break
            taken += 1
        if options.devices and taken == len(options.devices):
            self._enter(slot + 1)
        for _ in range(taken):
            self._give_back()

    def _choose_next(self, choice: _Choice, start: int, missing: int) -> None:
        """Choose the devices of a request that are still missing, one after the other, in the order of `choice`."""
        if not missing:
            self._enter(choice.slot + 1)
            return
        tried: set[object] = set()
        least = self._least[choice.slot + 1]
        if missing > 1:
            least = least.plus(choice.least.times(missing - 1))
        for index in range(start, len(choice.devices) - missing + 1):
            device = choice.devices[index]
            alike = self._frame.find_class(self._positions[device], self._tally.standing)
            if alike in tried or self.is_cut:
                continue
            tried.add(alike)
            if not self._take(choice.slot, choice.rank, choice.options, device):
                continue
            if not self._is_worse(least):
                self._choose_next(choice, index + 1, missing - 1)
            self._give_back()
            if choice.is_last:
                return  # the others are no cheaper

    def _take(self, slot: int, rank: int, options: Options, device: Device) -> bool:
        self.steps += 1
        try:
            refusal = self._ledger.take(self._plan.slots[slot].claim, options.wanted, device, 1)
        except InvalidClaim:
            return False  # if nothing else is found, first-fit has the last word
        if refusal is not None:
            return False
        position = self._positions[device]
        self._tally.push(self._ledger.taken[-1], position)
        self._picks.append((slot, rank, position))
        return True

    def _give_back(self) -> None:
        self._picks.pop()
        self._tally.pop()
        self._ledger.give_back()

    def _arrange(self, claim: int, options: Options) -> list[Device]:
        """Return the candidates that are free, the cheapest first; of those that are alike as many as may be needed."""
        prices: dict[object, tuple[int, ...] | None] = {}
        found: list[tuple[tuple[int, ...], int, Device]] = []
        for device in options.devices:
            if device in options.faults:
                continue
            position = self._positions[device]
            alike = self._frame.find_class(position, self._tally.standing)
            if alike not in prices:
                prices[alike] = self._price(position, claim, options, device)
            elif options.count == 1:
                continue
            price = prices[alike]
            if price is not None:
                found.append((price, position, device))
        found.sort(key=lambda each: each[:2])
        return [device for _, _, device in found]

    def _price(self, position: int, claim: int, options: Options, device: Device) -> tuple[int, ...] | None:
        """Return by what a candidate is ordered; None if it is not free. Neighbours come one after the other."""
        facts, tally = self._layout.facts[position], self._tally
        if facts.shares is None and not options.wanted.admin_access and not tally.is_free(position):
            return None
        amounts = candidates.amounts(device, options.wanted.shape) if device.is_shareable else None
        price = tally.price(position, claim, amounts)
        if self._frame.has_pairs and facts.roots:
            price = price._replace(unpaired=int(not tally.is_paired(position)))
        return *price, facts.domain, facts.numa


@dataclass(frozen=True, slots=True)
class _Choice:
    """What is chosen from: the candidates of one alternative in the order in which they are tried."""

    slot: int
    rank: int
    options: Options
    devices: list[Device]
    least: Cost
    """The least that each of them costs."""
    is_last: bool
    """Only one device is missing to all claims, and what it costs is known: the first that can be had is the best."""
