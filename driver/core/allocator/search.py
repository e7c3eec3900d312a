"""The depth-first search: claims, requests, alternatives, devices; the first complete answer wins.

Called by `allocating`. It is upstream's search and finds what that finds, but it goes back further when it is stuck:
every refusal names the choices that cause it, and a choice that has no part in a failure is not tried in another way.
What is skipped so holds no answer. The stack is our own, so its depth does not depend on Python's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from driver.core.allocator import packing, twins
from driver.core.allocator.devices import Device
from driver.core.allocator.orders import CandidateOrder
from driver.core.allocator.plans import Options, Plan, SelectorFailed
from driver.core.allocator.reporting import SILENT, Reporter
from driver.core.allocator.requests import MAX_RESULTS
from driver.core.allocator.tracking import Ledger


class Choice(Protocol):
    """One decision of the search."""

    bit: int
    """Which decision it is, in sets of decisions."""
    causes: int
    """The decisions because of which its possibilities failed."""
    slot: int

    def advance(self) -> bool:
        """Try the next possibility that is not refused; False if there is none left."""
        ...

    def undo(self) -> None:
        """Take the current possibility back."""
        ...

    def following(self) -> Choice | None:
        """Return the next decision; None if everything is decided."""
        ...


class Outcome(Enum):
    """How a search ended."""

    FOUND = "found"
    NONE = "none"
    UNDECIDED = "undecided"


class Search:
    """One search on one node."""

    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        order: CandidateOrder,
        reporter: Reporter = SILENT,
        *,
        is_thorough: bool = False,
        looks_ahead: bool = False,
    ) -> None:
        self.plan = plan
        self.ledger = ledger
        self.order = order
        self.hear = None if reporter.is_silent else reporter.refused
        self.steps = 0
        self.is_found = False
        self.ranks: dict[int, int] = {}
        """For slots with alternatives: the one that is chosen."""
        self.firsts: dict[int, tuple[int, int]] = {}
        """For slots with devices: where the first one stands among the candidates, and the choice that took it."""
        self._stack: list[Choice] = []
        self._is_thorough = is_thorough
        """Skip nothing. Where the search may abort, what would be skipped may hold the reason to."""
        self._packing = packing.find(plan, ledger) if looks_ahead else None
        """Asked by a search that has turned out to be long."""
        self._twins = {} if is_thorough or not order.is_published_order else twins.find(plan)

    def run(self, limit: int) -> Outcome:
        """Search on, for at most so many steps. Raises `InvalidClaim` for a claim that no node can satisfy."""
        limit += self.steps
        if self.is_found:
            return Outcome.FOUND
        choice = self._stack[-1].following() if self._stack else self.open(0)
        while choice is not None:
            self._stack.append(choice)
            if not self._advance():
                return Outcome.NONE
            if self.steps >= limit:
                return Outcome.UNDECIDED
            choice = self._stack[-1].following()
        self.is_found = True
        return Outcome.FOUND

    def be_quick(self) -> None:
        """Skip from now on what holds no answer."""
        self._is_thorough = False

    def _advance(self) -> bool:
        """Move the last decision on; if it cannot, go back to the last one that has a part in that."""
        while self._stack:
            top = self._stack[-1]
            if top.advance():
                self.steps += 1
                return True
            self._stack.pop()
            causes = top.causes
            while self._stack and not self._goes_on_at(self._stack[-1], causes):
                self._stack.pop()
        return False

    def _goes_on_at(self, choice: Choice, causes: int) -> bool:
        choice.undo()
        if not (self._is_thorough or causes & choice.bit):
            return False
        choice.causes |= causes & ~choice.bit
        return True

    def open(self, slot: int) -> Choice | None:
        """Return the first decision about a slot, or about the next one that needs one."""
        slots = self.plan.slots
        if self._packing is not None and slot < len(slots) and not self._packing.fits(slot):
            return OneDevice(self, slot, self.plan.options[slot][0], (), self.next_bit - 1)
        while slot < len(slots) and not slots[slot].is_list:
            choice = self.enter(slot, 0, 0)
            if choice is not None:
                return choice
            slot += 1
        return Alternatives(self, slot, self.next_bit) if slot < len(slots) else None

    def enter(self, slot: int, rank: int, because: int) -> Choice | None:
        """Return the first decision about the devices of one alternative; None if it asks for none."""
        options = self.plan.options[slot][rank]
        if options.wanted.is_all:
            return AllDevices(self, slot, options, because)
        if options.count <= 0:
            return None
        if self.ledger.counts[self.plan.slots[slot].claim] + options.count > MAX_RESULTS:
            return OneDevice(self, slot, options, (), because | self.alternatives_before(slot))
        devices = self.order.arrange(options.wanted, options.devices, self.ledger)
        start, bit = self._start(slot, options)
        return OneDevice(self, slot, options, devices, because | bit, start)

    def _start(self, slot: int, options: Options) -> tuple[int, int]:
        """Return the first candidate to try, and the choice because of which it is not the very first.

        Of two requests that ask for the same, the second one takes later devices: the other way round is the same.
        """
        first = self.firsts.get(self._twins.get(slot, -1))
        if first is None:
            return 0, 0
        position, bit = first
        may_repeat = options.wanted.admin_access or options.devices[position].is_shareable
        return position + (0 if may_repeat else 1), bit

    @property
    def next_bit(self) -> int:
        """The bit of a decision that is made now."""
        return 1 << len(self._stack)

    def alternatives_before(self, slot: int) -> int:
        """Return the choices of alternatives in the same claim: only they decide how many devices it gets."""
        claim = self.plan.slots[slot].claim
        return sum(each.bit for each in self._stack if isinstance(each, Alternatives) and self._claim(each) == claim)

    def _claim(self, choice: Choice) -> int:
        return self.plan.slots[choice.slot].claim


class Alternatives:
    """Which alternative of a request is taken: the first that works out."""

    def __init__(self, search: Search, slot: int, bit: int) -> None:
        self.bit = bit
        self.causes = 0
        self.slot = slot
        self._search = search
        self._rank = -1

    def advance(self) -> bool:
        """Try the next alternative."""
        self._rank += 1
        if self._rank >= len(self._search.plan.options[self.slot]):
            return False
        self._search.ranks[self.slot] = self._rank
        return True

    def undo(self) -> None:
        """Nothing is held by an alternative itself."""

    def following(self) -> Choice | None:
        """Go on with its devices, or with the next slot if it asks for none."""
        return self._search.enter(self.slot, self._rank, self.bit) or self._search.open(self.slot + 1)


@dataclass(eq=False, slots=True)
class OneDevice:
    """Which device is the next one of a request: one after the other, in the order of the candidates."""

    search: Search
    slot: int
    options: Options
    devices: Sequence[Device]
    because: int
    """Choices that decided which candidates there are: they have a part in every failure here."""
    following_position: int = 0
    missing: int = 0
    """Devices that the request still needs; 0: all of them."""
    bit: int = field(init=False)
    causes: int = field(init=False)

    def __post_init__(self) -> None:
        self.bit = self.search.next_bit
        self.causes = self.because
        self.missing = self.missing or self.options.count

    def advance(self) -> bool:
        """Try the candidates that are left."""
        ledger, wanted, faults = self.search.ledger, self.options.wanted, self.options.faults
        claim = self.search.plan.slots[self.slot].claim
        for position in range(self.following_position, len(self.devices)):
            device = self.devices[position]
            if faults and device in faults:
                self._meet_fault(claim, device)
            refusal = ledger.take(claim, wanted, device, self.bit)
            if refusal is None:
                self._remember(position)
                return True
            self.causes |= refusal
            if self.search.hear is not None:
                self.search.hear(self.slot, device, ledger.refusal, ledger.refused_by)
        return False

    def _remember(self, position: int) -> None:
        self.following_position = position + 1
        if self.missing == self.options.count:
            self.search.firsts[self.slot] = (position, self.bit)

    def _meet_fault(self, claim: int, device: Device) -> None:
        """A device that nothing holds and whose selector fails ends the search; one that is held is passed by."""
        wanted = self.options.wanted
        if self.search.ledger.is_held(claim, wanted, device) is None:
            raise SelectorFailed(self.search.plan.claims[claim], wanted, device, self.options.faults[device])

    def undo(self) -> None:
        """Give the device back."""
        self.search.ledger.give_back()

    def following(self) -> Choice | None:
        """Choose the next device of the same request among the later candidates, or go on to the next request."""
        if self.missing == 1:
            return self.search.open(self.slot + 1)
        because, position = self.because | self.bit, self.following_position
        return OneDevice(self.search, self.slot, self.options, self.devices, because, position, self.missing - 1)


class AllDevices:
    """All devices that match, or none: there is nothing to choose."""

    def __init__(self, search: Search, slot: int, options: Options, because: int) -> None:
        self.bit: int = search.next_bit
        self.causes = because
        self.slot = slot
        self._search = search
        self._options = options
        self._claim = search.plan.slots[slot].claim
        self._is_tried = False

    def advance(self) -> bool:
        """Take them all."""
        if self._is_tried or not self._options.devices:
            return False
        self._is_tried = True
        ledger = self._search.ledger
        if ledger.counts[self._claim] + len(self._options.devices) > MAX_RESULTS:
            self.causes |= self._search.alternatives_before(self.slot)
            return False
        for done, device in enumerate(self._options.devices):
            refusal = ledger.take(self._claim, self._options.wanted, device, self.bit)
            if refusal is not None:
                self.causes |= refusal & ~self.bit
                if self._search.hear is not None:
                    self._search.hear(self.slot, device, ledger.refusal, ledger.refused_by)
                self._give_back(done)
                return False
        return True

    def undo(self) -> None:
        """Give them all back."""
        self._give_back(len(self._options.devices))

    def _give_back(self, count: int) -> None:
        for _ in range(count):
            self._search.ledger.give_back()

    def following(self) -> Choice | None:
        """Go on to the next request."""
        return self._search.open(self.slot + 1)
