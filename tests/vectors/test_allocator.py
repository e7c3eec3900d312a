"""Allocations as Kubernetes v1.36.2 itself made them, every case: fits or not, errors, and results device by device.

Each case is tried twice: with the recorded verdicts of the selectors, so that the allocator is tested without CEL, and
with CEL. Upstream's known defects are repaired here; the vectors hold both answers. The second file has random
mixtures, in small: most rules meet there, and none of the defects.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from hack.replay import allocator

FOLDER: Final = Path(__file__).parent
DESIGNED: Final = list(allocator.read(FOLDER / "allocator.jsonl.gz"))
RANDOM: Final = list(allocator.read(FOLDER / "allocator-random.jsonl.gz"))
VECTORS: Final = [*DESIGNED, *RANDOM]
CATEGORIES: Final = sorted({vector["category"] for vector in VECTORS})


def differences(category: str, *, with_table: bool) -> list[str]:
    return [
        vector["id"]
        for vector in VECTORS
        if vector["category"] == category
        if not allocator.allocate_vector(vector, with_table=with_table).agrees(allocator.wanted_answer(vector))
    ]


@pytest.mark.parametrize("category", CATEGORIES)
def test_the_allocator_answers_as_recorded(category: str, record_property: Callable[[str, object], None]) -> None:
    total = sum(vector["category"] == category for vector in VECTORS)
    found = differences(category, with_table=True)
    record_property("vectors", f"allocator {total - len(found)} {total}")
    assert found == []


@pytest.mark.parametrize("category", CATEGORIES)
def test_with_cel_it_answers_the_same(category: str, record_property: Callable[[str, object], None]) -> None:
    total = sum(vector["category"] == category for vector in VECTORS)
    found = differences(category, with_table=False)
    record_property("vectors", f"allocator+cel {total - len(found)} {total}")
    assert found == []


def test_all_recorded_allocations_are_here() -> None:
    assert (len(DESIGNED), len(RANDOM)) == (663, 355)
    assert len({vector["category"] for vector in DESIGNED}) == 21


@pytest.mark.parametrize("quirk", sorted(allocator.REPAIRED))
def test_each_repaired_defect_of_upstream_changes_a_recorded_answer(quirk: str) -> None:
    """So that the list in docs/allocator.md says nothing that is not tested."""
    assert any(quirk in vector["quirks"] and vector["expected"] != vector["without_quirks"] for vector in DESIGNED)
