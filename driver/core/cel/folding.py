"""Comprehensions at run time: a value that starts somewhere and changes with every element. Called by evaluating.

Source: cel-go interpreter/interpretable.go, evalFold. An error in a step does not end the fold: it becomes the value,
and the next step (`&&`, `||`) may absorb it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from driver.core.cel import collections, values
from driver.core.cel.errors import no_such_overload
from driver.core.cel.frames import Evaluator, Frame, Pending, attempt
from driver.core.cel.values import Value, kind_of


@dataclass(frozen=True, slots=True)
class Fold:
    """The parts of a comprehension, with the places of its variables in the frame."""

    accumulator: int
    variables: tuple[int, ...]
    init: Evaluator
    condition: Evaluator
    step: Evaluator
    result: Evaluator


def fold(range_: Evaluator, parts: Fold) -> Evaluator:
    """Return what evaluates a comprehension."""
    start = Pending(parts.init)
    accumulator, slots = parts.accumulator, parts.variables
    condition, step, result = parts.condition, parts.step, parts.result

    def evaluate(frame: Frame) -> Value:
        items = _items(range_(frame), len(slots))
        frame[accumulator] = start
        for item in items:
            for slot, value in zip(slots, item, strict=True):
                frame[slot] = value
            if attempt(condition, frame) is False:
                break
            frame[accumulator] = attempt(step, frame)
        return collections.plain(result(frame))

    return evaluate


def _items(value: Value, variables: int) -> list[tuple[Value, ...]]:
    """Return what the variables of a comprehension become, element by element."""
    if isinstance(value, list | tuple):
        return [(item,) for item in value] if variables == 1 else list(enumerate(value))
    if isinstance(value, Mapping):
        if variables == 1:
            return [(key,) for key in values.keys(value)]
        return list(zip(values.keys(value), value.values(), strict=True))
    raise no_such_overload("comprehension", kind_of(value))
