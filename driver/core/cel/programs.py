"""Expressions ready to run. Called through `driver.core.cel` by schedulers, admission policies and explanations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from driver.core.cel import checking, costing, evaluating, generating, parsing, scopes, tracking, validating
from driver.core.cel.checking import Checked
from driver.core.cel.errors import CelError, CompileError, EvaluationError
from driver.core.cel.frames import MISSING, Evaluator, Frame
from driver.core.cel.scopes import Environment
from driver.core.cel.values import Value

MAX_SELECTOR: Final = 10 * 1024
"""Bytes of a new selector (CELSelectorExpressionMaxLength); the scheduler evaluates longer ones that are stored."""
_REMEMBERED: Final = 2048
_MARGIN: Final = 4
"""How many times the strict estimate of a cost an evaluation may really cost."""
_FAST_FAILURES: Final = (
    LookupError,
    TypeError,
    AttributeError,
    ValueError,
    ArithmeticError,
    RecursionError,
    EvaluationError,
)
"""What generated code may raise; the interpreter then gives the exact answer."""
Fast = Callable[[Value], Value]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an evaluation gave: a value or an error, and what it cost in units of the API."""

    value: Value
    error: EvaluationError | None
    cost: int


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled expression; evaluating it changes nothing and may happen in several threads at once."""

    expression: str
    checked: Checked = field(repr=False)
    names: tuple[str, ...]
    """Variables it may use; what `evaluate` is not given fails only where it is read."""
    _frame_size: int
    _evaluate: Evaluator = field(repr=False)
    _fast: Fast | None = field(default=None, repr=False)
    """The expression as Python; None if there is none, or if costs have to be counted."""

    @property
    def is_fast(self) -> bool:
        """True if there is generated code for it."""
        return self._fast is not None

    def evaluate(self, variables: Mapping[str, Value]) -> Value:
        """Return the value of the expression. Raises `EvaluationError`, never RecursionError."""
        return self._run(self._frame(variables))

    def evaluate_device(self, device: Value) -> Value:
        """Return the value of the expression for the variable `device`. Raises `EvaluationError`."""
        if self._fast is not None:
            try:
                return self._fast(device)
            except _FAST_FAILURES:
                pass
        return self._run(self._frame({"device": device}))

    def trace(self, variables: Mapping[str, Value]) -> Outcome:
        """Evaluate and say what it cost."""
        frame = self._frame(variables)
        try:
            value, error = self._run(frame), None
        except EvaluationError as failure:
            value, error = None, failure
        cost = frame[0]
        return Outcome(value, error, cost if isinstance(cost, int) else 0)

    def _frame(self, variables: Mapping[str, Value]) -> Frame:
        frame: Frame = [0, *(variables.get(name, MISSING) for name in self.names)]
        frame += [None] * (self._frame_size - len(frame))
        return frame

    def _run(self, frame: Frame) -> Value:
        try:
            return self._evaluate(frame)
        except RecursionError as error:
            raise EvaluationError("the expression is nested too deeply for this stack") from error
        except UnicodeError as error:
            raise EvaluationError(f"a text is no valid Unicode: {error}") from error


def _compile(expression: str, environment: Environment) -> Program:
    try:
        checked = checking.check(parsing.parse(expression), environment)
        validating.validate(checked)
        planner = evaluating.Planner(checked)
        evaluate = planner.plan(checked.root)
        fast = _generate(checked, planner)
    except RecursionError as error:
        raise CompileError("the expression is nested too deeply for this stack") from error
    except UnicodeError as error:
        raise CompileError(f"a text is no valid Unicode: {error}") from error
    return Program(expression, checked, tuple(environment.variables), planner.size, evaluate, fast)


def _generate(checked: Checked, planner: evaluating.Planner) -> Fast | None:
    """Return generated code for a selector that cannot cost too much."""
    if tuple(checked.environment.variables) != ("device",):
        return None
    if costing.estimate(checked, strict=True) * _MARGIN > tracking.LIMIT:
        return None
    return generating.generate(checked, planner.constants)


def compile(expression: str, environment: Environment = scopes.ALL) -> Program:  # noqa: A001 - the word of the field
    """Compile an expression (default: over the variables of device selectors and of admission policies).

    Raises `CompileError` for anything that is not CEL, not declared or of wrong types; never RecursionError.
    """
    return _compile(expression, environment)


@lru_cache(maxsize=_REMEMBERED)
def _selector(expression: str, *, list_attributes: bool) -> Program | CompileError:
    environment = scopes.LIST_DEVICE if list_attributes else scopes.DEVICE
    try:
        program = _compile(expression, environment)
    except CompileError as error:
        return error
    result = program.checked.types[program.checked.root]
    if result.kind in ("bool", "any", "dyn" if list_attributes else "bool"):
        return program
    return CompileError(f"must evaluate to bool or the unknown type, not {result}")


def compile_selector(expression: str, *, list_attributes: bool = False) -> Program:
    """Compile the selector of a DeviceClass or request: it knows `device` only and must give a bool.

    `list_attributes`: whether attributes may be lists and `includes` exists (feature gate DRAListTypeAttributes).
    Programs are remembered. Raises `CompileError`.
    """
    found = _selector(expression, list_attributes=list_attributes)
    if isinstance(found, CompileError):
        raise CompileError(found.reason, found.position)
    return found


def max_cost(program: Program) -> int:
    """Return what the API server estimates that a selector costs at most, in units of the API."""
    return costing.estimate(program.checked)


def admission_error(expression: str, *, list_attributes: bool = False) -> str | None:
    """Say why the API server refuses a new selector (length, does not compile, cost); None if it takes it."""
    size = len(expression.encode(errors="surrogatepass"))
    if size > MAX_SELECTOR:
        return f"Too long: may not be more than {MAX_SELECTOR} bytes"
    try:
        cost = max_cost(compile_selector(expression, list_attributes=list_attributes))
    except CelError as error:
        return f"compilation failed: {error}"
    if cost > tracking.LIMIT:
        return f"too complex, exceeds cost limit: {cost} is more than {tracking.LIMIT}"
    return None
