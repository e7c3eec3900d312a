"""Node selectors as slices, devices and allocations carry them, and how they are answered.

Names: Kubernetes v1.36 k8s.io/api core/v1, NodeSelector. Called by the allocator, the controller and the simulation.
"""

from __future__ import annotations

from collections.abc import Mapping

from driver.model.objects import Api


class Requirement(Api, frozen=True):
    """NodeSelectorRequirement."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Say whether labels satisfy it (component-helpers scheduling/corev1/nodeaffinity)."""
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value is not None and value in self.values
            case "NotIn":
                return value is None or value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
            case "Gt" | "Lt":
                return self._compares(value)
        return False

    def _compares(self, value: str | None) -> bool:
        """Compare whole numbers, as strconv.ParseInt reads them."""
        if value is None or len(self.values) != 1:
            return False
        try:
            have, bound = int(value), int(self.values[0])
        except ValueError:
            return False
        return have > bound if self.operator == "Gt" else have < bound


class Term(Api, frozen=True):
    """NodeSelectorTerm: all of its requirements; one without any selects nothing."""

    match_expressions: tuple[Requirement, ...] = ()
    match_fields: tuple[Requirement, ...] = ()

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        """Say whether the node of this name with these labels is selected."""
        if not (self.match_expressions or self.match_fields):
            return False
        return all(each.holds(labels) for each in self.match_expressions) and all(
            each.holds({"metadata.name": name}) for each in self.match_fields
        )


class NodeSelector(Api, frozen=True):
    """NodeSelector: any of its terms."""

    node_selector_terms: tuple[Term, ...] = ()

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        """Say whether the node of this name with these labels is selected."""
        return any(term.matches(name, labels) for term in self.node_selector_terms)
