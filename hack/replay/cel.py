"""Selectors as Kubernetes answered them: result, error or compile error, costs, and what the API server refuses.

A vector has `expression`, `device` {driver, attributes, capacity, allowMultipleAllocations} and `expected`: exactly one
of `result`, `error`, `compile_error`, and perhaps `actual_cost`, `max_cost`, `admission_error`. Texts are not compared.
"""

from __future__ import annotations

import msgspec

from driver.core import cel
from driver.core.cel import CompileError, EvaluationError
from driver.model.published import PublishedDevice
from hack.replay.files import Vector

_KINDS = ("result", "error", "compile_error")


def differences(vector: Vector) -> list[str]:
    """Return what we decide differently, in sentences; nothing if we agree."""
    expected = _mapping(vector["expected"])
    wanted = next(((kind, expected[kind] if kind == "result" else None) for kind in _KINDS if kind in expected), None)
    expression = str(vector["expression"])
    kind, result, costs = _decide(expression, _mapping(vector["device"]))
    found = []
    if (kind, result) != wanted:
        found.append(f"expected {wanted}, got {(kind, result)}: {expression}")
    else:
        found = [
            f"expected {name} {expected[name]}, got {cost}: {expression}"
            for name, cost in costs.items()
            if expected.get(name) is not None and expected[name] != cost
        ]
    refusal = cel.admission_error(expression)
    if (refusal is None) != (expected.get("admission_error") is None):
        found.append(f"expected admission_error {expected.get('admission_error')!r}, got {refusal!r}: {expression}")
    return found


def _decide(expression: str, device: Vector) -> tuple[str, object, dict[str, int]]:
    try:
        selector = cel.compile_selector(expression)
    except CompileError:
        return "compile_error", None, {}
    costs = {"max_cost": cel.max_cost(selector)}
    try:
        view = make_view(device)
        costs["actual_cost"] = selector.trace({"device": view}).cost
        return "result", cel.matches(selector, view), costs
    except EvaluationError:
        return "error", None, costs


def make_view(device: Vector) -> cel.View:
    """Return the view of the device of a vector. Raises `EvaluationError`."""
    parts = {name: device.get(name) or {} for name in ("attributes", "capacity")}
    published = msgspec.convert({"name": "device", **parts}, PublishedDevice)
    shared = bool(device.get("allowMultipleAllocations"))
    return cel.view(str(device["driver"]), published, allow_multiple_allocations=shared)


def _mapping(value: object) -> Vector:
    return value if isinstance(value, dict) else {}
