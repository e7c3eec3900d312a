"""`best-fit` finds the optimum: compared with every feasible set of small nodes, scored by an objective of its own."""

from __future__ import annotations

from hypothesis import assume, given, settings

from driver.core.allocator.best import find_best
from driver.core.allocator.choosing import make_question, pose
from driver.core.allocator.outcomes import InvalidClaim
from driver.core.allocator.standings import Place
from tests.fakes import neighbourhoods, objectives
from tests.fakes.neighbourhoods import NODE, Problem

EXAMPLES = settings(max_examples=100, deadline=None)
UNBOUNDED = 1_000_000
MOST = 3000


def find(problem: Problem, budget: int = UNBOUNDED) -> objectives.Score | None:
    snapshot = problem.snapshot
    question = make_question(problem.claims, problem.policies, snapshot.classes)
    found = find_best(pose(snapshot, Place(snapshot.pools.gather(NODE)), question), budget)
    return None if found is None else (found.ranks, tuple(found.cost))


@EXAMPLES
@given(neighbourhoods.problems())
def test_no_feasible_set_is_better(problem: Problem) -> None:
    asked = (problem.snapshot, NODE, problem.claims, problem.policies)
    try:
        assume(objectives.count_choices(*asked) <= MOST)
    except InvalidClaim:
        return
    judge = objectives.Judge(problem.snapshot, NODE, problem.policies)
    answers = objectives.list_answers(*asked)
    best = min(map(judge.score, answers), default=None)
    try:
        assert find(problem) == best
    except InvalidClaim:
        assert best is None
