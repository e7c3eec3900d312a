"""CEL, the selector language of Kubernetes, in plain Python.

`compile(expression)` gives a `Program`, `program.evaluate(variables)` its value; `compile_selector` and `matches` are
the two for devices. Expressions come from users: nothing here trusts their length, depth or regular expressions.
"""

from __future__ import annotations

from driver.core.cel.devices import View, matches, view
from driver.core.cel.errors import CelError, CompileError, EvaluationError
from driver.core.cel.programs import Program, compile, compile_selector  # noqa: A004 - the word of the field

__all__ = [
    "CelError",
    "CompileError",
    "EvaluationError",
    "Program",
    "View",
    "compile",
    "compile_selector",
    "matches",
    "view",
]
