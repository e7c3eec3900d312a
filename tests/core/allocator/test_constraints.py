"""matchAttribute and distinctAttribute, value by value; with lists where they are understood."""

from __future__ import annotations

import pytest

from driver.core.allocator.constraints import Constraint
from driver.core.allocator.devices import Device
from driver.core.allocator.requests import Rule
from driver.model.published import Attribute, PublishedDevice
from driver.model.requests import Constraint as Source
from tests.fakes.clusters import DRIVER, make_slice

NAME = f"{DRIVER}/x"
ONE, TWO = Attribute(int_=1), Attribute(int_=2)
NOTHING = Attribute()


def device(attribute: Attribute | None, name: str = "x") -> Device:
    published = PublishedDevice(name="d", attributes={} if attribute is None else {name: attribute})
    return Device(published, make_slice([published]), ())


def tries(*attributes: Attribute | None, is_match: bool = True, lists: bool = False) -> list[int | None]:
    """Return what the constraint says to each device in turn; those it accepts stay."""
    constraint = Constraint(Rule(Source(), 0, NAME, is_match=is_match), with_lists=lists)
    return [constraint.add(device(each), 1 << position) for position, each in enumerate(attributes)]


def accepts(*attributes: Attribute | None, is_match: bool = True, lists: bool = False) -> list[bool]:
    return [each is None for each in tries(*attributes, is_match=is_match, lists=lists)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Attribute(int_=1), Attribute(int_=2)),
        (Attribute(string="a"), Attribute(string="b")),
        (Attribute(bool_=True), Attribute(bool_=False)),
        (Attribute(version="1.0.0"), Attribute(version="1.0.0+build")),
        (Attribute(int_=1), Attribute(bool_=True)),
        (Attribute(string="1.0.0"), Attribute(version="1.0.0")),
    ],
)
def test_values_of_every_type_and_never_across_types(one: Attribute, other: Attribute) -> None:
    assert accepts(one, one, other, one) == [True, True, False, True]
    assert accepts(one, other, one, is_match=False) == [True, True, False]


def test_a_device_without_the_attribute_is_refused_whatever_was_chosen() -> None:
    assert tries(None, ONE) == [0, None]
    assert tries(None, ONE, is_match=False) == [0, None]


def test_a_refusal_names_the_choices_that_cause_it() -> None:
    assert tries(ONE, ONE, TWO) == [None, None, 0b11]
    assert tries(ONE, TWO, ONE, is_match=False) == [None, None, 0b001]


def test_the_first_device_fixes_the_value_again_when_all_are_gone() -> None:
    constraint = Constraint(Rule(Source(), 0, NAME, is_match=True), with_lists=False)
    assert constraint.add(device(ONE), 1) is None
    constraint.remove()
    assert constraint.add(device(TWO), 1) is None
    assert constraint.add(device(ONE), 2) == 1


def test_distinct_remembers_every_device_of_a_request() -> None:
    """Upstream remembers only the last one of each request (its defect distinct-per-request)."""
    assert accepts(ONE, TWO, ONE, TWO, is_match=False) == [True, True, False, False]


def test_names_without_a_domain_are_in_the_drivers() -> None:
    constraint = Constraint(Rule(Source(), 0, NAME, is_match=True), with_lists=False)
    assert constraint.add(device(ONE, "x"), 1) is None
    assert constraint.add(device(ONE, NAME), 2) is None
    assert constraint.add(device(ONE, "other.example.com/x"), 4) == 0


def test_an_unknown_type_is_accepted_alone_and_matches_nothing() -> None:
    lists = Attribute(ints=(1,))
    for unknown in (NOTHING, lists):
        assert accepts(unknown, unknown, ONE) == [True, False, False]
        assert accepts(unknown, ONE, unknown, is_match=False) == [True, True, False]


def test_lists_match_while_they_have_something_in_common() -> None:
    ab, bc, ca = Attribute(strings=("a", "b")), Attribute(strings=("b", "c")), Attribute(strings=("c", "a"))
    assert accepts(ab, bc, ca, lists=True) == [True, True, False], "each two share a value, all three do not"
    assert accepts(ab, Attribute(string="b"), bc, lists=True) == [True, True, True], "a scalar is a list of one"
    assert accepts(Attribute(ints=(1,)), Attribute(strings=("1",)), lists=True) == [True, False]


def test_what_lists_have_in_common_is_as_before_when_the_last_one_is_taken_back() -> None:
    """Upstream does not restore it."""
    constraint = Constraint(Rule(Source(), 0, NAME, is_match=True), with_lists=True)
    assert constraint.add(device(Attribute(ints=(1, 2))), 1) is None
    assert constraint.add(device(Attribute(ints=(2, 3))), 2) is None
    constraint.remove()
    assert constraint.add(device(Attribute(ints=(1,))), 2) is None


def test_lists_differ_while_they_have_nothing_in_common() -> None:
    ab, bc, cd = Attribute(strings=("a", "b")), Attribute(strings=("b", "c")), Attribute(strings=("c", "d"))
    assert accepts(ab, cd, bc, is_match=False, lists=True) == [True, True, False]
    assert tries(ab, cd, bc, is_match=False, lists=True)[2] == 0b11


def test_where_lists_are_understood_an_attribute_without_value_is_refused() -> None:
    assert accepts(NOTHING, ONE, lists=True) == [False, True]
    assert accepts(Attribute(bools=(True,)), Attribute(versions=("1.0.0",)), is_match=False, lists=True) == [True, True]
