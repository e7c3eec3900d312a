"""Label and field selectors: what they mean, and how broken ones are refused."""

from __future__ import annotations

import pytest

from driver.simulation.apiserver import ApiError
from driver.simulation.apiserver.selectors import FieldTerm, parse_fields, parse_labels


def selects(selector: str, **labels: str) -> bool:
    return all(requirement.matches(labels) for requirement in parse_labels(selector))


@pytest.mark.parametrize(
    ("selector", "labels", "expected"),
    [
        ("", {}, True),
        ("a", {"a": ""}, True),
        ("a", {}, False),
        ("!a", {}, True),
        ("!a", {"a": "1"}, False),
        ("a=1", {"a": "1"}, True),
        ("a==1", {"a": "1"}, True),
        ("a=1", {"a": "2"}, False),
        ("a=", {"a": ""}, True),
        ("a!=1", {}, True),
        ("a!=1", {"a": "1"}, False),
        ("a in (1, 2)", {"a": "2"}, True),
        ("a in (1,2)", {"a": "3"}, False),
        ("a notin (1,2)", {}, True),
        ("a notin (1,2)", {"a": "1"}, False),
        ("a=1,b=2", {"a": "1", "b": "2"}, True),
        ("a=1,b=2", {"a": "1"}, False),
        ("a=1,!b,c", {"a": "1", "c": "x"}, True),
        ("example.com/role=gpu", {"example.com/role": "gpu"}, True),
    ],
)
def test_label_selectors(selector: str, labels: dict[str, str], expected: bool) -> None:
    assert selects(selector, **labels) is expected


@pytest.mark.parametrize("selector", ["a in (b", "a in b", "=1", "a=1,", "a,,b", "a ~ b", "in (x)"])
def test_broken_label_selectors_are_a_400(selector: str) -> None:
    with pytest.raises(ApiError) as refusal:
        parse_labels(selector)
    assert refusal.value.code == 400
    assert "unable to parse requirement" in str(refusal.value)


def test_field_selectors_know_three_operators() -> None:
    assert parse_fields("a=1,b!=2,c==3") == (
        FieldTerm("a", equal=True, value="1"),
        FieldTerm("b", equal=False, value="2"),
        FieldTerm("c", equal=True, value="3"),
    )
    assert parse_fields("spec.nodeName=") == (FieldTerm("spec.nodeName", equal=True, value=""),)


def test_a_field_selector_without_operator_is_a_400() -> None:
    with pytest.raises(ApiError, match="can't understand 'a'"):
        parse_fields("a")
