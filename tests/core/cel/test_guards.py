"""Guarded selectors: false where the attribute is missing, unchanged elsewhere; errors that say what is missing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driver.core import cel
from driver.core.cel import MissingKey
from driver.model.published import Attribute, Capacity, PublishedDevice

WITH = PublishedDevice(
    name="a",
    attributes={"d/profile": Attribute(string="1g.10gb"), "d/in": Attribute(int_=1), "d/n": Attribute(int_=2)},
    capacity={"d/memory": Capacity("10Gi")},
)
WITHOUT = PublishedDevice(name="b", attributes={"d/n": Attribute(int_=2)})


def outcome(expression: str, device: PublishedDevice) -> object:
    try:
        return cel.matches(cel.compile_selector(expression), cel.view("d", device))
    except cel.EvaluationError as error:
        return str(error)


@pytest.mark.parametrize(
    ("expression", "kind", "domain", "name", "path"),
    [
        ('device.attributes["d"].profile == "x"', "attributes", "d", "profile", 'device.attributes["d"].profile'),
        ('device.attributes["zz"].x == 1', "attributes", "zz", "x", 'device.attributes["zz"].x'),
        ('cel.bind(a, device.attributes["d"], a.x == 1)', "attributes", "d", "x", 'device.attributes["d"].x'),
        ('device.attributes["d"]["a" + "b"] == 1', "attributes", "d", "ab", 'device.attributes["d"].ab'),
        ('device.capacity["d"].x == quantity("1")', "capacity", "d", "x", 'device.capacity["d"].x'),
        ("{'a': 1}['b'] == 1", "", "", "b", "b"),
    ],
)
def test_an_error_says_what_is_missing(expression: str, kind: str, domain: str, name: str, path: str) -> None:
    with pytest.raises(MissingKey) as raised:
        cel.matches(cel.compile_selector(expression), cel.view("d", WITHOUT))
    error = raised.value
    assert (error.kind, error.domain, error.name, error.path) == (kind, domain, name, path)
    assert str(error).startswith(f"no such key: {name}")


@pytest.mark.parametrize(
    ("expression", "guarded"),
    [
        ("device.attributes['d'].x == 1", "has(device.attributes[\"d\"].x) && device.attributes['d'].x == 1"),
        ("a || b", 'has(device.attributes["d"].x) && (a || b)'),
        ("(a || b)", 'has(device.attributes["d"].x) && (a || b)'),
        ("(a) || (b)", 'has(device.attributes["d"].x) && ((a) || (b))'),
        ("a ? b : c", 'has(device.attributes["d"].x) && (a ? b : c)'),
        ("a || b // why", 'has(device.attributes["d"].x) && (a || b // why\n)'),
        ("'||' == a", "has(device.attributes[\"d\"].x) && '||' == a"),
    ],
)
def test_parentheses_are_put_where_they_are_needed(expression: str, guarded: str) -> None:
    assert cel.guard(expression, "d", "x") == guarded


def test_names_that_are_no_fields_and_odd_domains_are_quoted() -> None:
    assert cel.guard("true", "d", "in") == '"in" in device.attributes["d"] && true'
    assert cel.guard("true", "d", "a-b") == '"a-b" in device.attributes["d"] && true'
    assert cel.guard("true", 'd"\\\n', "x") == 'has(device.attributes["d\\"\\\\\\n"].x) && true'
    assert cel.guard("true", "d", "memory", kind="capacity") == 'has(device.capacity["d"].memory) && true'
    with pytest.raises(cel.CompileError):
        cel.guard("true &&", "d", "x")


ATOMS = st.sampled_from(
    (
        'device.attributes["d"].profile == "1g.10gb"',
        'device.attributes["d"].profile.startsWith("1g")',
        'device.attributes["d"].n > 1',
        'device.attributes["d"].missing == 1',
        'device.capacity["d"].memory.isGreaterThan(quantity("1Gi"))',
        "device.driver == 'd' // ours\n",
        "true",
        "1 / 0 == 1",
    )
)
SELECTORS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from((" && ", " || ")), inner).map("".join),
        st.tuples(inner, inner, inner).map(lambda parts: f"{parts[0]} ? ({parts[1]}) : ({parts[2]})"),
        inner.map(lambda text: f"({text}\n)"),
        inner.map(lambda text: f"!({text}\n)"),
    ),
    max_leaves=5,
)


@settings(max_examples=100, deadline=None)
@given(SELECTORS, st.sampled_from((("attributes", "profile"), ("attributes", "in"), ("capacity", "memory"))))
def test_a_guarded_selector_is_false_without_and_the_same_with(expression: str, missing: tuple[str, str]) -> None:
    kind, name = missing
    guarded = cel.guard(expression, "d", name, kind=kind)
    assert outcome(guarded, WITHOUT) is False
    assert outcome(guarded, WITH) == outcome(expression, WITH)
