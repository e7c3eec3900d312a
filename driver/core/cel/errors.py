"""What can go wrong with an expression: it does not compile, or it fails on these values.

DriverError
└── CelError
    ├── CompileError      the expression itself is wrong: tell its author
    └── EvaluationError   it fails for this input; in a device selector that aborts the scheduling of the pod
"""

from __future__ import annotations

from driver.model.errors import DriverError


class CelError(DriverError):
    """Base of both."""


class CompileError(CelError):
    """The expression is not valid. `position` counts characters from 0, or is None for the expression as a whole."""

    def __init__(self, reason: str, position: int | None = None) -> None:
        self.reason = reason
        self.position = position
        super().__init__(reason if position is None else f"at character {position + 1}: {reason}")


class EvaluationError(CelError):
    """The expression has no value for this input (missing key, wrong type, overflow)."""


def no_such_overload(function: str, *kinds: str) -> EvaluationError:
    """Return the error for operands of types that the function does not take."""
    return EvaluationError(f"no such overload: {function}({', '.join(kinds)})")
