"""Reads our Markdown files: code blocks with their tags, links. Used by the tests of the documents."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
DOCUMENTS: Final = (
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
)
_FENCE: Final = re.compile(
    r"^ *```(?P<language>\w*)[ ]*(?P<tag>[^\n]*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL
)
_LINK: Final = re.compile(r"\]\(([^)#\s]+)(?:#([^)\s]+))?\)")


@dataclass(frozen=True)
class Block:
    """One fenced block: ```language tag."""

    document: Path
    line: int
    language: str
    tag: str
    text: str

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The commands of a console block (behind `$` or `#`, continued with a backslash); output is left out."""
        lines = (line.strip() for line in self.text.replace("\\\n", " ").splitlines())
        return [line[2:].strip() for line in lines if line.startswith(("$ ", "# "))]

    @property
    def output(self) -> list[str]:
        """What a console block says that its commands print; `...` stands for lines that are not shown."""
        lines = (line.rstrip() for line in self.text.replace("\\\n", " ").splitlines())
        return [line for line in lines if line and line != "..." and not line.lstrip().startswith(("$ ", "# "))]


def read_blocks(document: Path) -> list[Block]:
    """Return all fenced blocks of a document in order."""
    text = document.read_text()
    return [
        Block(document, text.count("\n", 0, match.start()) + 1, match["language"], match["tag"].strip(), match["text"])
        for match in _FENCE.finditer(text)
    ]


def read_links(document: Path) -> list[str]:
    """Return the targets of links that are files of ours."""
    return [target for target, _ in _LINK.findall(document.read_text()) if "://" not in target]


def split(command: str) -> list[str]:
    """Return the words of a command."""
    return shlex.split(command)
