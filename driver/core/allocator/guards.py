"""Selectors that fail because a device lacks what they read, and the expression that would work.

Called by `explaining`. A missing attribute is an error in CEL, and it ends the scheduling of the whole pod: the author
wants to know which attribute, on which devices, and what to write instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from driver.core.allocator import wording
from driver.core.allocator.devices import Device
from driver.core.allocator.plans import SelectorFailed
from driver.core.allocator.selectors import Evaluate
from driver.core.cel import CelError, MissingKey

_MAX_GUARDS: Final = 8
_KINDS: Final = {"attributes": "attribute", "capacity": "capacity"}


def describe(error: SelectorFailed, faulty: Sequence[Device], evaluate: Evaluate) -> str:
    """Return the error in words for the author of the selector; the error's own where there is nothing to add."""
    missing = error.fault.error
    if not isinstance(missing, MissingKey) or not missing.kind:
        return str(error)
    expressions = error.wanted.shape.class_selectors if error.fault.is_of_class else error.wanted.shape.selectors
    expression = expressions[error.fault.index]
    lacking = [device for device in faulty if _find_missing(expression, [device], evaluate) == missing.path] or [
        error.device
    ]
    names = wording.listed([str(each) for each in lacking], 1)
    have = "has" if len(lacking) == 1 else "have"
    what = f"{names} {have} no {_KINDS.get(missing.kind, missing.kind)} {missing.domain}/{missing.name}"
    better = guard(expression, faulty, evaluate)
    advice = f"; this would work: `{better}`" if better else ""
    return f"{error.where}: selector #{error.fault.index} fails: {what}{advice}"


def guard(expression: str, devices: Sequence[Device], evaluate: Evaluate) -> str:
    """Return the expression with a test for everything that one of the devices lacks; empty if that does not help."""
    guards: list[str] = []
    guarded = expression
    for _ in range(_MAX_GUARDS):
        missing = _find_missing(guarded, devices, evaluate)
        if missing is None:
            return guarded if guards else ""
        if not missing or missing in guards:
            return ""
        guards.append(missing)
        guarded = " && ".join([*(f"has({each})" for each in guards), _group(expression)])
    return ""


def _group(expression: str) -> str:
    """Put an expression in parentheses if something in it binds less than `&&`."""
    return f"({expression})" if "||" in expression or "?" in expression else expression


def _find_missing(expression: str, devices: Sequence[Device], evaluate: Evaluate) -> str | None:
    """Return what the first device lacks that the expression fails for; empty if it fails otherwise, None if never."""
    for device in devices:
        try:
            evaluate(expression, device)
        except MissingKey as error:
            return error.path if error.kind else ""
        except CelError:
            return ""
    return None
