"""Selectors inside objects: node selectors of core/v1 and device selectors in CEL.

Called by the strategies of slices, claims and classes.
"""

from __future__ import annotations

from typing import Final

from driver.simulation.apiserver.checking import (
    Faults,
    check_list,
    check_rules,
    forbidden,
    invalid,
    qualified_name_rules,
    required,
    too_long,
)
from driver.simulation.apiserver.go_values import dump_list
from driver.simulation.apiserver.strategies.base import CelFault
from driver.simulation.apiserver.values import Json, items, obj, text

MAX_EXPRESSION: Final = 10 * 1024
MAX_SELECTORS: Final = 32
TOO_COMPLEX: Final = "too complex, exceeds cost limit"
_OPERATORS: Final = frozenset({"In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"})


def check_node_selector(value: Json, path: str) -> Faults:
    """A core/v1 NodeSelector."""
    terms = items(obj(value).get("nodeSelectorTerms"))
    if not terms:
        return [required(f"{path}.nodeSelectorTerms", "must have at least one node selector term")]
    return check_list(f"{path}.nodeSelectorTerms", terms, _check_term)


def check_single_term(value: Json, path: str) -> Faults:
    """The same, with exactly one term."""
    faults = check_node_selector(value, path)
    terms = obj(value).get("nodeSelectorTerms")
    if len(items(terms)) != 1:
        shown = dump_list("NodeSelectorTerm", items(terms))
        faults.append(invalid(f"{path}.nodeSelectorTerms", shown, "must have exactly one node selector term"))
    return faults


def _check_term(value: Json, path: str) -> Faults:
    faults = check_list(f"{path}.matchExpressions", obj(value).get("matchExpressions"), _check_expression)
    return faults + check_list(f"{path}.matchFields", obj(value).get("matchFields"), _check_field)


def _check_expression(value: Json, path: str) -> Faults:
    term = obj(value)
    operator, values = text(term.get("operator")), items(term.get("values"))
    faults: Faults = []
    if operator in {"In", "NotIn"} and not values:
        faults.append(required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
    elif operator in {"Exists", "DoesNotExist"} and values:
        faults.append(forbidden(f"{path}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"))
    elif operator in {"Gt", "Lt"} and len(values) != 1:
        faults.append(required(f"{path}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'"))
    elif operator not in _OPERATORS:
        faults.append(invalid(f"{path}.operator", operator, "not a valid selector operator"))
    return faults + check_rules(f"{path}.key", text(term.get("key")), qualified_name_rules)


def _check_field(value: Json, path: str) -> Faults:
    term = obj(value)
    operator = text(term.get("operator"))
    faults: Faults = []
    if operator not in {"In", "NotIn"}:
        faults.append(invalid(f"{path}.operator", operator, "not a valid selector operator"))
    elif len(items(term.get("values"))) != 1:
        why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        faults.append(required(f"{path}.values", why))
    if term.get("key") != "metadata.name":
        faults.append(invalid(f"{path}.key", text(term.get("key")), "not a valid field selector key"))
    return faults


def check_selectors(value: Json, path: str, cel_fault: CelFault) -> Faults:
    """DeviceSelectors of a request or class."""
    return check_list(path, value, lambda entry, at: _check_selector(entry, at, cel_fault), MAX_SELECTORS)


def _check_selector(value: Json, path: str, cel_fault: CelFault) -> Faults:
    cel = obj(value).get("cel")
    if cel is None:
        return [required(f"{path}.cel")]
    expression = text(obj(cel).get("expression"))
    at = f"{path}.cel.expression"
    if len(expression.encode()) > MAX_EXPRESSION:
        return [too_long(at, MAX_EXPRESSION)]
    fault = cel_fault(expression)
    if fault is None:
        return []
    return [forbidden(at, fault) if fault == TOO_COMPLEX else invalid(at, expression, fault)]
