"""The depth-first search: claims, requests, alternatives, devices; the first complete answer wins.

Called by `allocating`. It is upstream's search and finds what that finds, but it goes back further when it is stuck:
every refusal names the choices that cause it, and a choice that has no part in a failure is not tried in another way.
What is skipped so holds no answer. The stack is our own, so its depth does not depend on Python's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from driver.core.allocator.devices import Device
from driver.core.allocator.orders import CandidateOrder
from driver.core.allocator.outcomes import InvalidClaim
from driver.core.allocator.plans import Options, Plan, describe_fault
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


class Search:
    """One search on one node."""

    def __init__(self, plan: Plan, ledger: Ledger, order: CandidateOrder, *, is_thorough: bool = False) -> None:
        self.plan = plan
        self.ledger = ledger
        self.order = order
        self.steps = 0
        self.ranks: dict[int, int] = {}
        """For slots with alternatives: the one that is chosen."""
        self._stack: list[Choice] = []
        self._is_thorough = is_thorough or plan.has_faults
        """Skip nothing: what would be skipped may reach a device whose selector fails, which ends the search."""

    def run(self) -> bool:
        """Search. Raises `InvalidClaim` where a claim turns out to be one that no node can satisfy."""
        choice = self.open(0)
        while choice is not None:
            self._stack.append(choice)
            if not self._advance():
                return False
            choice = self._stack[-1].following()
        return True

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
        devices: Sequence[Device] = ()
        if self.ledger.counts[self.plan.slots[slot].claim] + options.count <= MAX_RESULTS:
            devices = self.order.arrange(options.wanted, options.devices, self.ledger)
        else:
            because |= self.alternatives_before(slot)
        return OneDevice(self, slot, options, devices, because)

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


class OneDevice:
    """Which device is the next one of a request: one after the other, in the order of the candidates."""

    def __init__(self, search: Search, slot: int, options: Options, devices: Sequence[Device], because: int) -> None:
        self.bit: int = search.next_bit
        self.causes = because
        self.slot = slot
        self._search = search
        self._options = options
        self._devices = devices
        self._because = because
        self._claim = search.plan.slots[slot].claim
        self._position = -1
        self._missing = options.count

    def advance(self) -> bool:
        """Try the candidates that are left."""
        ledger, wanted, faults = self._search.ledger, self._options.wanted, self._options.faults
        for position in range(self._position + 1, len(self._devices)):
            device = self._devices[position]
            if faults and device in faults:
                self._meet_fault(device)
            refusal = ledger.take(self._claim, wanted, device, self.bit)
            if refusal is None:
                self._position = position
                return True
            self.causes |= refusal
        return False

    def _meet_fault(self, device: Device) -> None:
        """A device that nothing holds and whose selector fails ends the search; one that is held is passed by."""
        wanted = self._options.wanted
        if self._search.ledger.is_held(self._claim, wanted, device) is None:
            claim = self._search.plan.claims[self._claim]
            raise InvalidClaim(describe_fault(claim, wanted, device, self._options.faults[device]))

    def undo(self) -> None:
        """Give the device back."""
        self._search.ledger.give_back()

    def following(self) -> Choice | None:
        """Choose the next device of the same request among the later candidates, or go on to the next request."""
        if self._missing == 1:
            return self._search.open(self.slot + 1)
        choice = OneDevice(self._search, self.slot, self._options, self._devices, self._because | self.bit)
        choice._position = self._position
        choice._missing = self._missing - 1
        return choice


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
