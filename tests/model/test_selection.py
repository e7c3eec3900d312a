"""Nodes are selected as Kubernetes selects them."""

from __future__ import annotations

import pytest

from driver.model.selection import NodeSelector, Requirement, Term


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
    assert selector.matches("node-1", {"zone": "a", "gpus": "8"}) is matches


def test_terms_are_alternatives_and_requirements_are_not() -> None:
    zone = Requirement(key="zone", operator="Exists")
    name = Requirement(key="metadata.name", operator="In", values=("node-1",))
    both = NodeSelector(node_selector_terms=(Term(match_expressions=(zone,), match_fields=(name,)),))
    either = NodeSelector(node_selector_terms=(Term(match_expressions=(zone,)), Term(match_fields=(name,))))
    here, elsewhere = {"zone": "a"}, dict[str, str]()
    assert both.matches("node-1", here)
    assert not both.matches("node-1", elsewhere)
    assert not both.matches("node-2", here)
    assert either.matches("node-1", elsewhere)
    assert either.matches("node-2", here)
    assert not either.matches("node-2", elsewhere)
    assert not NodeSelector(node_selector_terms=(Term(),)).matches("node-1", here), "an empty term selects nothing"
