"""Operators and equality, type by type."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.core import cel
from driver.core.cel import operators, values
from driver.core.cel.errors import EvaluationError
from driver.core.cel.times import SECOND, Timestamp
from driver.core.cel.values import MAX_INT, MAX_UINT, MIN_INT, Uint

INTS = st.integers(MIN_INT, MAX_INT)
UINTS = st.integers(0, MAX_UINT).map(Uint)
SCALARS = st.one_of(
    INTS, UINTS, st.booleans(), st.text(max_size=3), st.floats(allow_nan=False), st.none(), st.binary(max_size=3)
)


def timestamp(seconds: int) -> Timestamp:
    return Timestamp(seconds * SECOND)


KEYS = st.one_of(INTS, UINTS, st.booleans(), st.text(max_size=3))


@given(SCALARS, SCALARS)
def test_equality_is_symmetric_and_never_mixes_kinds(left: object, right: object) -> None:
    same = values.equal(left, right)
    assert same == values.equal(right, left)
    kinds = {values.kind_of(left), values.kind_of(right)}
    assert not (same and len(kinds) > 1 and not kinds <= values.NUMBERS)


@given(st.lists(SCALARS, max_size=4))
def test_lists_and_maps_equal_themselves(items: list[object]) -> None:
    assert values.equal(items, tuple(items))
    mapping = {values.key_of(index): item for index, item in enumerate(items)}
    assert values.equal(mapping, dict(reversed(mapping.items())))
    assert not values.equal(items, [*items, 1])


@given(KEYS, KEYS)
def test_map_keys_are_equal_exactly_when_values_are(left: object, right: object) -> None:
    mapping = {values.key_of(left): "found"}
    assert values.find(mapping, right).present == values.equal(left, right)
    assert operators.contained(right, mapping) == values.equal(left, right)
    assert values.keys(mapping) == [left]


@given(INTS, INTS)
def test_integers_compute_exactly_or_overflow(left: int, right: int) -> None:
    for sign, expected in (("_+_", left + right), ("_-_", left - right), ("_*_", left * right)):
        if MIN_INT <= expected <= MAX_INT:
            assert operators.BINARY[sign](left, right) == expected
        else:
            with pytest.raises(EvaluationError, match="integer overflow"):
                operators.BINARY[sign](left, right)


@given(INTS, INTS.filter(bool))
def test_division_and_remainder_fit_together(left: int, right: int) -> None:
    if (left, right) == (MIN_INT, -1):
        with pytest.raises(EvaluationError, match="integer overflow"):
            operators.divide(left, right)
        return
    quotient, remainder = operators.divide(left, right), operators.remainder(left, right)
    assert isinstance(quotient, int)
    assert isinstance(remainder, int)
    assert quotient * right + remainder == left
    assert abs(remainder) < abs(right)
    assert remainder == 0 or (remainder < 0) == (left < 0)


@given(st.one_of(INTS, UINTS, st.floats()), st.one_of(INTS, UINTS, st.floats()))
def test_numbers_of_all_types_are_ordered(left: float, right: float) -> None:
    if math.isnan(left) or math.isnan(right):
        with pytest.raises(EvaluationError, match="NaN values cannot be ordered"):
            operators.BINARY["_<_"](left, right)
        return
    verdicts = [operators.BINARY[sign](left, right) for sign in ("_<_", "_==_", "_>_")]
    assert sum(verdict is True for verdict in verdicts) == 1


@pytest.mark.parametrize("sign", ["_+_", "_-_", "_*_", "_/_", "_%_", "_<_", "_<=_", "_>_", "_>=_"])
def test_mixed_kinds_are_refused(sign: str) -> None:
    samples = [1, "a", b"a", True, None, [1], {"a": 1}]
    for left, right in itertools.permutations(samples, 2):
        with pytest.raises(EvaluationError, match="no such overload"):
            operators.BINARY[sign](left, right)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("1.0 / 0.0", math.inf),
        ("-1.0 / 0.0", -math.inf),
        ("-5 / 2", -2),
        ("7u / 2u", Uint(3)),
        ("7u % 4u", Uint(3)),
        ("b'a' + b'b'", b"ab"),
        ("[1] + [2]", [1, 2]),
        ("- -1", 1),
        ("-(-1.5)", 1.5),
        ("!!true", True),
        ("'b' > 'a' && b'b' > b'a' && true > false", True),
        ("2 in {1: 'a', 2: 'b'}", True),
        ("dyn(2.0) in [1, 2]", True),
        ("dyn([1]) in [1, 2] || 1 / 0 in []", False),
        ("[1] in [[1]]", True),
        ("dyn({'a': [{'b': 2.0}]}) == {'a': [{'b': 2}]}", True),
        ("dyn(9007199254740993) == 9007199254740992.0", True),
        ("dyn(18446744073709551615u) == 18446744073709551616.0", True),
        ("duration('1h') + duration('30m') == duration('5400s')", True),
        ("-dyn(duration('1s')) < duration('0s')", True),
        ("timestamp(0) + duration('1s') > timestamp(0) && duration('1s') + timestamp(0) == timestamp(1)", True),
        ("timestamp(1) - timestamp(0) == duration('1s') && timestamp(1) - duration('1s') == timestamp(0)", True),
        ("duration('3s') - duration('1s') == duration('2s')", True),
        ("[[1, 2], [3]] == [[1, 2], [3]] && [1] != [2]", True),
        ("quantity('1') != dyn('1')", True),
        ("[quantity('1')] == [dyn(1)]", True),
        ("dyn('1') == quantity('1')", False),
        ("null == null && dyn(1) != null", True),
        ("optional.of(1) == optional.of(1) && optional.of(1) != optional.none()", True),
    ],
)
def test_operators(expression: str, expected: object) -> None:
    value = cel.compile(expression).evaluate({})
    assert (value, type(value)) == (expected, type(expected))


def test_zero_by_zero_is_not_a_number() -> None:
    assert cel.compile("(0.0 / 0.0) == (0.0 / 0.0)").evaluate({}) is False
    with pytest.raises(EvaluationError, match="NaN"):
        cel.compile("0.0 / 0.0 < 1.0").evaluate({})


@pytest.mark.parametrize(
    ("expression", "given", "reason"),
    [
        ("object % 0", 1, "modulus by zero"),
        ("object / 0u", Uint(1), "division by zero"),
        ("object % object", 1.0, "no such overload"),
        ("object % -1", MIN_INT, "integer overflow"),
        ("object / -1", MIN_INT, "integer overflow"),
        ("-object", MIN_INT, "integer overflow"),
        ("-object", "a", "no such overload"),
        ("!object", 1, "no such overload"),
        ("1 in object", 2, "no such overload"),
        ("object ? 2 : 3", 1, "no such overload"),
        ("object[1.5] + 'a'", {1.5: 1}, "no such overload"),
        ("object['a']", [1], "unsupported index type"),
        ("object[0.5]", [1], "unsupported index type"),
        ("object[object]", {}, "invalid qualifier type"),
        ("object.x", 1.5, "no such key: x"),
        ("object + duration('1s')", 1, "no such overload"),
        ("timestamp(0) + object", timestamp(0), "no such overload"),
        ("object - duration('1s')", timestamp(-62135596800), "timestamp overflow"),
        ("[object] + [1 / 0]", 1, "division by zero"),
    ],
)
def test_what_operators_refuse(expression: str, given: object, reason: str) -> None:
    with pytest.raises(EvaluationError, match=reason):
        cel.compile(expression).evaluate({"object": given})


def test_a_ternary_binds_to_the_right() -> None:
    assert cel.compile("true ? 1 : false ? 3 : 4").evaluate({}) == 1
    assert cel.compile("false ? 1 : false ? 3 : 4").evaluate({}) == 4


@given(st.text(alphabet="()[]{}.,?:!-+*/%<>=&|in true1'\"\\ux \n", max_size=40))
def test_no_text_makes_anything_but_our_own_errors(text: str) -> None:
    try:
        cel.compile(text).evaluate({})
    except cel.CelError:
        return
