"""The layout keeps its promises: size budgets, a docstring a module, no mutable API values."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(path for path in (ROOT / "driver").rglob("*.py") if "pb" not in path.parts)
MAX_FILE = 400
MAX_BODY = 50


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_has_a_docstring_and_fits_its_budget(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "every module says who calls it and what it promises"
    assert len(text.splitlines()) <= MAX_FILE, "a file that needs a table of contents is two files"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            start = node.body[1].lineno if ast.get_docstring(node) and len(node.body) > 1 else node.body[0].lineno
            assert (node.end_lineno or start) - start < MAX_BODY, f"{node.name} is longer than {MAX_BODY} lines"


def test_the_contract_fits_on_a_page() -> None:
    assert len((ROOT / "driver" / "contract.py").read_text().splitlines()) <= 150


def test_core_knows_the_shape_of_everything() -> None:
    for path in (ROOT / "driver" / "core").rglob("*.py"):
        tree = ast.parse(path.read_text())
        assert not any(isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(tree)), path
