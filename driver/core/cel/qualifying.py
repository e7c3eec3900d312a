"""Chains of selections and indexes: `device.attributes["d"].x`, `a.?b[?c].d`, `has(a.b)`. Called by evaluating.

A chain is resolved at once: behind the first optional step all steps are optional. Each step costs one unit; the steps
of an optional chain only if they find something. Source: cel-go interpreter/attributes.go.
"""

from __future__ import annotations

from dataclasses import dataclass

from driver.core.cel import values
from driver.core.cel.errors import EvaluationError
from driver.core.cel.frames import Evaluator, Frame, charge
from driver.core.cel.values import NONE, Optional, Value, kind_of

_KEYS = frozenset(("string", "int", "uint", "bool", "double"))


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a chain: where the key comes from, and whether it may be missing."""

    key: Evaluator
    optional: bool


def constant_key(key: Value) -> Evaluator:
    """Return what gives a key that is written in the expression. Raises `EvaluationError` for what is no key."""
    if kind_of(key) not in _KEYS:
        raise EvaluationError(f"invalid qualifier type: {kind_of(key)}")
    return lambda _: key


def computed_key(evaluate: Evaluator) -> Evaluator:
    """Return what gives a key that is computed."""

    def key(frame: Frame) -> Value:
        found = evaluate(frame)
        if kind_of(found) not in _KEYS:
            raise EvaluationError(f"invalid qualifier type: {kind_of(found)}")
        return found

    return key


def resolver(root: Evaluator, steps: list[Step]) -> Evaluator:
    """Return what follows a chain, without the cost of the chain itself."""
    if not steps:
        return root

    def resolve(frame: Frame) -> Value:
        value = root(frame)
        found, optional = _unwrapped(value)
        if found is NONE:
            return value
        for step in steps:
            optional = optional or step.optional
            if optional:
                place = _find(frame, found, step)
                if not place.present:
                    return NONE
                found = place.content
            else:
                found = _get(frame, found, step)
        return Optional(True, found) if optional else found

    return resolve


def tester(root: Evaluator, steps: list[Step], field: str) -> Evaluator:
    """Return what says whether the last field of a chain is there."""

    def test(frame: Frame) -> Value:
        value = resolve(frame)
        found, optional = _unwrapped(value)
        if found is NONE:
            return False
        present = values.find(found, field).present
        if present or not optional:
            charge(frame, 1)
        return present

    resolve = resolver(root, steps)
    return test


def charged(resolve: Evaluator) -> Evaluator:
    """Return what follows a chain and pays for it."""

    def evaluate(frame: Frame) -> Value:
        try:
            return resolve(frame)
        finally:
            charge(frame, 1)

    return evaluate


def _unwrapped(value: Value) -> tuple[Value, bool]:
    if not isinstance(value, Optional):
        return value, False
    return (value.content, True) if value.present else (NONE, True)


def _find(frame: Frame, container: Value, step: Step) -> Optional:
    place = values.find(container, step.key(frame))
    if place.present:
        charge(frame, 1)
    return place


def _get(frame: Frame, container: Value, step: Step) -> Value:
    try:
        return values.get(container, step.key(frame))
    finally:
        charge(frame, 1)
