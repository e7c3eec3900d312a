"""Allocations as Kubernetes v1.36.2 itself made them, every case: fits or not, errors, and results device by device.

Each case is tried twice: with the recorded verdicts of the selectors, so that the allocator is tested without CEL, and
with CEL. Upstream's known defects are repaired here; the vectors hold both answers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hack.replay import allocator

VECTORS = list(allocator.read(Path(__file__).parent / "allocator.jsonl.gz"))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
def test_the_allocator_answers_as_recorded(vector: allocator.Json) -> None:
    answer, wanted = allocator.allocate_vector(vector, with_table=True), allocator.wanted_answer(vector)
    assert answer.agrees(wanted), (answer, wanted)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
def test_with_cel_it_answers_the_same(vector: allocator.Json, record_property: Callable[[str, object], None]) -> None:
    answer, wanted = allocator.allocate_vector(vector), allocator.wanted_answer(vector)
    record_property("vectors", f"allocator {int(answer.agrees(wanted))} 1")
    assert answer.agrees(wanted), (answer, wanted)


def test_the_vectors_cover_every_category() -> None:
    assert len(VECTORS) == 663
    assert len({vector["category"] for vector in VECTORS}) == 21
