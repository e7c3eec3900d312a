"""YAML files as kubectl reads them, with what kubectl loses: which fields are written twice, and where a document is.

Called by `lint`. A mapping becomes `Fields`, so that repeated names are known; dates stay texts, as in JSON; a list
kind of Kubernetes is taken apart.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from driver.core import quoting
from driver.core.configuring import texts
from driver.core.configuring.texts import Fields
from driver.core.quoting import Written
from driver.core.reviewing.findings import Finding
from driver.model.errors import InvalidInput

STDIN: Final = "-"
_SUFFIXES: Final = (".yaml", ".yml", ".json")
_STDIN_NAME: Final = "standard input"
_OPAQUE: Final = "parameters"
_MERGE: Final = "tag:yaml.org,2002:merge"
_MAX_DEPTH: Final = 100
_MAX_VALUES: Final = 200_000
"""Values of one document. Aliases of YAML can make a short text endless."""
_KEYS: Final = {None: "null", True: "true", False: "false"}


@dataclass(frozen=True, slots=True)
class Document:
    """One object of a file."""

    file: str
    number: int
    """Counted from 1 within the file; the items of a list have that of the list."""
    content: Fields
    path: str = ""
    """Of an item within its list: `items[3].`."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A document that cannot be read."""

    file: str
    number: int
    finding: Finding


class _Loader(yaml.SafeLoader):
    """SafeLoader that keeps repeated names, and dates as texts."""

    yaml_implicit_resolvers = {
        letter: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_fields(self, node: yaml.MappingNode) -> Fields:
        """Build a mapping with all that stands inside of it, so that one that holds itself is refused."""
        own = [key for key, _ in node.value if key.tag != _MERGE]
        self.flatten_mapping(node)
        pairs = [
            (_name(self.construct_object(key, deep=True)), self.construct_object(item, deep=True))
            for key, item in node.value
        ]
        merged, written = dict(pairs[: len(pairs) - len(own)]), pairs[len(pairs) - len(own) :]
        names = {name for name, _ in written}
        return Fields([*((name, value) for name, value in merged.items() if name not in names), *written])


_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.construct_fields)


def list_files(name: str) -> list[str]:
    """Return the files of a folder and its folders that kubectl would read, or the file itself.

    Raises `InvalidInput` if there is nothing of that name, or nothing to read in it.
    """
    path = Path(name)
    if name == STDIN or path.is_file():
        return [name]
    if not path.exists():
        raise InvalidInput("file", name, "a file or folder that exists, or - for standard input")
    found = sorted(str(each) for each in path.rglob("*") if each.suffix in _SUFFIXES and each.is_file())
    if not found:
        raise InvalidInput("file", name, f"a folder with files that end in {', '.join(_SUFFIXES)}")
    return found


def read(file: str) -> Iterator[Document | Broken]:
    """Yield the objects of a file. Raises `InvalidInput` if the file itself cannot be read."""
    shown = _STDIN_NAME if file == STDIN else file
    try:
        text = sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes()
    except OSError as error:
        raise InvalidInput("file", file, f"a file that can be read ({error.strerror})") from error
    number = 0
    try:
        for number, content in enumerate(_parse(text), start=1):
            if content is not None:
                yield from _open(content, shown, number)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        yield Broken(shown, number + 1, Finding("document", f"is no YAML: {reason}"))


def _parse(text: bytes) -> Iterator[object]:
    """Yield the documents of a text. What looks like JSON is read as JSON if it can be, as kubectl does."""
    if text.lstrip().startswith(b"{"):
        with contextlib.suppress(ValueError):
            yield texts.parse(text.decode())
            return
    yield from yaml.load_all(text, _Loader)


def write_json(document: object) -> bytes:
    """Return a document as JSON, with what is repeated repeated. Raises `InvalidInput` for one that is endless."""
    return _Writer().write(document, 0, opaque=False).encode("utf-8", "surrogatepass")


class _Writer:
    """Writes one document."""

    def __init__(self) -> None:
        self._left = _MAX_VALUES

    def write(self, value: object, depth: int, *, opaque: bool) -> str:
        """Write a value. Outside of opaque parameters a field that is null is left out, as the API server does."""
        self._left -= 1
        if depth > _MAX_DEPTH or self._left < 0:
            allowed = f"at most {_MAX_DEPTH} levels and {_MAX_VALUES} values"
            raise InvalidInput("document", Written("more"), allowed)
        if isinstance(value, Fields):
            parts = [
                f"{json.dumps(name)}: {self.write(item, depth + 1, opaque=opaque or name == _OPAQUE)}"
                for name, item in value.pairs
                if opaque or item is not None
            ]
            return f"{{{', '.join(parts)}}}"
        if isinstance(value, list | tuple | set):
            return f"[{', '.join(self.write(item, depth + 1, opaque=opaque) for item in value)}]"
        if isinstance(value, Written):
            return value.text
        if isinstance(value, bytes):
            return json.dumps(value.decode("ascii", "backslashreplace"))
        return json.dumps(value, default=str)


def _open(content: object, file: str, number: int, path: str = "") -> Iterator[Document | Broken]:
    """Yield a document, or the items of one that is a list."""
    if not isinstance(content, Fields):
        text = f"{quoting.show(content)!r} is not allowed; allowed: an object with apiVersion and kind"
        yield Broken(file, number, Finding(f"{path}document", text))
        return
    items = content.get("items")
    if str(content.get("kind", "")).endswith("List") and isinstance(items, list):
        for index, item in enumerate(items):
            yield from _open(item, file, number, f"{path}items[{index}].")
    else:
        yield Document(file, number, content, path)


def _name(key: object) -> str:
    """Return the key of a mapping as kubectl writes it in JSON."""
    if isinstance(key, bool) or key is None:
        return _KEYS[key]
    return key if isinstance(key, str) else str(key)


def list_repeated(value: object, path: str = "") -> Iterator[Finding]:
    """Yield the fields of a document that are written more than once, outside of opaque parameters."""
    if isinstance(value, Fields):
        for name in value.repeated:
            yield Finding(f"{path}{name}", "is written several times; each field may be written once")
        for name, item in value.items():
            if name != _OPAQUE:
                yield from list_repeated(item, f"{path}{name}.")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from list_repeated(item, f"{path.removesuffix('.')}[{index}].")
