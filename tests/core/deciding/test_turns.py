"""Rounds that have no time for all units: everybody has a turn, and the first in line is the first in each pass."""

from __future__ import annotations

from collections.abc import Callable

from driver.core.deciding import rounds
from driver.core.deciding.world import Decision
from tests.core.deciding.test_rounds import Table
from tests.fakes.controlled import ask, make_claim, make_pod


def limit(units: int) -> Callable[[], bool]:
    left = iter([True] * units)
    return lambda: next(left, False)


def make_table(count: int, **devices: int) -> Table:
    table = Table(devices)
    for index in range(count):
        # No two ask for the same, so that each has to be looked at by itself.
        name, at = f"c{index}", f"2026-01-01T00:00:{index:02}Z"
        table.put(make_claim(name, 10 + index, at=at), make_pod(name, name, at=at))
    return table


def decide(table: Table, units: int) -> tuple[Decision, int]:
    before = table.stock.asked
    decision = rounds.decide(table.world, table.stock, table.memory, ask, table.now, limit(units))
    return decision, table.stock.asked - before


def waiting(decision: Decision) -> list[str]:
    return [each.claim.metadata.name for each in decision.waiting]


def test_a_round_without_time_is_followed_by_one_that_goes_on() -> None:
    table = make_table(5, a=1)
    decision, asked = decide(table, 2)
    assert (waiting(decision), asked, decision.again_in) == (["c0", "c1"], 2, 0.0)
    decision, asked = decide(table, 2)
    assert (waiting(decision), asked, decision.again_in) == (["c0", "c1", "c2", "c3"], 2, 0.0)
    decision, asked = decide(table, 2)
    assert (waiting(decision), asked, decision.again_in) == (["c0", "c1", "c2", "c3", "c4"], 1, None)


def test_after_a_pass_the_first_in_line_is_the_first_again_and_nobody_is_forgotten() -> None:
    table = make_table(5, a=1)
    for _ in range(3):
        decide(table, 2)
    table.stock.devices["a"] = [f"gpu-{index}" for index in range(10)]
    decision, asked = decide(table, 2)
    assert [grant.claim.metadata.name for bundle in decision.bundles for grant in bundle.grants] == ["c0"]
    assert (waiting(decision), asked) == (["c1", "c2", "c3", "c4"], 2)


def test_a_claim_that_comes_anew_has_its_place_in_the_line() -> None:
    table = make_table(5, a=1)
    decide(table, 2)
    table.put(make_claim("urgent"), make_pod("urgent", "urgent", priority=7))
    decision, _ = decide(table, 1)
    assert [bundle.name for bundle in decision.bundles] == ["pod team/urgent"]


def test_with_time_enough_everything_is_looked_at_in_every_round() -> None:
    table = make_table(5, a=1)
    assert [decide(table, 99)[1] for _ in range(2)] == [5, 5]
