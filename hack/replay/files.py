"""Files of vectors: one JSON object a line, compressed or not. Called by `hack/vectors` and by tests."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

Vector = Mapping[str, object]


class UnreadableFileError(Exception):
    """A file that is missing or does not hold vectors; the message names file and line."""


def read(file: str | Path) -> Iterator[tuple[str, Vector]]:
    """Yield the vectors of a file, each with its place (`file:line`). Raises `UnreadableFileError`."""
    for number, line in enumerate(_text(Path(file)).split("\n"), 1):
        if line.strip():
            yield f"{file}:{number}", _vector(f"{file}:{number}", line)


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        return (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    except OSError as error:
        raise UnreadableFileError(f"{path}: {error.strerror or error}") from error
    except (EOFError, UnicodeDecodeError) as error:
        raise UnreadableFileError(f"{path}: not a text of UTF-8: {error}") from error


def _vector(place: str, line: str) -> Vector:
    try:
        vector = json.loads(line)
    except ValueError as error:
        raise UnreadableFileError(f"{place}: not JSON: {error}") from error
    if not isinstance(vector, dict):
        raise UnreadableFileError(f"{place}: a vector is a JSON object")
    return vector
