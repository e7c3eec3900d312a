"""Macros: all, exists, exists_one, filter, map, sortBy, optMap, optFlatMap, cel.bind. Called by compiling.

Each takes its arguments as trees, because it evaluates one of them many times (or lazily) with a new variable.
`all` and `exists` absorb errors of single elements like `&&` and `||` do (CEL language definition, section Macros).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cmp_to_key
from typing import Final

from driver.core.cel import collections, values
from driver.core.cel.errors import CompileError, EvaluationError, no_such_overload
from driver.core.cel.scopes import Evaluator, Frame, Pending, Scope
from driver.core.cel.syntax import Call, Name, Node
from driver.core.cel.values import NONE, Optional, Value, kind_of

Compile = Callable[[Node, Scope], Evaluator]


def expand(call: Call, scope: Scope, compile_node: Compile) -> Evaluator | None:
    """Return the evaluator of a macro call, or None if this call is an ordinary function."""
    if call.target is None:
        return None
    if call.function == "bind" and isinstance(call.target, Name) and call.target.name == "cel":
        return _bind(call, scope, compile_node) if len(call.arguments) == 3 else None
    make = _MACROS.get((call.function, len(call.arguments)))
    if make is None:
        return None
    target = compile_node(call.target, scope)
    inner, slot = scope.bind(_variable(call.arguments[0]))
    bodies = [compile_node(argument, inner) for argument in call.arguments[1:]]
    return make(target, slot, bodies)


def _variable(node: Node) -> str:
    if not isinstance(node, Name):
        raise CompileError("argument must be a simple name", node.position)
    return node.name


def _bind(call: Call, scope: Scope, compile_node: Compile) -> Evaluator:
    name, initial, body = call.arguments
    inner, slot = scope.bind(_variable(name))
    value = Pending(compile_node(initial, scope))
    result = compile_node(body, inner)

    def evaluate(frame: Frame) -> Value:
        frame[slot] = value
        return result(frame)

    return evaluate


def _items(value: Value) -> Iterable[Value]:
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, Mapping):
        return values.keys(value)
    raise no_such_overload("comprehension", kind_of(value))


def _quantified(decisive: bool) -> Callable[[Evaluator, int, list[Evaluator]], Evaluator]:  # noqa: FBT001 - all/exists
    def make(target: Evaluator, slot: int, bodies: list[Evaluator]) -> Evaluator:
        (test,) = bodies

        def evaluate(frame: Frame) -> Value:
            failure: EvaluationError | None = None
            for item in _items(target(frame)):
                frame[slot] = item
                try:
                    verdict = _bool(test(frame))
                except EvaluationError as error:
                    failure = failure or error
                    continue
                if verdict is decisive:
                    return decisive
            if failure is not None:
                raise failure
            return not decisive

        return evaluate

    return make


def _bool(value: Value) -> bool:
    if value is True or value is False:
        return value
    raise no_such_overload("predicate", kind_of(value))


def _exists_one(target: Evaluator, slot: int, bodies: list[Evaluator]) -> Evaluator:
    (test,) = bodies

    def evaluate(frame: Frame) -> Value:
        count = 0
        for item in _items(target(frame)):
            frame[slot] = item
            count += _bool(test(frame))
        return count == 1

    return evaluate


def _filter(target: Evaluator, slot: int, bodies: list[Evaluator]) -> Evaluator:
    (test,) = bodies

    def evaluate(frame: Frame) -> Value:
        kept: list[Value] = []
        for item in _items(target(frame)):
            frame[slot] = item
            if _bool(test(frame)):
                kept.append(item)
        return kept

    return evaluate


def _map(target: Evaluator, slot: int, bodies: list[Evaluator]) -> Evaluator:
    """`list.map(x, result)` and `list.map(x, condition, result)`."""
    result = bodies[-1]
    test = bodies[0] if len(bodies) > 1 else None

    def evaluate(frame: Frame) -> Value:
        results: list[Value] = []
        for item in _items(target(frame)):
            frame[slot] = item
            if test is None or _bool(test(frame)):
                results.append(result(frame))
        return results

    return evaluate


def _sort_by(target: Evaluator, slot: int, bodies: list[Evaluator]) -> Evaluator:
    (key,) = bodies

    sortable = cmp_to_key(collections.order)

    def evaluate(frame: Frame) -> Value:
        ranked: list[tuple[Value, Value]] = []
        for item in values.elements(target(frame)):
            frame[slot] = item
            ranked.append((key(frame), item))
        ranked.sort(key=lambda pair: sortable(pair[0]))
        return [item for _, item in ranked]

    return evaluate


def _opt_map(*, flat: bool) -> Callable[[Evaluator, int, list[Evaluator]], Evaluator]:
    def make(target: Evaluator, slot: int, bodies: list[Evaluator]) -> Evaluator:
        (result,) = bodies

        def evaluate(frame: Frame) -> Value:
            optional = target(frame)
            if not isinstance(optional, Optional):
                raise no_such_overload("optMap", kind_of(optional))
            if not optional.present:
                return NONE
            frame[slot] = optional.content
            return result(frame) if flat else Optional(True, result(frame))

        return evaluate

    return make


_MACROS: Final[Mapping[tuple[str, int], Callable[[Evaluator, int, list[Evaluator]], Evaluator]]] = {
    ("all", 2): _quantified(decisive=False),
    ("exists", 2): _quantified(decisive=True),
    ("exists_one", 2): _exists_one,
    ("existsOne", 2): _exists_one,
    ("filter", 2): _filter,
    ("map", 2): _map,
    ("map", 3): _map,
    ("sortBy", 2): _sort_by,
    ("optMap", 2): _opt_map(flat=False),
    ("optFlatMap", 2): _opt_map(flat=True),
}
