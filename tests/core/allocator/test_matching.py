"""Everybody gets something of its own, or a crowd is named that wants too little."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from driver.core.allocator.matching import find_crowd


def test_nobody_wants_anything() -> None:
    assert find_crowd([]) == []


def test_somebody_who_wants_nothing_is_a_crowd() -> None:
    assert find_crowd([{"a"}, set[str]()]) == [1]


def test_an_early_one_gives_way_to_a_late_one() -> None:
    assert find_crowd([{"a", "b"}, {"a"}]) == []
    assert find_crowd([{"a", "b"}, {"a", "c"}, {"a"}]) == []


def test_three_who_want_two_things_are_a_crowd_and_the_fourth_is_not() -> None:
    assert sorted(find_crowd([{"a", "b"}, {"c"}, {"a", "b"}, {"a", "b"}])) == [0, 2, 3]


@given(st.lists(st.sets(st.integers(0, 4)), max_size=5))
def test_it_agrees_with_trying_everything(wishes: list[set[int]]) -> None:
    can_all = any(len(set(choice)) == len(wishes) for choice in product(*wishes))
    crowd = find_crowd(wishes)
    assert (crowd == []) == can_all
    if crowd:
        assert len(set().union(*(wishes[each] for each in crowd))) < len(crowd)
