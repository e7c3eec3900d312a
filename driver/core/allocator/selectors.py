"""Selectors of classes and requests: does a device match an expression? Asked once per slice and expression.

The verdicts of all devices of a slice are kept with its compiled pool, so they are shared by all nodes and calls, and
go when the slice goes. How an expression is evaluated is an argument: CEL, or a table in tests.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import cast

from driver.core import cel
from driver.core.allocator.devices import Device
from driver.core.cel import CelError, CompileError, EvaluationError, Program
from driver.model.slices import Device as PlainDevice
from driver.model.slices import DeviceAttribute, DeviceCapacity

Evaluate = Callable[[str, Device], bool]
"""Expression and device to verdict. Raises `CelError`."""


@lru_cache(maxsize=1024)
def _compile(expression: str) -> Program | CompileError:
    try:
        return cel.compile_selector(expression)
    except CompileError as error:
        return error


def evaluate(expression: str, device: Device) -> bool:
    """Evaluate a CEL expression on a device. Raises `CelError`."""
    program = _compile(expression)
    if isinstance(program, CompileError):
        raise CompileError(program.reason, program.position)
    view = device.cel_view
    if view is None:
        view = device.cel_view = _view(device)
    return cel.matches(program, cast("cel.View", view))


def _view(device: Device) -> cel.View:
    published = device.published
    for name, attribute in published.attributes.items():
        if (attribute.ints, attribute.bools, attribute.strings, attribute.versions) != (None, None, None, None):
            raise EvaluationError(f"attribute {name}: unsupported attribute value")
    attributes = {
        name: DeviceAttribute(int_=each.int_, bool_=each.bool_, string=each.string, version=each.version)
        for name, each in published.attributes.items()
    }
    capacity = {name: DeviceCapacity(value=each.value) for name, each in published.capacity.items()}
    plain = PlainDevice(name=published.name, attributes=attributes, capacity=capacity)
    return cel.view(device.driver, plain, allow_multiple_allocations=device.is_shareable)


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
