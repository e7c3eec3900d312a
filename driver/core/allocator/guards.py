"""Selectors that fail because a device lacks what they read, and the expression that would work.

Called by `explaining` and by `core.reviewing`. A missing attribute is an error in CEL, and it ends the scheduling of
the whole pod: the author wants to know which attribute, on which devices, and what to write instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from driver.core import cel
from driver.core.allocator import misses, wording
from driver.core.allocator.devices import Device
from driver.core.allocator.plans import SelectorFailed
from driver.core.allocator.selectors import Evaluate
from driver.core.cel import CelError, MissingKey

_T = TypeVar("_T")

_MAX_GUARDS: Final = 8
_QUANTITIES: Final = "applied to '(kubernetes.Quantity, kubernetes.Quantity)'"
_COMPARING: Final = "; quantities are compared with a.compareTo(b) >= 0, a.isGreaterThan(b) or a.isLessThan(b)"
_KINDS: Final = {"attributes": "attribute", "capacity": "capacity"}


def describe(error: SelectorFailed, faulty: Sequence[Device], evaluate: Evaluate) -> str:
    """Return the error in words for the author of the selector; the error's own where there is nothing to add."""
    missing = error.fault.error
    if not isinstance(missing, MissingKey) or not missing.kind:
        return f"{error}{_COMPARING if _QUANTITIES in str(error) else ''}"
    expressions = error.wanted.shape.class_selectors if error.fault.is_of_class else error.wanted.shape.selectors
    expression = expressions[error.fault.index]
    lacking = [device for device in faulty if _lacks(expression, device, missing.path, evaluate)] or [error.device]
    names = wording.listed([str(each) for each in lacking], 1)
    have = "has" if len(lacking) == 1 else "have"
    what = f"{names} {have} no {_KINDS.get(missing.kind, missing.kind)} {missing.domain}/{missing.name}"
    what += misses.suggest_attribute(f"{missing.domain}/{missing.name}", lacking, missing.kind)
    better = guard(expression, faulty, evaluate)
    advice = f"; this would work: `{better}`" if better else ""
    return f"{error.where}: selector #{error.fault.index} fails: {what}{advice}"


def guard(expression: str, devices: Sequence[_T], evaluate: Callable[[str, _T], bool]) -> str:
    """Return the expression with a test for everything that one of the devices lacks; empty if that does not help."""
    guards: dict[str, MissingKey] = {}
    guarded = expression
    for _ in range(_MAX_GUARDS):
        error = _find_error(guarded, devices, evaluate)
        if error is None:
            return guarded if guards else ""
        if not isinstance(error, MissingKey) or not error.kind or error.path in guards:
            return ""
        guards[error.path] = error
        guarded = expression
        for each in reversed(guards.values()):
            guarded = cel.guard(guarded, each.domain, each.name, kind=each.kind)
    return ""


def _find_error(expression: str, devices: Sequence[_T], evaluate: Callable[[str, _T], bool]) -> CelError | None:
    """Return the error of the first device that the expression fails for, None if it fails for none."""
    for device in devices:
        try:
            evaluate(expression, device)
        except CelError as error:
            return error
    return None


def _lacks(expression: str, device: Device, path: str, evaluate: Evaluate) -> bool:
    error = _find_error(expression, [device], evaluate)
    return isinstance(error, MissingKey) and bool(error.kind) and error.path == path
