"""Where the values of one evaluation are, and what it has cost so far. Called by evaluating and qualifying."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from driver.core.cel import tracking
from driver.core.cel.errors import Cancelled, EvaluationError
from driver.core.cel.values import Growing, GrowingMap, Value

Frame = list[Value]
"""The values of one evaluation: its cost, then variables, then what macros bind. Each name has a fixed position."""
Evaluator = Callable[[Frame], Value]

MISSING: Final = object()
"""Stands in a frame for a declared variable that was not given."""


@dataclass(frozen=True, slots=True)
class Pending:
    """Stands in a frame for a value that nobody has asked for yet."""

    evaluate: Evaluator


@dataclass(frozen=True, slots=True)
class Failed:
    """Stands in a frame for a value that could not be computed; reading it raises the error."""

    error: EvaluationError


def charge(frame: Frame, cost: int) -> None:
    """Count a cost. Raises `Cancelled` above the limit."""
    total = frame[0]
    assert isinstance(total, int)  # noqa: S101 - the first value of a frame is its cost
    frame[0] = total + cost
    if total + cost > tracking.LIMIT:
        raise Cancelled


def attempt(evaluate: Evaluator, frame: Frame) -> Value:
    """Return the value, or its error as `Failed`. Raises what no operator may absorb."""
    try:
        return evaluate(frame)
    except EvaluationError as error:
        if error.final:
            raise
        return Failed(error)


def reader(name: str, slot: int) -> Evaluator:
    """Return what reads a variable."""

    def read(frame: Frame) -> Value:
        value = frame[slot]
        if type(value) is Pending:
            value = frame[slot] = _growing(attempt(value.evaluate, frame))
        if type(value) is Failed:
            raise value.error
        if value is MISSING:
            raise EvaluationError(f"no such attribute(s): {name}")
        return value

    return read


def _growing(value: Value) -> Value:
    """Let the empty list or map from which a comprehension starts grow in place, as cel-go does."""
    if isinstance(value, list | tuple) and not value:
        return Growing()
    return GrowingMap() if isinstance(value, dict) and not value and type(value) is dict else value
