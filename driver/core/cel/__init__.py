"""CEL, the selector language of Kubernetes, in plain Python.

`compile(expression)` gives a `Program`, `program.evaluate(variables)` its value; `compile_selector` and `matches` are
the two for devices. Expressions come from users: nothing here trusts their length, depth or regular expressions.
"""

from __future__ import annotations

from driver.core.cel.devices import View, matches, view
from driver.core.cel.errors import CelError, CompileError, EvaluationError, MissingKey
from driver.core.cel.guards import guard
from driver.core.cel.programs import (
    Program,
    admission_error,
    compile,  # noqa: A004 - the word of the field
    compile_selector,
    max_cost,
)

__all__ = [
    "CelError",
    "CompileError",
    "EvaluationError",
    "MissingKey",
    "Program",
    "View",
    "admission_error",
    "compile",
    "compile_selector",
    "guard",
    "matches",
    "max_cost",
    "view",
]
