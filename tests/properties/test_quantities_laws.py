"""Laws of quantities, one a test."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from driver.model import quantities
from driver.model.errors import InvalidInput
from driver.model.quantities import Format, Quantity

FACTORS = {
    **{suffix: Fraction(10) ** power for suffix, power in zip("num", (-9, -6, -3), strict=True)},
    **{suffix: Fraction(10) ** power for suffix, power in zip(("", *"kMGTPE"), range(0, 21, 3), strict=True)},
    **{f"{suffix}i": Fraction(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}
LIMIT = 2**63 - 1

numbers = st.from_regex(r"[+-]?(0|[1-9][0-9]{0,5})(\.[0-9]{1,12})?", fullmatch=True)
texts = st.builds(
    lambda number, suffix: number + suffix,
    numbers,
    st.sampled_from([*FACTORS]) | st.integers(-12, 12).map("e{}".format) | st.integers(0, 12).map("E+{}".format),
)
amounts = st.builds(Quantity, st.integers(-(10**30), 10**30), st.sampled_from(Format))


def read(text: str) -> Fraction:
    """The amount of a text by school arithmetic."""
    number, suffix = text, ""
    for cut in range(len(text)):
        if text[cut] not in "+-.0123456789":
            number, suffix = text[:cut], text[cut:]
            break
    if suffix[:1] in {"e", "E"} and len(suffix) > 1 and suffix[1] in "+-0123456789":
        return Fraction(number) * Fraction(10) ** int(suffix[1:])
    return Fraction(number) * FACTORS[suffix]


@given(texts)
def test_an_amount_is_exact_but_for_rounding_away_from_zero_to_a_billionth(text: str) -> None:
    exact = read(text) * quantities.NANO
    nanos = quantities.parse(text).nanos
    if "i" in text and abs(exact) >= LIMIT * quantities.NANO:
        assert abs(nanos) == LIMIT * quantities.NANO
        return
    assert abs(nanos) - abs(exact) < 1
    assert abs(nanos) >= abs(exact)
    assert nanos * exact >= 0


@given(texts)
def test_printing_keeps_the_amount(text: str) -> None:
    quantity = quantities.parse(text)
    assert quantities.parse(str(quantity)) == quantity
    assert quantities.parse(quantities.canonical(quantity)) == quantity


@given(texts)
def test_canonical_text_is_its_own_canonical_text(text: str) -> None:
    once = quantities.canonical(quantities.parse(text))
    assert quantities.canonical(quantities.parse(once)) == once


@given(amounts)
def test_canonical_text_has_no_fraction(amount: Quantity) -> None:
    text = quantities.canonical(amount)
    assert "." not in text
    assert not text.startswith("+")


@given(amounts, amounts)
def test_order_is_that_of_the_amounts(one: Quantity, other: Quantity) -> None:
    assert (one < other) == (one.nanos < other.nanos)
    assert (one == other) == (one.nanos == other.nanos)
    if one == other:
        assert hash(one) == hash(other)


@given(amounts, amounts)
def test_what_is_added_can_be_taken_away(one: Quantity, other: Quantity) -> None:
    assert one + other - other == one
    assert one + other == other + one


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_bytes_survive_their_text(count: int) -> None:
    assert quantities.parse(quantities.from_bytes(count)).rounded_up == count


@given(amounts)
def test_rounding_up_goes_away_from_zero_by_less_than_one(amount: Quantity) -> None:
    exact = Fraction(amount.nanos, quantities.NANO)
    assert 0 <= abs(amount.rounded_up) - abs(exact) < 1
    assert amount.rounded_up * exact >= 0


@given(st.text(max_size=30))
def test_any_text_is_a_quantity_or_invalid_input(text: str) -> None:
    try:
        quantities.parse(text)
    except InvalidInput as error:
        assert error.value == text  # noqa: PT017 - either outcome is right
