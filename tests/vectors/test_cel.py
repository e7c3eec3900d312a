"""Selectors as Kubernetes v1.36.2 itself answered them: every result, every cost, every refusal is ours as well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from hack.replay import cel
from hack.replay.files import Vector, read

FILE: Final = Path(__file__).parent / "cel" / "selectors.jsonl"
VECTORS: Final = [vector for _, vector in read(FILE)]
CATEGORIES: Final = sorted({str(vector["category"]) for vector in VECTORS})


def in_category(name: str) -> list[Vector]:
    return [vector for vector in VECTORS if vector["category"] == name]


@pytest.mark.parametrize("category", CATEGORIES)
def test_we_answer_as_kubernetes_does(category: str, record_property: Callable[[str, object], None]) -> None:
    vectors = in_category(category)
    differences = {str(vector["id"]): cel.differences(vector) for vector in vectors}
    agreeing = sum(not found for found in differences.values())
    record_property("vectors", f"cel {agreeing} {len(vectors)}")
    assert [line for found in differences.values() for line in found] == []


def test_all_recorded_selectors_are_here() -> None:
    assert len(VECTORS) == 464
    assert len(CATEGORIES) > 20
