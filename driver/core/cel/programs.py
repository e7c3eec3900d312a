"""Expressions ready to run. Called through `driver.core.cel` by schedulers, admission policies and explanations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from driver.core.cel import compiling, parsing, scopes
from driver.core.cel.errors import CompileError, EvaluationError
from driver.core.cel.scopes import MISSING, Evaluator, Frame, Variables
from driver.core.cel.syntax import ListOf, Literal, MapOf
from driver.core.cel.values import Value


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled expression; evaluating it changes nothing and may happen in several threads at once."""

    expression: str
    names: tuple[str, ...]
    """Variables it may use; what `evaluate` is not given fails only where it is read."""
    _frame_size: int
    _evaluate: Evaluator

    def evaluate(self, variables: Mapping[str, Value]) -> Value:
        """Return the value of the expression. Raises `EvaluationError`, never RecursionError."""
        frame: Frame = [variables.get(name, MISSING) for name in self.names]
        frame += [None] * (self._frame_size - len(frame))
        try:
            return self._evaluate(frame)
        except RecursionError as error:
            raise EvaluationError("the expression is nested too deeply for this stack") from error
        except UnicodeError as error:
            raise EvaluationError(f"a text is no valid Unicode: {error}") from error


def compile(expression: str, variables: Variables | None = None) -> Program:  # noqa: A001 - the word of the field
    """Compile an expression over `variables` (default: those of device selectors and of admission policies).

    Raises `CompileError` for anything that is not CEL, not declared or not built here; never RecursionError.
    """
    declared = {**scopes.DEVICE, **scopes.ADMISSION} if variables is None else variables
    scope = scopes.top(declared)
    try:
        evaluate = compiling.compile_node(parsing.parse(expression), scope)
    except RecursionError as error:
        raise CompileError("the expression is nested too deeply for this stack") from error
    except UnicodeError as error:
        raise CompileError(f"a text is no valid Unicode: {error}") from error
    return Program(expression, tuple(declared), scope.frame_size[0], evaluate)


def compile_selector(expression: str) -> Program:
    """Compile the selector of a DeviceClass or request: it knows `device` only and must give a bool.

    Raises `CompileError`.
    """
    node = parsing.parse(expression)
    if isinstance(node, ListOf | MapOf) or (isinstance(node, Literal) and not isinstance(node.value, bool)):
        raise CompileError("must evaluate to bool")
    return compile(expression, scopes.DEVICE)
