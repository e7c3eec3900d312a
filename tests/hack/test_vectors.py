"""`hack/vectors`: counts, differences, and what it says of files that it cannot read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hack.replay.__main__ import main

AGREED = {
    "id": "a",
    "expression": "device.driver == 'd'",
    "device": {"driver": "d", "attributes": {"x": {"int": 1}}},
    "expected": {"result": True, "actual_cost": 3, "max_cost": 3},
}


def run(path: Path, *vectors: object) -> Result:
    path.write_text("\n".join(json.dumps(vector) for vector in vectors) + "\n\n")
    return CliRunner().invoke(main, [str(path)])


def test_vectors_that_agree_are_counted(tmp_path: Path) -> None:
    result = run(tmp_path / "a.jsonl", AGREED, AGREED)
    assert (result.exit_code, result.output) == (0, "cel: 2 passed, 0 failed\n")


def test_a_compressed_file_is_read_as_well(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(AGREED).encode()))
    assert CliRunner().invoke(main, [str(path)]).output == "cel: 1 passed, 0 failed\n"


@pytest.mark.parametrize(
    ("expected", "difference"),
    [
        ({"result": False}, "expected ('result', False), got ('result', True)"),
        ({"error": "no such key"}, "expected ('error', None), got ('result', True)"),
        ({"compile_error": "x"}, "expected ('compile_error', None), got ('result', True)"),
        ({"result": True, "max_cost": 4}, "expected max_cost 4, got 3"),
        ({"result": True, "actual_cost": 4}, "expected actual_cost 4, got 3"),
        ({"result": True, "admission_error": "too complex"}, "expected admission_error 'too complex', got None"),
    ],
)
def test_each_difference_is_printed(tmp_path: Path, expected: object, difference: str) -> None:
    result = run(tmp_path / "a.jsonl", {**AGREED, "expected": expected}, AGREED)
    assert result.exit_code == 1
    first, last = result.output.splitlines()
    assert first.startswith(f"{tmp_path / 'a.jsonl'}:1: a: {difference}")
    assert last == "cel: 1 passed, 1 failed"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{}\n", ":1: a vector has one of the keys expression"),
        (b"\n[1]", ":2: a vector is a JSON object"),
        (b"{", ":1: not JSON"),
        (b"\xff", ": not a text of UTF-8"),
        (None, ": No such file or directory"),
    ],
)
def test_an_unreadable_file_is_one_sentence_that_names_the_line(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "a.jsonl"
    if content is not None:
        path.write_bytes(content)
    result = CliRunner().invoke(main, [str(path)])
    assert result.exit_code == 2
    assert result.output.startswith(f"{path}{reason}")
    assert result.output.count("\n") == 1
