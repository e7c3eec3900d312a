"""Trees into closures. Called through `driver.core.cel`; the middle of the language.

Each node becomes a function of the frame, once; evaluating only calls them. Unknown names, functions, numbers of
arguments and fields are found here, types at evaluation (a type checker is to come).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from driver.core.cel import library, macros, operators, texts, values
from driver.core.cel.conversions import TYPE_NAMES, Overloads
from driver.core.cel.errors import CelError, CompileError, EvaluationError, no_such_overload
from driver.core.cel.scopes import Evaluator, Frame, Scope, read
from driver.core.cel.syntax import Call, Conditional, Index, Junction, ListOf, Literal, MapOf, Name, Node, Select
from driver.core.cel.values import NONE, Optional, TypeName, Value, kind_of

_FOLDED: Final = frozenset(("int", "uint", "double", "string", "bool", "bytes"))
"""Conversions of constants are evaluated at once, so that `int('x')` does not compile."""
_REGEX: Final = frozenset(("matches", "find", "findAll"))


def compile_node(node: Node, scope: Scope) -> Evaluator:
    """Return what evaluates a node. Raises `CompileError`."""
    if isinstance(node, Literal):
        return _constant(node.value)
    if isinstance(node, Name):
        return _name(node, scope)
    if isinstance(node, Call):
        return _call(node, scope)
    return _COMPOUND[type(node)](node, scope)


def _constant(value: Value) -> Evaluator:
    return lambda _: value


def _name(node: Name, scope: Scope) -> Evaluator:
    if node.name in TYPE_NAMES and node.name not in scope.positions:
        return _constant(TypeName(node.name))
    return read(scope, node.name, node.position)


def _select(node: Select, scope: Scope) -> Evaluator:
    _check_field(node, scope)
    operand, field = compile_node(node.operand, scope), node.field
    if node.optional:
        return lambda frame: _find(operand(frame), field)
    return lambda frame: _get(operand(frame), field)


def _check_field(node: Select, scope: Scope) -> None:
    fields = scope.fields(node.operand.name) if isinstance(node.operand, Name) else None
    if fields is not None and node.field not in fields:
        raise CompileError(f"undefined field {node.field!r}", node.position)


def _index(node: Index, scope: Scope) -> Evaluator:
    operand, key = compile_node(node.operand, scope), compile_node(node.key, scope)
    if node.optional:
        return lambda frame: _find(operand(frame), key(frame))
    return lambda frame: _get(operand(frame), key(frame))


def _get(container: Value, key: Value) -> Value:
    if isinstance(container, Optional):
        return _find(container, key)
    return values.get(container, key)


def _find(container: Value, key: Value) -> Optional:
    if isinstance(container, Optional):
        return values.find(container.content, key) if container.present else NONE
    return values.find(container, key)


def _junction(node: Junction, scope: Scope) -> Evaluator:
    """`&&` and `||`: the deciding value wins over errors on either side."""
    terms = [compile_node(term, scope) for term in node.terms]
    decisive = node.operator == "||"
    name = f"_{node.operator}_"

    def evaluate(frame: Frame) -> Value:
        failure: EvaluationError | None = None
        for term in terms:
            try:
                value = term(frame)
            except EvaluationError as error:
                failure = failure or error
                continue
            if value is decisive:
                return decisive
            if value is not (not decisive):
                failure = failure or no_such_overload(name, kind_of(value))
        if failure is not None:
            raise failure
        return not decisive

    return evaluate


def _conditional(node: Conditional, scope: Scope) -> Evaluator:
    condition = compile_node(node.condition, scope)
    chosen, otherwise = compile_node(node.chosen, scope), compile_node(node.otherwise, scope)

    def evaluate(frame: Frame) -> Value:
        value = condition(frame)
        if value is True:
            return chosen(frame)
        if value is False:
            return otherwise(frame)
        raise no_such_overload("_?_:_", kind_of(value))

    return evaluate


def _list(node: ListOf, scope: Scope) -> Evaluator:
    items = [(compile_node(element, scope), optional) for element, optional in node.elements]

    def evaluate(frame: Frame) -> Value:
        made: list[Value] = []
        for item, optional in items:
            value = item(frame)
            if not optional:
                made.append(value)
            elif _unwrapped(value).present:
                made.append(_unwrapped(value).content)
        return made

    return evaluate


def _map(node: MapOf, scope: Scope) -> Evaluator:
    pairs = [(compile_node(key, scope), compile_node(value, scope), optional) for key, value, optional in node.entries]

    def evaluate(frame: Frame) -> Value:
        made: dict[Value, Value] = {}
        for key, content, optional in pairs:
            value = content(frame)
            if not optional:
                made[values.key_of(key(frame))] = value
            elif _unwrapped(value).present:
                made[values.key_of(key(frame))] = _unwrapped(value).content
        return made

    return evaluate


def _unwrapped(value: Value) -> Optional:
    if not isinstance(value, Optional):
        raise no_such_overload("optional entry", kind_of(value))
    return value


_COMPOUND: Final[Mapping[type[Node], Callable[..., Evaluator]]] = {
    Select: _select,
    Index: _index,
    Junction: _junction,
    Conditional: _conditional,
    ListOf: _list,
    MapOf: _map,
}


def _call(node: Call, scope: Scope) -> Evaluator:
    if node.target is None and node.function in operators.BINARY and len(node.arguments) == 2:
        return _binary(node, scope)
    if node.target is None and node.function in operators.UNARY:
        operate, operand = operators.UNARY[node.function], compile_node(node.arguments[0], scope)
        return lambda frame: operate(operand(frame))
    if node.target is None and node.function == "has":
        return _has(node, scope)
    return macros.expand(node, scope, compile_node) or _function(node, scope)


def _binary(node: Call, scope: Scope) -> Evaluator:
    operate = operators.BINARY[node.function]
    left, right = (compile_node(argument, scope) for argument in node.arguments)
    return lambda frame: operate(left(frame), right(frame))


def _has(node: Call, scope: Scope) -> Evaluator:
    """`has(a.b)`: whether the field is there; a missing `a` is still an error."""
    if len(node.arguments) != 1 or not isinstance(node.arguments[0], Select) or node.arguments[0].optional:
        raise CompileError("invalid argument to has() macro", node.position)
    select = node.arguments[0]
    _check_field(select, scope)
    operand, field = compile_node(select.operand, scope), select.field
    return lambda frame: _find(operand(frame), field).present


def _function(node: Call, scope: Scope) -> Evaluator:
    qualified = _qualified(node, scope)
    nodes = node.arguments if node.target is None or qualified else (node.target, *node.arguments)
    name = qualified or node.function
    is_method = node.target is not None and not qualified
    overloads = library.look_up(name, len(nodes), method=is_method, position=node.position)
    arguments = [compile_node(argument, scope) for argument in nodes]
    _check_constants(name, nodes, overloads)
    return lambda frame: library.call(name, overloads, [argument(frame) for argument in arguments])


def _qualified(node: Call, scope: Scope) -> str | None:
    """Return `namespace.function` if the call is one, such as `sets.contains(a, b)`."""
    if isinstance(node.target, Name) and node.target.name not in scope.positions:
        name = f"{node.target.name}.{node.function}"
        return name if name in library.GLOBAL else None
    return None


def _check_constants(name: str, nodes: tuple[Node, ...], overloads: Overloads) -> None:
    """Evaluate at once what depends on constants only and must compile: conversions and regular expressions."""
    try:
        if name in _REGEX and isinstance(nodes[1], Literal) and isinstance(nodes[1].value, str):
            texts.regex(nodes[1].value)
        if name in _FOLDED and isinstance(nodes[0], Literal):
            library.call(name, overloads, [nodes[0].value])
    except CelError as error:
        raise CompileError(str(error), nodes[0].position) from error
