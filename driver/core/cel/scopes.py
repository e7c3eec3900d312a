"""Which names an expression may use, and where their values are while it runs. Called by compiling and macros."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from driver.core.cel.errors import CompileError, EvaluationError
from driver.core.cel.values import Value

Frame = list[Value]
"""The values of one evaluation: variables first, then what macros bind. The position of each name is fixed."""
Evaluator = Callable[[Frame], Value]

Variables = Mapping[str, frozenset[str] | None]
"""Declared variables; the fields of those whose type is closed, None for those that hold anything."""

DEVICE: Final[Variables] = {"device": frozenset(("driver", "attributes", "capacity", "allowMultipleAllocations"))}
"""The environment of DeviceClass and ResourceClaim selectors (dynamic-resource-allocation cel/compile.go)."""
ADMISSION: Final[Variables] = dict.fromkeys(
    ("object", "oldObject", "request", "params", "namespaceObject", "variables")
)
"""The environment of ValidatingAdmissionPolicy, without authorizer."""

MISSING: Final = object()
"""Stands in a frame for a declared variable that was not given."""


@dataclass(frozen=True, slots=True)
class Pending:
    """Stands in a frame for a value of cel.bind that nobody has asked for yet."""

    evaluate: Evaluator


@dataclass(slots=True)
class Scope:
    """The names that are visible at one place of the expression, with their positions in the frame."""

    declared: Variables
    positions: dict[str, int]
    frame_size: list[int] = field(default_factory=lambda: [0])
    """Shared by all scopes of one expression: how long its frames have to be."""

    def bind(self, name: str) -> tuple[Scope, int]:
        """Return a scope in which `name` is a new local variable, and its position."""
        position = self.frame_size[0]
        self.frame_size[0] += 1
        return Scope(self.declared, {**self.positions, name: position}, self.frame_size), position

    def fields(self, name: str) -> frozenset[str] | None:
        """Return the fields of a declared variable of closed type; None for others and for locals that hide it."""
        if name not in self.declared or self.positions[name] != list(self.declared).index(name):
            return None
        return self.declared[name]


def top(declared: Variables) -> Scope:
    """Return the outermost scope."""
    return Scope(declared, {name: index for index, name in enumerate(declared)}, [len(declared)])


def read(scope: Scope, name: str, position: int) -> Evaluator:
    """Return what reads a variable. Raises `CompileError` for a name that is not declared."""
    if name not in scope.positions:
        raise CompileError(f"undeclared reference to {name!r}", position)
    slot = scope.positions[name]

    def evaluate(frame: Frame) -> Value:
        value = frame[slot]
        if value is MISSING:
            raise EvaluationError(f"no such attribute: {name}")
        if type(value) is Pending:
            value = frame[slot] = value.evaluate(frame)
        return value

    return evaluate
