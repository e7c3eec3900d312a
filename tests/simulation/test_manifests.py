"""Manifests are found, read and applied."""

from __future__ import annotations

from pathlib import Path

import pytest

from driver.model.errors import InvalidInput, NotFound
from driver.simulation import manifests


def test_what_ships_is_found() -> None:
    assert manifests.find("base", "deviceclasses.yaml").is_file()
    assert {"single-gpu", "nvlink-pair"} <= {path.name for path in manifests.examples()}
    with pytest.raises(NotFound, match="deploy/none/such is not part of this installation"):
        manifests.find("none", "such")


def test_all_documents_of_all_files_of_a_folder_are_read(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("kind: B\n---\nkind: C\n---\n")
    (tmp_path / "a.yaml").write_text("kind: A\n")
    (tmp_path / "README.md").write_text("# not YAML: [\n")
    assert [each["kind"] for each in manifests.read(tmp_path)] == ["A", "B", "C"]
    assert [each["kind"] for each in manifests.read(tmp_path / "a.yaml")] == ["A"]
    (tmp_path / "a.yaml").write_text("- a list\n")
    with pytest.raises(InvalidInput, match="YAML documents that are objects"):
        manifests.read(tmp_path)
