"""How much of a capacity a request takes, and when a device cannot give it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.core.allocator import capacities
from driver.core.allocator.capacities import compile_capacity
from driver.model import quantities
from driver.model.errors import InvalidInput
from driver.model.published import Capacity
from driver.model.slices import CapacityPolicy, CapacityRange

RANGE = CapacityPolicy(default="1Gi", valid_range=CapacityRange(min="1Gi", step="2Gi", max="7Gi"))
VALUES = CapacityPolicy(default="2Gi", valid_values=("2Gi", "4Gi"))


def take(asked: str | None, policy: CapacityPolicy | None = None, value: str = "16Gi") -> str | None:
    capacity = compile_capacity("memory", Capacity(value=value, request_policy=policy))
    wanted = {} if asked is None else {"memory": quantities.parse(asked)}
    taken = capacities.take([capacity], wanted)
    return None if taken is None else str(taken["memory"])


@pytest.mark.parametrize(
    ("asked", "policy", "taken"),
    [
        (None, None, "16Gi"),
        ("3Gi", None, "3Gi"),
        ("16Gi", None, "16Gi"),
        ("17Gi", None, None),
        (None, CapacityPolicy(default="4Gi"), "4Gi"),
        ("5Gi", CapacityPolicy(default="4Gi"), "5Gi"),
        (None, RANGE, "1Gi"),
        ("512Mi", RANGE, "1Gi"),
        ("1Gi", RANGE, "1Gi"),
        ("1025Mi", RANGE, "3Gi"),
        ("7Gi", RANGE, "7Gi"),
        ("7169Mi", RANGE, None),
        (None, VALUES, "2Gi"),
        ("1Gi", VALUES, "2Gi"),
        ("3Gi", VALUES, "4Gi"),
        ("5Gi", VALUES, None),
    ],
)
def test_amounts(asked: str | None, policy: CapacityPolicy | None, taken: str | None) -> None:
    assert take(asked, policy) == taken


def test_the_default_is_always_accepted() -> None:
    odd = CapacityPolicy(default="5Gi", valid_range=CapacityRange(min="2Gi", step="2Gi", max="4Gi"))
    assert take(None, odd) == "5Gi"
    assert take("5Gi", odd) is None, "it is rounded up to 6Gi first"


def test_a_range_without_step_keeps_the_amount() -> None:
    policy = CapacityPolicy(default="1", valid_range=CapacityRange(min="1", max="3"))
    assert [take(each, policy, "10") for each in ("500m", "1500m", "3", "3500m")] == ["1", "1500m", "3", None]


def test_steps_count_whole_units() -> None:
    policy = CapacityPolicy(default="1", valid_range=CapacityRange(min="1", step="2"))
    assert take("1100m", policy, "10") == "3", "a fraction is rounded up before the steps are counted"


def test_a_step_of_zero_is_no_step() -> None:
    policy = CapacityPolicy(default="1", valid_range=CapacityRange(min="1", step="0"))
    assert take("2", policy, "10") == "2"


def test_names_are_literal() -> None:
    capacity = compile_capacity("example.com/memory", Capacity(value="1Gi"))
    assert capacities.take([capacity], {"memory": quantities.parse("1Gi")}) is None
    assert capacities.take([capacity], {"example.com/memory": quantities.parse("1Gi")}) is not None


def test_every_capacity_is_taken_also_those_nobody_asked_for() -> None:
    both = [compile_capacity("memory", Capacity(value="4Gi")), compile_capacity("cores", Capacity(value="8"))]
    taken = capacities.take(both, {"memory": quantities.parse("1Gi")})
    assert {name: str(amount) for name, amount in (taken or {}).items()} == {"memory": "1Gi", "cores": "8"}


def test_a_text_that_is_no_quantity_is_refused() -> None:
    with pytest.raises(InvalidInput, match="memory"):
        compile_capacity("memory", Capacity(value="lots"))


@given(st.integers(1, 50), st.integers(0, 10), st.integers(1, 9))
def test_rounding_never_gives_less_than_asked_and_is_done_once(asked: int, low: int, step: int) -> None:
    policy = CapacityPolicy(default="1", valid_range=CapacityRange(min=str(low), step=str(step)))
    taken = take(str(asked), policy, "1000")
    assert taken is not None
    assert int(taken) >= asked
    assert take(taken, policy, "1000") == taken
