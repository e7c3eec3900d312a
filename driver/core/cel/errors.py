"""What can go wrong with an expression: it does not compile, or it fails on these values.

DriverError
└── CelError
    ├── CompileError      the expression itself is wrong: tell its author
    └── EvaluationError   it fails for this input; in a device selector that aborts the scheduling of the pod
        ├── MissingKey    an attribute, a capacity or another key is not there
        └── Cancelled     it costs more than is allowed; `&&` and `||` do not absorb it
"""

from __future__ import annotations

from typing import ClassVar

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

    final: ClassVar[bool] = False
    """True if no operator may absorb it."""


class MissingKey(EvaluationError):  # noqa: N818 - what it says, not that it is an error
    """A map has no such key. `kind`, `domain` and `name` say which attribute or capacity it is, else they are empty."""

    def __init__(self, name: object, kind: str = "", domain: str = "") -> None:
        self.name = str(name)
        self.kind = kind
        """`attributes` or `capacity`."""
        self.domain = domain
        super().__init__(f"no such key: {name}" + (f" in {self.container}" if kind else ""))

    @property
    def container(self) -> str:
        """The map that lacks the key, as an expression: `device.attributes["gpu.example.com"]`."""
        return f'device.{self.kind}["{self.domain}"]' if self.kind else ""

    @property
    def path(self) -> str:
        """What is missing, as an expression: `device.attributes["gpu.example.com"].profile`."""
        return f"{self.container}.{self.name}" if self.kind else self.name


class Cancelled(EvaluationError):  # noqa: N818 - cel-go's word
    """The evaluation ends for good: above all, it costs more than the API allows (CELSelectorExpressionMaxCost)."""

    final: ClassVar[bool] = True

    def __init__(self, reason: str = "operation cancelled: actual cost limit exceeded") -> None:
        super().__init__(reason)


def no_such_overload(function: str, *kinds: str) -> EvaluationError:
    """Return the error for operands of types that the function does not take."""
    return EvaluationError(f"no such overload: {function}({', '.join(kinds)})")
