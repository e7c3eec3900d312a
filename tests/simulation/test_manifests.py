"""Manifests are found, read and applied; nodes are selected as Kubernetes selects them."""

from __future__ import annotations

from pathlib import Path

import pytest

from driver.model.errors import InvalidInput, NotFound
from driver.simulation import manifests
from driver.simulation.objects import Meta, Node
from driver.simulation.resources import NodeSelector, Requirement, Slice, Term
from tests.fakes.cluster_objects import device, node, slice_


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


@pytest.mark.parametrize(
    ("requirement", "matches"),
    [
        (Requirement(key="zone", operator="In", values=("a", "b")), True),
        (Requirement(key="zone", operator="In", values=("c",)), False),
        (Requirement(key="none", operator="In", values=("a",)), False),
        (Requirement(key="zone", operator="NotIn", values=("a",)), False),
        (Requirement(key="none", operator="NotIn", values=("a",)), True),
        (Requirement(key="zone", operator="Exists"), True),
        (Requirement(key="none", operator="Exists"), False),
        (Requirement(key="zone", operator="DoesNotExist"), False),
        (Requirement(key="none", operator="DoesNotExist"), True),
        (Requirement(key="gpus", operator="Gt", values=("7",)), True),
        (Requirement(key="gpus", operator="Gt", values=("8",)), False),
        (Requirement(key="gpus", operator="Lt", values=("9",)), True),
        (Requirement(key="zone", operator="Lt", values=("9",)), False),
        (Requirement(key="none", operator="Gt", values=("1",)), False),
        (Requirement(key="zone", operator="Like", values=("a",)), False),
    ],
)
def test_node_selectors(requirement: Requirement, matches: bool) -> None:
    selector = NodeSelector(node_selector_terms=(Term(match_expressions=(requirement,)),))
    assert selector.matches(node(zone="a", gpus="8")) is matches


def test_terms_are_alternatives_and_requirements_are_not() -> None:
    zone = Requirement(key="zone", operator="Exists")
    name = Requirement(key="metadata.name", operator="In", values=("node-1",))
    both = NodeSelector(node_selector_terms=(Term(match_expressions=(zone,), match_fields=(name,)),))
    either = NodeSelector(node_selector_terms=(Term(match_expressions=(zone,)), Term(match_fields=(name,))))
    assert [both.matches(each) for each in (node(zone="a"), node(), node("node-2", zone="a"))] == [True, False, False]
    assert [either.matches(each) for each in (node(), node("node-2", zone="a"), node("node-2"))] == [True, True, False]
    assert not NodeSelector(node_selector_terms=(Term(),)).matches(node()), "an empty term selects nothing"


def test_slices_reach_their_node() -> None:
    local: Slice = slice_(device("a"))
    assert local.reaches(node("node-1"))
    assert not local.reaches(node("node-2"))
    assert not slice_(node="").reaches(Node(metadata=Meta(name="")))
