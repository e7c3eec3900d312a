"""Corners of cel-go and of Kubernetes' libraries that no documentation names: each was found by comparing answers."""

from __future__ import annotations

from typing import Final

import pytest

from driver.core import cel
from driver.model.published import Attribute, PublishedDevice

DEVICE: Final = PublishedDevice(
    name="gpu",
    attributes={
        "address": Attribute(string="10.0.0.1"),
        "network": Attribute(string="10.0.0.0/9"),
        "version": Attribute(version="1.2.3"),
    },
)
VIEW: Final = cel.view("d", DEVICE, allow_multiple_allocations=True)


def ask(expression: str) -> tuple[bool, int]:
    """Return the verdict of an expression, and what it cost."""
    program = cel.compile_selector(expression)
    return cel.matches(program, VIEW), program.trace({"device": VIEW}).cost


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("999999.0", "999999"),
        ("1000000.0", "1e+06"),
        ("-12345678.5", "-1.23456785e+07"),
        ("0.0001", "0.0001"),
        ("0.00001", "1e-05"),
        ("-0.0", "-0"),
        ("1e100", "1e+100"),
        ("double(9007199254740993)", "9.007199254740992e+15"),
    ],
)
def test_a_double_is_written_with_an_exponent_from_a_million_on(number: str, text: str) -> None:
    assert ask(f'string({number}) == "{text}"')[0]


@pytest.mark.parametrize(
    "value",
    ["ip('10.0.0.1')", "cidr('10.0.0.1/8')", "duration('1s')", "timestamp(0)", "int", "null"],
)
def test_a_key_that_is_kept_by_value_is_found_again(value: str) -> None:
    assert ask(f"{value} in {{{value}: true}}")[0]


@pytest.mark.parametrize("value", ["url('http://a')", "quantity('1')", "[1]", "{'a': 1}", "optional.of(1)"])
def test_a_key_that_is_kept_by_reference_is_not(value: str) -> None:
    assert not ask(f"{value} in {{{value}: true}}")[0]


def test_the_very_same_list_is_found_again_as_a_key() -> None:
    assert ask("cel.bind(key, [1], key in {key: true})")[0]


@pytest.mark.parametrize(
    "expression",
    [
        "{semver('1.0.0'): true}.size() == 1",
        "{semver('1.0.0'): true}.size() == 1 || true",
        "[1].transformMapEntry(i, v, {semver('1.0.0'): v}).size() == 1 || true",
    ],
)
def test_a_version_as_a_key_ends_the_evaluation_whatever_else_is_true(expression: str) -> None:
    with pytest.raises(cel.EvaluationError, match="a version cannot be the key of a map"):
        ask(expression)


def test_a_version_is_not_in_an_empty_map() -> None:
    assert not ask("device.attributes['d'].version in {}")[0]


@pytest.mark.parametrize("expression", ["[1].existsOne(x, true)", "{'a': 1}.existsOne(k, true)"])
def test_the_new_name_of_exists_one_takes_two_variables_only(expression: str) -> None:
    with pytest.raises(cel.CompileError):
        cel.compile_selector(expression)
    assert ask(expression.replace("(", "(i, "))[0]


@pytest.mark.parametrize(
    ("expression", "cost"),
    [
        ("(true ? [1] : [2])[0] == 1", 2),
        ("(device.allowMultipleAllocations ? {'a': true} : {'b': true}).a", 3),
        ("{'a': true}.a", 2),
        ("(true ? device.attributes : device.attributes)['d'].address == ''", 3),
    ],
)
def test_a_chain_that_starts_at_a_ternary_costs_its_steps_only(expression: str, cost: int) -> None:
    assert ask(expression)[1] == cost


@pytest.mark.parametrize(
    ("expression", "cost"),
    [
        ("cidr('10.0.0.0/8').containsIP('10.0.0.1')", 3),
        ("cidr('10.0.0.0/8').containsIP(device.attributes['d'].address)", 6),
        ("cidr('10.0.0.0/8').containsCIDR('10.0.0.0/9')", 5),
        ("cidr('10.0.0.0/8').containsCIDR(device.attributes['d'].network)", 8),
    ],
)
def test_reading_an_address_costs_only_where_its_type_is_known_before(expression: str, cost: int) -> None:
    assert ask(expression)[1] == cost


@pytest.mark.parametrize("text", ["T", "+", "-k", ".", "Ki", "E", "e3"])
def test_a_quantity_without_digits_is_zero(text: str) -> None:
    assert ask(f'quantity("{text}") == quantity("0")')[0]


@pytest.mark.parametrize("text", ["", " ", "e", "kk", "+-", "..", "1e"])
def test_other_texts_are_no_quantities(text: str) -> None:
    assert not ask(f'isQuantity("{text}")')[0]


def test_a_sum_of_quantities_equals_others_but_others_do_not_equal_it() -> None:
    assert ask("quantity('1k').add(1) == quantity('1001')")[0]
    assert ask("quantity('1001') != quantity('1k').add(1) && !(quantity('1') in [quantity('2').sub(1)])")[0]
    with pytest.raises(cel.EvaluationError, match="no such overload"):
        ask("quantity('1001') == quantity('1k').add(1)")


def test_a_call_with_a_broken_argument_is_paid_for_unless_the_pattern_is_constant() -> None:
    broken = "url(',').getHost()"
    assert _cost_until_failure(f"{broken}.matches('a')") == 2
    assert _cost_until_failure(f"{broken}.matches(device.driver)") > 2


def _cost_until_failure(expression: str) -> int:
    program = cel.compile_selector(expression)
    with pytest.raises(cel.EvaluationError):
        cel.matches(program, VIEW)
    return program.trace({"device": VIEW}).cost
