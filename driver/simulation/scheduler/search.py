"""The search: claims, requests, devices, depth first; the first complete answer wins.

Called by the scheduler, once a node and pod. Pure: objects in, devices or a reason out. Order and rules are those of
the structured allocator: claims, requests, subrequests, then pools, slices, devices. Shared devices (consumable
capacity) are not built here: every device is taken whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from driver.model.quantities import Quantity
from driver.simulation.objects import Node
from driver.simulation.resources import Claim, DeviceClass, DeviceRequest, Slice
from driver.simulation.resources import Request as DevicesRequest
from driver.simulation.scheduler import pools
from driver.simulation.scheduler.pools import Candidate, CounterId, DeviceId
from driver.simulation.scheduler.selecting import ConstraintState, Request, SchedulingError

MAX_RESULTS: Final = 32
"""Devices of one claim (AllocationResultsMaxSize)."""
_ALTERNATIVES: Final = 8
"""Subrequests of one request (FirstAvailableDeviceRequestMaxSize); an earlier one scores more."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One device given to one request."""

    request: Request
    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Answer:
    """Devices for all claims on one node; or none, and the reason."""

    taken: tuple[Taken, ...] = ()
    reason: str = ""
    score: int = 0
    """Sum over requests with alternatives; an early alternative counts more."""


@dataclass(frozen=True, slots=True)
class World:
    """What the search looks at: one consistent view of the cluster."""

    slices: Sequence[Slice]
    classes: Mapping[str, DeviceClass]
    allocated: frozenset[DeviceId]


def allocate(claims: Sequence[Claim], node: Node, world: World) -> Answer:
    """Find devices on a node for claims that belong together. Raises `SchedulingError` if no node can help."""
    slots = [
        _find_alternatives(claim, name, world.classes)
        for claim in claims
        for name in (request.name for request in claim.spec.devices.requests)
    ]
    for claim in claims:
        _check(claim)
    search = _Search(_Stock(world, node), slots)
    search.constrain(claims)
    if search.fill(0):
        return Answer(tuple(search.taken), score=sum(search.scores))
    return Answer(reason=search.explain())


def _find_alternatives(claim: Claim, name: str, classes: Mapping[str, DeviceClass]) -> list[Request]:
    request = next(each for each in claim.spec.devices.requests if each.name == name)
    if request.exactly is not None:
        return [_make_request(claim, name, request.exactly, classes)]
    return [_make_request(claim, f"{name}/{sub.name}", sub, classes) for sub in request.first_available]


def _make_request(claim: Claim, name: str, wanted: DeviceRequest, classes: Mapping[str, DeviceClass]) -> Request:
    device_class = classes.get(wanted.device_class_name)
    if device_class is None:
        raise SchedulingError(f"request {name}: device class {wanted.device_class_name} does not exist")
    if wanted.allocation_mode not in ("ExactCount", "All"):
        raise SchedulingError(f"claim {claim}, request {name}: unsupported count mode {wanted.allocation_mode}")
    return Request(claim, name, wanted, device_class)


def _check(claim: Claim) -> None:
    for index, constraint in enumerate(claim.spec.devices.constraints):
        if not constraint.match_attribute and not constraint.distinct_attribute:
            raise SchedulingError(
                f"claim {claim}, constraint #{index}: empty constraint (unsupported constraint type?)"
            )
    least = sum(_least(request) for request in claim.spec.devices.requests)
    if least > MAX_RESULTS:
        raise SchedulingError(f"claim {claim}: number of requested devices {least} exceeds the claim limit of 32")


def _least(request: DevicesRequest) -> int:
    if request.exactly is not None:
        return request.exactly.count
    return min((sub.count for sub in request.first_available), default=0)


class _Stock:
    """The devices of one node and what is left of them during a search."""

    def __init__(self, world: World, node: Node) -> None:
        found = pools.gather(world.slices, node)
        self.allocated = world.allocated
        self.problem = next((f"{pool.driver}/{pool.name} is {pool.problem}" for pool in found if pool.problem), "")
        self.candidates = [candidate for pool in found if not pool.problem for candidate in pool.candidates]
        self.in_use: set[DeviceId] = set()
        self._free: dict[tuple[str, str], dict[CounterId, Quantity]] = {}
        for pool in found:
            self._free[pool.driver, pool.name] = dict(pool.counters)
            for candidate in (*pool.candidates, *pool.elsewhere):
                if candidate.id in world.allocated and not pool.problem:
                    self._draw(candidate, returned=False)

    def take(self, candidate: Candidate) -> bool:
        """Take a device and its counters, or return False if a counter does not suffice."""
        self._draw(candidate, returned=False)
        if any(amount.nanos < 0 for amount in self._free[candidate.driver, candidate.pool].values()):
            self._draw(candidate, returned=True)
            return False
        self.in_use.add(candidate.id)
        return True

    def give_back(self, candidate: Candidate) -> None:
        """Undo `take`."""
        self.in_use.discard(candidate.id)
        self._draw(candidate, returned=True)

    def _draw(self, candidate: Candidate, *, returned: bool) -> None:
        free = self._free[candidate.driver, candidate.pool]
        for counter, amount in pools.consumption(candidate.device):
            free[counter] = free[counter] + amount if returned else free[counter] - amount


@dataclass(slots=True)
class _Search:
    """The state of one depth-first search; every change is undone on the way back."""

    stock: _Stock
    slots: list[list[Request]]
    """Requests to fill, each with its alternatives."""
    taken: list[Taken] = field(default_factory=list)
    scores: list[int] = field(default_factory=list)
    _constraints: dict[str, list[ConstraintState]] = field(default_factory=dict)
    _deepest: int = 0

    def constrain(self, claims: Sequence[Claim]) -> None:
        """Keep the constraints of these claims from now on."""
        for claim in claims:
            states = [ConstraintState(each) for each in claim.spec.devices.constraints]
            self._constraints[claim.metadata.uid] = states

    def fill(self, index: int) -> bool:
        """Fill the requests from this one on."""
        if index == len(self.slots):
            return True
        self._deepest = max(self._deepest, index)
        alternatives = self.slots[index]
        for rank, request in enumerate(alternatives):
            self.scores.append(_ALTERNATIVES - rank if "/" in request.name else 0)
            if self._fill_request(index, request):
                return True
            self.scores.pop()
        return False

    def _fill_request(self, index: int, request: Request) -> bool:
        if request.wanted.allocation_mode == "ExactCount":
            if self._count_results(request) + request.wanted.count > MAX_RESULTS:
                return False
            return self._take_some(index, request, request.wanted.count, 0)
        if self.stock.problem:
            raise SchedulingError(f"{request}: asks for all devices, but resource pool {self.stock.problem}")
        wanted = [candidate for candidate in self.stock.candidates if request.selects(candidate)]
        return bool(wanted) and self._take_all(index, request, wanted)

    def _take_some(self, index: int, request: Request, missing: int, start: int) -> bool:
        if missing == 0:
            return self.fill(index + 1)
        for position in range(start, len(self.stock.candidates)):
            if self._take(request, self.stock.candidates[position]):
                if self._take_some(index, request, missing - 1, position + 1):
                    return True
                self._give_back()
        return False

    def _take_all(self, index: int, request: Request, wanted: list[Candidate]) -> bool:
        before = len(self.taken)
        if all(self._take(request, candidate) for candidate in wanted) and self.fill(index + 1):
            return True
        while len(self.taken) > before:
            self._give_back()
        return False

    def _take(self, request: Request, candidate: Candidate) -> bool:
        if self._is_used(request, candidate) or not request.selects(candidate):
            return False
        if self._count_results(request) == MAX_RESULTS:
            return False
        if request.find_taint(candidate.device) is not None or not self.stock.take(candidate):
            return False
        if not self._satisfy_constraints(request, candidate):
            self.stock.give_back(candidate)
            if request.wanted.allocation_mode == "All":
                device = "/".join(candidate.id)
                reason = f"cannot add device {device} because a claim constraint would not be satisfied"
                raise SchedulingError(f"{request}: {reason}")
            return False
        self.taken.append(Taken(request, candidate))
        return True

    def _count_results(self, request: Request) -> int:
        return sum(each.request.claim is request.claim for each in self.taken)

    def _is_used(self, request: Request, candidate: Candidate) -> bool:
        if request.wanted.admin_access:
            claim = request.claim.metadata.uid
            return any(
                each.candidate.id == candidate.id and each.request.claim.metadata.uid == claim for each in self.taken
            )
        return candidate.id in self.stock.allocated or candidate.id in self.stock.in_use

    def _satisfy_constraints(self, request: Request, candidate: Candidate) -> bool:
        added: list[ConstraintState] = []
        for state in self._concerned(request):
            if not state.add(candidate):
                for each in added:
                    each.remove()
                return False
            added.append(state)
        return True

    def _give_back(self) -> None:
        taken = self.taken.pop()
        self.stock.give_back(taken.candidate)
        for state in self._concerned(taken.request):
            state.remove()

    def _concerned(self, request: Request) -> list[ConstraintState]:
        states = self._constraints[request.claim.metadata.uid]
        return [state for state in states if state.concerns(request.name)]

    def explain(self) -> str:
        """Say in one sentence why the request that got furthest could not be filled."""
        if not self.slots:
            return ""
        try:
            return ", or ".join(self._explain_request(request) for request in self.slots[self._deepest])
        except SchedulingError as error:
            return str(error)  # from a device that the search itself had no reason to look at

    def _explain_request(self, request: Request) -> str:
        candidates = self.stock.candidates
        matching = [candidate for candidate in candidates if request.selects(candidate)]
        free = [candidate for candidate in matching if candidate.id not in self.stock.allocated]
        usable = [candidate for candidate in free if request.find_taint(candidate.device) is None]
        count = len(matching) if request.wanted.allocation_mode == "All" else request.wanted.count
        facts = [f"request {request.name} needs {count} of {len(candidates)} devices"]
        facts.append(f"{len(matching)} match its selectors")
        if len(free) < len(matching):
            facts.append(f"{len(matching) - len(free)} of them are allocated")
        if len(usable) < len(free):
            facts.append(f"{len(free) - len(usable)} are tainted")
        if count and len(usable) >= count:
            rules = " and ".join(str(state) for state in self._concerned(request)) or "all requests"
            facts.append(f"no {count} of the {len(usable)} usable ones satisfy {rules}")
        return ", ".join(facts)
