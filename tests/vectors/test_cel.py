"""Selectors as Kubernetes v1.36.2 itself answered them: every result, every cost, every refusal is ours as well.

The second file has corners of the libraries and random expressions.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from hack.replay import cel
from hack.replay.files import Vector, read

FOLDER: Final = Path(__file__).parent / "cel"
DESIGNED: Final = [vector for _, vector in read(FOLDER / "selectors.jsonl")]
CORNERS: Final = [vector for _, vector in read(FOLDER / "corners.jsonl.gz")]
VECTORS: Final = [*DESIGNED, *CORNERS]
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
    assert (len(DESIGNED), len(CORNERS)) == (464, 614)
    assert len(CATEGORIES) > 20
