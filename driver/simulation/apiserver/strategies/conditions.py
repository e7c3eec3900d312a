"""metav1.Condition lists (apimachinery meta/v1/validation)."""

from __future__ import annotations

import re
from typing import Final

from driver.simulation.apiserver.checking import (
    Faults,
    check_rules,
    duplicate,
    invalid,
    qualified_name_rules,
    required,
    unsupported,
)
from driver.simulation.apiserver.values import Json, obj, text

_STATUSES: Final = ("False", "True", "Unknown")
_REASON: Final = re.compile("[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", re.ASCII)
_REASON_TEXT: Final = (
    "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric "
    "characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or "
    "'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is "
    "'[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')"
)


def check_conditions(conditions: list[Json], path: str) -> Faults:
    """Every entry, and no type twice."""
    faults: Faults = []
    seen: set[str] = set()
    for index, entry in enumerate(conditions):
        at = f"{path}[{index}]"
        kind = text(obj(entry).get("type"))
        if kind in seen:
            faults.append(duplicate(f"{at}.type", kind))
        seen.add(kind)
        faults += _check_condition(entry, at)
    return faults


def _check_condition(value: Json, path: str) -> Faults:
    condition = obj(value)
    faults = check_rules(f"{path}.type", text(condition.get("type")), qualified_name_rules)
    if condition.get("status") not in _STATUSES:
        faults.append(unsupported(f"{path}.status", text(condition.get("status")), _STATUSES))
    observed = condition.get("observedGeneration", 0)
    if isinstance(observed, int) and observed < 0:
        faults.append(invalid(f"{path}.observedGeneration", observed, "must be greater than or equal to zero"))
    if condition.get("lastTransitionTime") is None:
        faults.append(required(f"{path}.lastTransitionTime"))
    reason = text(condition.get("reason"))
    if not reason:
        faults.append(required(f"{path}.reason"))
    elif not _REASON.fullmatch(reason):
        faults.append(invalid(f"{path}.reason", reason, _REASON_TEXT))
    return faults
