"""Selectors as Kubernetes itself answered them: compiled, evaluated, or refused.

`tests/data/cel/selectors.jsonl` was recorded with the CEL compiler of Kubernetes v1.36.2. What is not covered yet is
listed with its reason, and the list may only shrink: every other answer must agree.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import pytest

from driver.core import cel
from driver.model.slices import Device

VECTORS: Final = Path(__file__).parents[2] / "data" / "cel" / "selectors.jsonl"
AGREEING: Final = 366
"""How many of the recorded answers agree. Raise it when more do; it never goes down."""
NOT_COVERED: Final = {
    "net": 18,
    "time": 11,
    "url": 7,
    "formatlib": 6,
    "macros": 6,  # two-variable comprehensions
    "cost": 4,  # the run-time cost limit; expressions above 10 KiB, which only the scheduler evaluates
    "strings": 5,  # format(), and one type error
    "convert": 3,  # durations and timestamps, and one type error
    # The type checker: these expressions are refused upstream before they see a device.
    "compile": 12,
    "types": 8,
    "random": 7,
    "lists": 5,
    "semver": 3,
    "quantity": 1,
    "sets": 1,
    "errors": 1,
}


@dataclass(frozen=True)
class Vector:
    """One recorded answer."""

    id: str
    category: str
    expression: str
    device: Mapping[str, object]
    expected: tuple[str, object]


def _read() -> list[Vector]:
    vectors = []
    for line in VECTORS.read_text().splitlines():
        raw = json.loads(line)
        kind = next(kind for kind in ("result", "error", "compile_error") if kind in raw["expected"])
        result = raw["expected"]["result"] if kind == "result" else None
        vectors.append(Vector(raw["id"], raw["category"], raw["expression"], raw["device"], (kind, result)))
    return vectors


def _answer(vector: Vector) -> tuple[str, object]:
    try:
        selector = cel.compile_selector(vector.expression)
    except cel.CompileError:
        return "compile_error", None
    raw = {key: vector.device.get(key) or {} for key in ("attributes", "capacity")}
    try:
        view = cel.view(
            str(vector.device["driver"]),
            msgspec.convert({"name": "device", **raw}, Device),
            allow_multiple_allocations=bool(vector.device.get("allowMultipleAllocations")),
        )
        return "result", cel.matches(selector, view)
    except cel.EvaluationError:
        return "error", None


@pytest.fixture(scope="module")
def disagreements() -> Mapping[str, list[Vector]]:
    found: dict[str, list[Vector]] = {}
    for vector in _read():
        if _answer(vector) != vector.expected:
            found.setdefault(vector.category, []).append(vector)
    return found


def test_the_number_of_agreeing_answers_only_grows(disagreements: Mapping[str, list[Vector]]) -> None:
    assert len(_read()) - sum(map(len, disagreements.values())) >= AGREEING


def test_what_is_not_covered_is_listed_and_nothing_else(disagreements: Mapping[str, list[Vector]]) -> None:
    assert Counter({category: len(vectors) for category, vectors in disagreements.items()}) == Counter(NOT_COVERED)


def test_no_device_gets_a_wrong_verdict(disagreements: Mapping[str, list[Vector]]) -> None:
    """Where Kubernetes answers true or false, we answer the same or refuse to compile: never the opposite."""
    for vectors in disagreements.values():
        for vector in vectors:
            if vector.expected[0] == "result":
                assert _answer(vector)[0] == "compile_error", vector.expression
