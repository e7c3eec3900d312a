"""Quantities compare by amount, and refuse what the API server refuses."""

from __future__ import annotations

import pytest

from driver.model import quantities
from driver.model.errors import InvalidInput
from driver.model.quantities import Quantity


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1024Mi", "1Gi"),
        ("1Gi", "1073741824"),
        ("1000m", "1"),
        ("1e3", "1k"),
        ("1E3", "1000"),
        ("+5", "5"),
        ("5.", "5"),
        (".5", "500m"),
        ("0.5Gi", "512Mi"),
        ("0.0000000001", "1n"),
        ("-0.0000000001", "-1n"),
        ("1e-3", "1m"),
        ("16Ei", "9223372036854775807"),
    ],
)
def test_equal_amounts_are_equal(one: str, other: str) -> None:
    assert quantities.parse(one) == quantities.parse(other)


@pytest.mark.parametrize(
    ("small", "large"), [("1k", "1Ki"), ("80G", "80Gi"), ("-1", "0"), ("999m", "1"), ("8E", "7Ei")]
)
def test_amounts_are_ordered(small: str, large: str) -> None:
    assert quantities.parse(small) < quantities.parse(large)


@pytest.mark.parametrize(
    "text", ["", " 1", "1 Gi", "200K", "Gi", "1gi", "1ki", "--1", "1e", "1e999999", ".", "0x10", "1,5"]
)
def test_nonsense_is_refused_with_the_field_and_the_value(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"capacity memory") as raised:
        quantities.parse(text, "capacity memory")
    assert raised.value.value == text


def test_arithmetic_and_rounding() -> None:
    half = quantities.parse("500m")
    assert quantities.parse("1") - half == half
    assert half + half == quantities.of_integer(1)
    assert half.rounded_up == 1
    assert quantities.parse("-1500m").rounded_up == -2
    assert not half.is_whole
    assert Quantity(3 * quantities.NANO).is_whole
    assert float(half) == 0.5
