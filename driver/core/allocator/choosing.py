"""Allocate claims on a node by `best-fit`: the same steps as `allocating`, with another search.

Called by whoever knows the node, and by `cluster`, which finds it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from driver.core.allocator import best, candidates, results
from driver.core.allocator.allocating import find_message
from driver.core.allocator.best import Found, Problem
from driver.core.allocator.frames import Frame
from driver.core.allocator.nodes import NodeView
from driver.core.allocator.outcomes import Allocated, Unsatisfiable
from driver.core.allocator.plans import make_plan
from driver.core.allocator.requests import Classes, CompiledClaim, Slot, compile_claim
from driver.core.allocator.requirements import require
from driver.core.allocator.scopes import EVERYTHING, Scope
from driver.core.allocator.snapshots import Books, Snapshot
from driver.core.allocator.standings import Place, find_standing
from driver.core.allocator.tallies import Companion
from driver.core.allocator.tracking import Taken
from driver.model.policies import Policy
from driver.model.wanted import Claim


@dataclass(frozen=True, slots=True)
class Question:
    """Claims to be allocated together, compiled, with what their policies require."""

    claims: tuple[CompiledClaim, ...]
    policies: tuple[Policy, ...]
    """Of each claim."""
    scope: Scope = EVERYTHING

    @property
    def shape(self) -> Hashable:
        """Equal for questions that have the same answer but for names."""
        return tuple(claim.shape for claim in self.claims), self.policies, self.scope


def allocate_best(
    snapshot: Snapshot, node: NodeView, claims: Sequence[Claim], policies: Sequence[Policy], scope: Scope = EVERYTHING
) -> Allocated | Unsatisfiable:
    """Find the best devices on a node for claims that belong together; `policies` are those of each of them.

    Raises `InvalidClaim` if the claims cannot be allocated on any node.
    """
    question = make_question(claims, policies, snapshot.classes, scope)
    pools = snapshot.pools.gather(node)
    place = Place(scope.narrow(pools, node))
    problem = pose(snapshot, place, question)
    found = best.find_best(problem)
    if found is None:
        return Unsatisfiable(find_message(pools), problem.steps)
    return describe(found, place, question, node)


def make_question(
    claims: Sequence[Claim], policies: Sequence[Policy], classes: Classes, scope: Scope = EVERYTHING
) -> Question:
    """Compile claims. Raises `InvalidClaim`."""
    compiled = (compile_claim(claim, position, classes, scope.tolerations) for position, claim in enumerate(claims))
    required = (require(claim, policy) for claim, policy in zip(compiled, policies, strict=True))
    return Question(tuple(required), tuple(policies), scope)


def pose(
    books: Books, place: Place, question: Question, companions: Sequence[Companion] = (), frame: Frame | None = None
) -> Problem:
    """Return what is searched for on a node; `frame` is that of another node like this, if it is known.

    Raises `InvalidClaim` for claims that are wrong in themselves.
    """
    plan = make_plan(place.pools, question.claims, books.usage, books.evaluate)
    if frame is None:
        frame = Frame(question.claims, place, books.evaluate, with_roots=bool(companions))
    return Problem(plan, books, place, frame, find_standing(place, books.usage), question.policies, companions)


def describe(found: Found, place: Place, question: Question, node: NodeView) -> Allocated:
    """Return a set of devices as allocations. Raises `InvalidClaim`, see `results.describe`."""
    claims = question.claims
    slots = [slot for claim in claims for slot in claim.slots]
    chosen = _find_ranks(found, slots)
    taken: list[list[Taken]] = [[] for _ in claims]
    for slot, rank, position in found.picks:
        wanted, device = slots[slot].alternatives[rank], place.devices[position]
        consumed = candidates.amounts(device, wanted.shape) if device.is_shareable else None
        owner = slots[slot].claim
        taken[owner].append(Taken(owner, wanted, device, 0, consumed, took_counters=False, rules=()))
    allocations = []
    for claim, devices in zip(claims, taken, strict=True):
        ranks = [next(chosen) for _ in claim.slots]
        allocations.append(results.describe(claim, ranks, devices, node))
    return Allocated(tuple(allocations), found.ranks, found.steps)


def _find_ranks(found: Found, slots: Sequence[Slot]) -> Iterator[int]:
    """Yield for every slot the alternative that is taken; 0 where there is no list of them."""
    ranks = iter(found.ranks)
    return (next(ranks) if slot.is_list else 0 for slot in slots)
