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


BUILDERS = (
    ROOT / "driver" / "kube" / "decoding.py",  # one at a time
    ROOT / "driver" / "simulation" / "access.py",  # for the kinds that it lists while it loads
)
_PLAIN = {"dict[str, object]", "dict[str, msgspec.Raw]", "list[msgspec.Raw]"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_decoders_of_structs_are_built_while_modules_load(path: Path) -> None:
    """Msgspec learns what a struct is made of at its first use, and two threads that begin that at once crash."""
    if path in BUILDERS:
        return
    tree = ast.parse(path.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    calls = {id(call): call for each in functions for call in ast.walk(each) if isinstance(call, ast.Call)}
    for call in calls.values():
        name = ast.unparse(call.func)
        types = [ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg == "type"]
        assert name != "msgspec.convert", f"line {call.lineno}: use a Decoder that the module builds"
        assert name != "msgspec.json.Decoder", f"line {call.lineno}: build it once, in the module"
        if name == "msgspec.json.decode":
            assert not set(types) - _PLAIN, f"line {call.lineno}: use a Decoder that the module builds"
