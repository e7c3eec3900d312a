"""Macros into comprehensions, as cel-go expands them: its costs and its types follow from the expansion.

Called by parsing for every call. `all`, `exists`, `exists_one`, `existsOne`, `map`, `filter`, two-variable forms,
`transformList`, `transformMap`, `transformMapEntry`, `sortBy`, `optMap`, `optFlatMap`, `cel.bind` and `has`.
Sources: cel-go parser/macro.go, ext/comprehensions.go, ext/lists.go, ext/bindings.go, cel/library.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from driver.core.cel.errors import CompileError
from driver.core.cel.syntax import ACCUMULATOR, Call, Comprehension, ListOf, Literal, Loop, MapOf, Name, Node, Select

_OLD_ACCUMULATOR: Final = "__result__"
_UNUSED: Final = "#unused"
_SORTED: Final = "@__sortBy_input__"
Expand = Callable[[Call, Node], Node]


def expand(call: Call) -> Node:
    """Return what a call stands for: a comprehension if it is a macro, else the call itself. Raises `CompileError`."""
    if call.target is None:
        return _has(call) if call.function == "has" and len(call.arguments) == 1 else call
    if call.function == "bind" and len(call.arguments) == 3:
        is_ours = isinstance(call.target, Name) and call.target.name == "cel"
        return _bind(call) if is_ours else call
    make = _MACROS.get((call.function, len(call.arguments)))
    return call if make is None else make(call, call.target)


def _has(call: Call) -> Node:
    (argument,) = call.arguments
    if not isinstance(argument, Select) or argument.test:
        raise CompileError("invalid argument to has() macro", argument.position)
    return Select(argument.position, argument.operand, argument.field, test=True)


def _variable(node: Node, reason: str = "argument must be a simple name") -> str:
    if not isinstance(node, Name):
        raise CompileError(reason, node.position)
    if node.name == _OLD_ACCUMULATOR:
        raise CompileError("iteration variable overwrites accumulator variable", node.position)
    return node.name


def _variables(call: Call, count: int) -> tuple[str, str]:
    names = [_variable(node) for node in call.arguments[:count]]
    if len(set(names)) < count:
        raise CompileError(f"duplicate variable name: {names[0]}", call.arguments[1].position)
    return names[0], names[1] if count > 1 else ""


def _accumulated(at: int) -> Node:
    return Name(at, ACCUMULATOR)


def _loop(call: Call, range_: Node, names: tuple[str, str], parts: tuple[Node, Node, Node, Node]) -> Node:
    init, condition, step, result = parts
    loop = Loop(names[0], names[1], ACCUMULATOR, init, condition, step, result)
    return Comprehension(call.position, call.function, range_, loop)


def _quantifier(function: str, start: bool, count: int) -> Expand:  # noqa: FBT001 - what all and exists start from
    def make(call: Call, range_: Node) -> Node:
        at = call.position
        names = _variables(call, count)
        going = _accumulated(at) if start else Call(at, "!_", None, (_accumulated(at),))
        condition = Call(at, "@not_strictly_false", None, (going,))
        step = Call(at, function, None, (_accumulated(at), call.arguments[count]))
        return _loop(call, range_, names, (Literal(at, start), condition, step, _accumulated(at)))

    return make


def _exists_one(count: int) -> Expand:
    def make(call: Call, range_: Node) -> Node:
        at = call.position
        names = _variables(call, count)
        more = Call(at, "_+_", None, (_accumulated(at), Literal(at, 1)))
        step = Call(at, "_?_:_", None, (call.arguments[count], more, _accumulated(at)))
        result = Call(at, "_==_", None, (_accumulated(at), Literal(at, 1)))
        return _loop(call, range_, names, (Literal(at, 0), Literal(at, True), step, result))

    return make


def _list(count: int) -> Expand:
    """`map` and `transformList`, with or without a filter before the result."""

    def make(call: Call, range_: Node) -> Node:
        at = call.position
        names = _variables(call, count)
        item = ListOf(at, ((call.arguments[-1], False),))
        step: Node = Call(at, "_+_", None, (_accumulated(at), item))
        step = _filtered(call, count, step)
        return _loop(call, range_, names, (ListOf(at, ()), Literal(at, True), step, _accumulated(at)))

    return make


def _filtered(call: Call, count: int, step: Node) -> Node:
    """Return the step under the condition that stands before the result, if one does."""
    if len(call.arguments) == count + 1:
        return step
    return Call(call.position, "_?_:_", None, (call.arguments[count], step, _accumulated(call.position)))


def _filter(call: Call, range_: Node) -> Node:
    at = call.position
    names = _variables(call, 1)
    item = ListOf(at, ((call.arguments[0], False),))
    step = Call(at, "_+_", None, (_accumulated(at), item))
    step = Call(at, "_?_:_", None, (call.arguments[1], step, _accumulated(at)))
    return _loop(call, range_, names, (ListOf(at, ()), Literal(at, True), step, _accumulated(at)))


def _map_of(*, entries: bool) -> Expand:
    """`transformMap` (the result is the value) and `transformMapEntry` (the result is a map to merge)."""

    def make(call: Call, range_: Node) -> Node:
        at = call.position
        names = _variables(call, 2)
        result = call.arguments[-1]
        inserted = (result,) if entries else (Name(at, names[0]), result)
        step: Node = Call(at, "cel.@mapInsert", None, (_accumulated(at), *inserted))
        step = _filtered(call, 2, step)
        return _loop(call, range_, names, (MapOf(at, ()), Literal(at, True), step, _accumulated(at)))

    return make


def _bound(at: int, name: str, value: Node, result: Node) -> Comprehension:
    """A variable with a value, evaluated when it is first used: a comprehension over nothing."""
    loop = Loop(_UNUSED, "", name, value, Literal(at, False), Name(at, name), result)
    return Comprehension(at, "bind", ListOf(at, ()), loop)


def _bind(call: Call) -> Node:
    name, value, result = call.arguments
    if not isinstance(name, Name):
        raise CompileError("cel.bind() variable names must be simple identifiers", name.position)
    return _bound(call.position, name.name, value, result)


def _opt_map(*, flat: bool) -> Expand:
    def make(call: Call, target: Node) -> Node:
        at = call.position
        variable, result = call.arguments
        if not isinstance(variable, Name):
            raise CompileError(f"{call.function}() variable name must be a simple identifier", variable.position)
        value = _bound(at, variable.name, Call(at, "value", target, ()), result)
        chosen = value if flat else Call(at, "optional.of", None, (value,))
        return Call(at, "_?_:_", None, (Call(at, "hasValue", target, ()), chosen, Call(at, "optional.none", None, ())))

    return make


def _sort_by(call: Call, target: Node) -> Node:
    if isinstance(target, Literal | MapOf):
        reason = "sortBy can only be applied to a list, identifier, comprehension, call or select expression"
        raise CompileError(reason, target.position)
    at = call.position
    keys = _list(1)(Call(at, "map", None, call.arguments), Name(at, _SORTED))
    return _bound(at, _SORTED, target, Call(at, "@sortByAssociatedKeys", Name(at, _SORTED), (keys,)))


_MACROS: Final[Mapping[tuple[str, int], Expand]] = {
    ("all", 2): _quantifier("_&&_", start=True, count=1),
    ("all", 3): _quantifier("_&&_", start=True, count=2),
    ("exists", 2): _quantifier("_||_", start=False, count=1),
    ("exists", 3): _quantifier("_||_", start=False, count=2),
    ("exists_one", 2): _exists_one(1),
    ("exists_one", 3): _exists_one(2),
    ("existsOne", 3): _exists_one(2),
    ("map", 2): _list(1),
    ("map", 3): _list(1),
    ("filter", 2): _filter,
    ("transformList", 3): _list(2),
    ("transformList", 4): _list(2),
    ("transformMap", 3): _map_of(entries=False),
    ("transformMap", 4): _map_of(entries=False),
    ("transformMapEntry", 3): _map_of(entries=True),
    ("transformMapEntry", 4): _map_of(entries=True),
    ("sortBy", 2): _sort_by,
    ("optMap", 2): _opt_map(flat=False),
    ("optFlatMap", 2): _opt_map(flat=True),
}
