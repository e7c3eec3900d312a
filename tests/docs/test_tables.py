"""The tables in the documents are those of the code."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from driver import settings
from driver.cli import commands
from driver.cli.checks.cluster import PERMISSIONS
from driver.cli.explain import EXIT_WAITING
from driver.telemetry.metrics import Metrics
from tests.docs import tables
from tests.docs.blocks import DOCUMENTS, ROOT


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_tables_are_current(document: Path) -> None:
    text = document.read_text()
    assert text == tables.rewrite(text), "run hack/docs"


def test_every_table_is_in_a_document() -> None:
    texts = "".join(document.read_text() for document in DOCUMENTS)
    for name in tables.TABLES:
        assert f"<!-- table: {name} -->" in texts


def test_an_old_table_is_replaced_and_text_around_it_kept() -> None:
    text = "before\n<!-- table: exit codes -->\n| old |\n<!-- end -->\nafter\n"
    assert tables.rewrite(text) == f"before\n<!-- table: exit codes -->\n{tables.write_exits()}<!-- end -->\nafter\n"


def test_every_setting_has_a_row() -> None:
    table = tables.write_settings()
    for field in dataclasses.fields(settings.Settings):
        assert f"`{settings.variable(field)}`" in table
    assert len(table.splitlines()) == len(dataclasses.fields(settings.Settings)) + 2


def test_every_exported_metric_has_a_row() -> None:
    exported = [line.split()[2] for line in Metrics().text().decode().splitlines() if line.startswith("# TYPE")]
    # Prometheus shows the moment of creation as a series of its own.
    for name in [name for name in exported if not name.endswith("_created")]:
        assert f"`{name}`" in tables.write_metrics()


def test_exit_codes_are_those_of_the_command_line() -> None:
    assert {0, commands.EXIT_FAILED, commands.EXIT_USAGE, EXIT_WAITING, 130} == set(tables.EXITS)


def test_permissions_are_the_cluster_role() -> None:
    """The same three ways: what doctor asks for, what the role grants, what the document says."""
    role = next(yaml.safe_load_all((ROOT / "deploy" / "base" / "clusterrole.yaml").read_text()))
    granted = {
        (verb, group, resource)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert granted == {(item.verb, item.group, item.resource) for item in PERMISSIONS}
    assert not any("resourceNames" in rule for rule in role["rules"])


def test_cells_are_safe_markdown() -> None:
    for write in tables.TABLES.values():
        for line in write().splitlines():
            assert line.replace("\\|", "").count("|") == write().splitlines()[0].count("|")
            assert "<" not in line
