"""CEL for this server: admission policies and the compile check of device selectors, on the project's own CEL.

The only module here that knows `driver.core.cel`. Programs are compiled once an expression.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from driver.core import cel
from driver.simulation.apiserver.policies import EvaluationFailed


@functools.lru_cache(maxsize=1024)
def _program(expression: str) -> cel.Program | cel.CompileError:
    try:
        return cel.compile(expression)
    except cel.CompileError as error:
        return error


def evaluate(expression: str, variables: Mapping[str, object]) -> object:
    """The value of an admission expression. Raises `EvaluationFailed`."""
    program = _program(expression)
    if isinstance(program, cel.CompileError):
        raise EvaluationFailed(f"compilation failed: {program}")
    try:
        return program.evaluate(variables)
    except cel.EvaluationError as error:
        raise EvaluationFailed(str(error)) from None


@functools.lru_cache(maxsize=1024)
def selector_fault(expression: str) -> str | None:
    """What is wrong with a device selector, in the words of the API server; None if it compiles."""
    try:
        cel.compile_selector(expression)
    except cel.CompileError as error:
        return f"compilation failed: {_located(expression, error)}"
    return None


def _located(expression: str, error: cel.CompileError) -> str:
    """The error as cel-go shows it: line and column, the source line, a caret below."""
    if error.position is None:
        return error.reason
    before = expression[: error.position]
    line, column = before.count("\n"), len(before) - (before.rfind("\n") + 1)
    source = expression.split("\n")[line]
    shown = f"\n | {source}\n | {'.' * column}^" if source else ""
    return f"ERROR: <input>:{line + 1}:{column + 1}: {error.reason}{shown}"
