"""The documents hold together: links lead somewhere, pictures are drawings, names are those of the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import pytest

from driver import __version__
from driver.model import vocabulary
from tests.docs.blocks import DOCUMENTS, ROOT, read_links

NAMES: Final = [str(document.relative_to(ROOT)) for document in DOCUMENTS]


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_links_lead_to_files_and_headings(document: Path) -> None:
    text = document.read_text()
    for target in read_links(document):
        assert (document.parent / target).exists(), target
    for target, heading in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", text):
        headings = re.findall(
            r"^#+ (.+)$", (document.parent / target if target else document).read_text(), re.MULTILINE
        )
        assert heading in {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_lines_and_words_are_plain(document: Path) -> None:
    text = document.read_text()
    assert not re.search(r"\b(simply|obviously|just|leverage|utilize|robust|seamless\w*)\b", text, re.IGNORECASE)
    for line in text.splitlines():
        assert len(line) <= 160 or line.startswith("|"), line


def test_the_architecture_fits_on_a_page() -> None:
    assert len((ROOT / "docs" / "architecture.md").read_text().splitlines()) <= 75


def test_the_architecture_names_every_folder() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for folder in (ROOT / "driver").iterdir():
        if folder.is_dir() and not folder.name.startswith("__"):
            assert f"`{folder.name}`" in text, folder.name


def test_the_picture_is_a_drawing_that_names_folders_of_ours() -> None:
    drawing = ET.fromstring((ROOT / "docs" / "architecture.svg").read_text())
    texts = [element.text or "" for element in drawing.iter() if element.tag.endswith("text")]
    folders = [word.rstrip("/") for text in texts for word in text.split() if word.endswith("/")]
    assert len(folders) >= 6
    for folder in folders:
        assert (ROOT / "driver" / folder).is_dir(), folder
    width, height = (float(size) for size in drawing.attrib["viewBox"].split()[2:])
    for element in drawing.iter():
        if element.tag.endswith("rect") and "x" in element.attrib:
            assert float(element.attrib["x"]) + float(element.attrib["width"]) <= width
            assert float(element.attrib["y"]) + float(element.attrib["height"]) <= height


def test_the_readme_begins_with_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert text.index("./hack/demo") < text.index("./hack/test") < text.index("kubectl apply")


def test_the_changelog_speaks_of_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## \[{re.escape(__version__)}\]", text, re.MULTILINE)
    assert f"Vocabulary {vocabulary.SPEC_VERSION}" in text


def test_operations_names_every_component() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    for component in (ROOT / "deploy" / "components").iterdir():
        assert f"`{component.name}`" in text, component.name


def test_decisions_name_every_dependency() -> None:
    text = (ROOT / "docs" / "decisions.md").read_text()
    for name in ("grpcio", "protobuf", "urllib3", "msgspec", "prometheus-client", "nvidia-ml-py", "click", "rich"):
        assert name in text
    for name in ("aiohttp", "google-re2", "kubernetes", "hatchling", "structlog"):
        assert name in text
