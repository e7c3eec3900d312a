"""What all nodes offer for claims of one shape. Called by `cluster`, which keeps one survey a shape.

Two nodes with the same hardware, of which the same is taken and the same may be had, are evaluated once.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from driver.core.allocator import best, choosing, spots
from driver.core.allocator.best import Found
from driver.core.allocator.boards import Board, Offer, Rank
from driver.core.allocator.choosing import Question
from driver.core.allocator.contents import Contents
from driver.core.allocator.frames import Frame
from driver.core.allocator.layouts import Layout
from driver.core.allocator.outcomes import InvalidClaim
from driver.core.allocator.snapshots import Books
from driver.core.allocator.spots import Node
from driver.core.allocator.standings import Key
from driver.core.allocator.tallies import Companion
from driver.model.policies import Policy, Spreading

MAX_KNOWN: Final = 1 << 15
"""Evaluations remembered for one shape; then all are forgotten."""
EFFORT: Final = 50_000
"""Devices tried for one choice before nodes are evaluated in a hurry."""
HURRY: Final = 64
"""Devices tried on a node that is evaluated in a hurry."""
_PACKED_PARTS: Final = 6
"""Parts of the cost that come before the node when nodes are spread: all but which of equal devices are taken."""


Where = tuple[Collection[str] | None, Collection[str]]
"""The nodes that may be chosen (None: all), and those of them that may not."""


@dataclass(frozen=True, slots=True)
class _Evaluation:
    """What a node offers, without names."""

    found: Found | None
    rank: Rank = ()
    is_invalid: bool = False


class Survey:
    """Offers of nodes. Whoever changes a node says so with `forget`."""

    def __init__(self, nodes: Collection[str], contents: Contents) -> None:
        self._contents = contents
        self._board = Board(nodes)
        self._candidates: dict[str, int] = {}
        """What claims of this shape may get on each node, as a number."""
        self._numbers: dict[Hashable, int] = {}
        self._known: dict[tuple[Layout, Key, int], _Evaluation] = {}
        self._frames: dict[tuple[Layout, int] | None, Frame] = {}
        self._effort = 0

    def forget(self, node: str, *, with_devices: bool = False) -> None:
        """Something was taken of a node or given back; or, `with_devices`, it is another node now or gone."""
        self._board.stale.add(node)
        if with_devices:
            self._candidates.pop(node, None)

    def find_best(self, question: Question, books: Books, nodes: Mapping[str, Node], where: Where) -> Offer | None:
        """Return the best offer of the nodes that `where` allows: those among the first and not among the second.

        Raises `InvalidClaim` if there is none and an allowed node says that the claims are wrong in themselves.
        """
        self._effort = 0
        for name in sorted(self._board.stale):
            self._ask(question, books, nodes.get(name), name)
        self._board.stale.clear()
        offer = self._board.find_best(*where)
        if offer is None:
            self._meet_invalid(question, books, nodes, where)
        return offer

    def _meet_invalid(self, question: Question, books: Books, nodes: Mapping[str, Node], where: Where) -> None:
        allowed, avoided = where
        for name in sorted(self._board.invalid):
            if (allowed is None or name in allowed) and name not in avoided:
                best.find_best(choosing.pose(books, nodes[name].find_spot(question.scope).place, question))

    def _ask(self, question: Question, books: Books, node: Node | None, name: str) -> None:
        if node is None:
            self._board.withdraw(name)
            return
        spot = node.find_spot(question.scope)
        number = self._candidates.get(name)
        if number is None:
            candidates = spots.find_candidates(spot.place, question.claims, self._contents)
            number = self._candidates[name] = self._numbers.setdefault(candidates, len(self._numbers))
        key = (spot.place.layout, spot.find_key(books.usage), number)
        evaluation = self._known.get(key)
        if evaluation is None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
                self._frames.clear()
            evaluation = self._known[key] = self._evaluate(question, books, node)
        self._board.put(name, evaluation.found, evaluation.rank, is_invalid=evaluation.is_invalid)

    def ask_alone(self, question: Question, books: Books, node: Node, companions: Sequence[Companion]) -> None:
        """Ask a node beside devices of its own that the pod has, and remember nothing but its offer."""
        evaluation = self._evaluate(question, books, node, companions)
        self._board.put(node.view.name, evaluation.found, evaluation.rank, is_invalid=evaluation.is_invalid)

    def _evaluate(
        self, question: Question, books: Books, node: Node, companions: Sequence[Companion] = ()
    ) -> _Evaluation:
        """Search a node."""
        place = node.find_spot(question.scope).place
        spots.keep_candidates(place, question.claims, self._contents)
        number = self._candidates.get(node.view.name)
        key = None if companions or number is None else (place.layout, number)
        try:
            problem = choosing.pose(books, place, question, companions, self._frames.get(key))
            left = problem.standing.left
            found = best.find_best(problem, best.BUDGET if self._effort < EFFORT else HURRY)
        except InvalidClaim:
            return _Evaluation(None, is_invalid=True)
        if key is not None:
            self._frames[key] = problem.frame
        self._effort += problem.steps
        return _Evaluation(found) if found is None else _Evaluation(found, _rank(found, left, question.policies))


def _rank(found: Found, left: tuple[int, int], policies: Sequence[Policy]) -> Rank:
    """Return by what nodes are compared: the claim's devices, then how much the node has left."""
    if any(each.placement is Spreading.SPREAD for each in policies):
        cost = found.cost
        return found.ranks, cost[:_PACKED_PARTS], tuple(-each for each in left), cost[_PACKED_PARTS:]
    return found.ranks, found.cost, left
