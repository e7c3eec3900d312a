"""Selectors of classes and requests: does a device match an expression?

Called by `candidates`, which keeps the verdicts of all devices with their compiled pool: they are shared by all nodes
and calls, and go when the slices go. How an expression is evaluated is an argument: CEL, or a table in tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from driver.core import cel
from driver.core.allocator.devices import Device
from driver.core.cel import CelError, CompileError

Evaluate = Callable[[str, Device], bool]
"""Expression and device to verdict. Raises `CelError`."""


def evaluate(expression: str, device: Device) -> bool:
    """Evaluate a CEL expression on a device. Raises `CelError`."""
    return _evaluate(expression, device, with_lists=False)


def evaluate_with_lists(expression: str, device: Device) -> bool:
    """The same where attributes may be lists (DRAListTypeAttributes). Raises `CelError`."""
    return _evaluate(expression, device, with_lists=True)


def _evaluate(expression: str, device: Device, *, with_lists: bool) -> bool:
    program = cel.compile_selector(expression, list_attributes=with_lists)
    view = device.cel_view
    if view is None:
        view = device.cel_view = cel.view(device.driver, device.published, list_attributes=with_lists)
    return cel.matches(program, cast("cel.View", view))


class SelectorFault:
    """A selector that has no verdict for a device: reaching the device ends the scheduling of the pod."""

    __slots__ = ("error", "index", "is_of_class")

    def __init__(self, error: CelError, index: int, *, is_of_class: bool) -> None:
        self.error = error
        self.index = index
        self.is_of_class = is_of_class

    def __str__(self) -> str:
        kind = "compile" if isinstance(self.error, CompileError) else "runtime"
        return f"CEL {kind} error: {self.error}"
