"""Tolerations of device taints: in requests and copied into allocation results."""

from __future__ import annotations

from driver.simulation.apiserver.checking import (
    Faults,
    check_rules,
    invalid,
    label_value_rules,
    qualified_name_rules,
    unsupported,
)
from driver.simulation.apiserver.strategies.devices import EFFECTS
from driver.simulation.apiserver.values import Json, obj, text


def check_toleration(value: Json, path: str) -> Faults:
    """A DeviceToleration."""
    toleration = obj(value)
    faults: Faults = []
    if toleration.get("key"):
        faults += check_rules(f"{path}.key", toleration["key"], qualified_name_rules)
    operator, tolerated = text(toleration.get("operator")), toleration.get("value")
    if operator == "Exists":
        if tolerated:
            faults.append(invalid(f"{path}.value", tolerated, "must be empty for operator `Exists`"))
    elif operator == "Equal":
        faults += check_rules(f"{path}.value", text(tolerated), label_value_rules)
    elif operator:
        faults.append(unsupported(f"{path}.operator", operator, ("Equal", "Exists")))
    effect = text(toleration.get("effect"))
    if effect and effect not in EFFECTS:
        faults.append(unsupported(f"{path}.effect", effect, EFFECTS))
    return faults
