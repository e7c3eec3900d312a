"""Types: gives every node of a tree one, finds the overloads that calls can mean, refuses what cannot be right.

Called by programs. Follows cel-go checker/checker.go as Kubernetes configures it: lists and maps hold one type,
attributes have the unknown type `any`, numbers of different types compare and do not add up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from driver.core.cel import typesystem
from driver.core.cel.errors import CompileError
from driver.core.cel.messages import MESSAGES, TYPE_NAMES
from driver.core.cel.scopes import Environment
from driver.core.cel.signatures import Overload
from driver.core.cel.syntax import (
    Call,
    Comprehension,
    ListOf,
    Literal,
    MapOf,
    Message,
    Name,
    Node,
    Select,
    qualified_name,
)
from driver.core.cel.typesystem import (
    BOOL,
    BYTES,
    DEVICE,
    DOUBLE,
    DYN,
    INT,
    NULL,
    STRING,
    UINT,
    Bindings,
    Type,
    list_of,
    map_of,
    optional_of,
    type_of,
)
from driver.core.cel.values import Uint

_LITERALS: Final[Mapping[type, Type]] = {
    bool: BOOL,
    int: INT,
    Uint: UINT,
    float: DOUBLE,
    str: STRING,
    bytes: BYTES,
    type(None): NULL,
}


@dataclass(frozen=True, slots=True)
class Checked:
    """A tree with what is known of its nodes."""

    root: Node
    environment: Environment
    types: Mapping[Node, Type]
    overloads: Mapping[Node, tuple[Overload, ...]]
    """The overloads that a call can mean; more than one where the types are not known."""
    constants: Mapping[Node, str]
    """Names, and chains of names, that stand for a type."""
    qualified: Mapping[Node, str]
    """Calls of functions in a namespace (`sets.contains(…)`): their target is part of the name."""

    def arguments(self, call: Call) -> tuple[Node, ...]:
        """Return the arguments of a call, the target of a method first."""
        is_method = call.target is not None and call not in self.qualified
        return (call.target, *call.arguments) if is_method and call.target is not None else call.arguments

    def function(self, call: Call) -> str:
        """Return the full name of the function that is called."""
        return self.qualified.get(call, call.function).removeprefix(".")


def check(root: Node, environment: Environment) -> Checked:
    """Return the tree with its types. Raises `CompileError`."""
    checker = _Checker(environment)
    checker.check(root)
    types = {node: checker.bindings.resolve(type_, close=True) for node, type_ in checker.types.items()}
    return Checked(root, environment, types, checker.overloads, checker.constants, checker.qualified)


@dataclass(slots=True)
class _Checker:
    environment: Environment
    bindings: Bindings = field(default_factory=Bindings)
    types: dict[Node, Type] = field(default_factory=dict)
    overloads: dict[Node, tuple[Overload, ...]] = field(default_factory=dict)
    constants: dict[Node, str] = field(default_factory=dict)
    qualified: dict[Node, str] = field(default_factory=dict)
    locals: list[tuple[str, Type]] = field(default_factory=list)

    def check(self, node: Node) -> Type:
        """Return the type of a node; a node that occurs twice (the target of optMap) is checked once."""
        known = self.types.get(node)
        if known is None:
            known = self.types[node] = _CHECKS[type(node)](self, node)
        return known

    def literal(self, node: Literal) -> Type:
        return _LITERALS[type(node.value)]

    def name(self, node: Name) -> Type:
        found = self._look_up(node, node.name)
        if found is None:
            raise CompileError(f"undeclared reference to '{node.name}' (in container '')", node.position)
        return found

    def _look_up(self, node: Node, name: str) -> Type | None:
        name = name.removeprefix(".")
        for local, type_ in reversed(self.locals):
            if local == name:
                return type_
        if name in self.environment.variables:
            return self.environment.variables[name]
        if name in TYPE_NAMES:
            self.constants[node] = name
            return type_of(TYPE_NAMES[name])
        return None

    def select(self, node: Select) -> Type:
        name = None if node.test else qualified_name(node)
        found = self._look_up(node, name) if name is not None else None
        if found is not None:
            return found
        result = self._field(node.operand, node.field, node.position, optional=False)
        return BOOL if node.test else result

    def _field(self, operand: Node, name: str, position: int, *, optional: bool) -> Type:
        target = self.bindings.resolve(self.check(operand))
        unwrapped = target.parameters[0] if target.is_optional else target
        if unwrapped.kind == "map":
            result = unwrapped.parameters[1]
        elif unwrapped.kind == "message":
            result = self._message_field(unwrapped, name, position)
        elif unwrapped.kind == "param":
            self.bindings.fits(DYN, unwrapped)
            result = DYN
        elif unwrapped.is_dynamic:
            result = DYN
        else:
            raise CompileError(f"type '{unwrapped}' does not support field selection", position)
        result = self.bindings.resolve(result)
        return optional_of(result) if optional or target.is_optional else result

    def _message_field(self, message: Type, name: str, position: int) -> Type:
        fields = self.environment.device_fields if message is DEVICE else {}
        if name not in fields:
            raise CompileError(f"undefined field '{name}'", position)
        return fields[name]

    def call(self, node: Call) -> Type:
        if node.function == "_?._":
            operand, wanted = node.arguments
            assert isinstance(wanted, Literal)  # noqa: S101 - the parser writes the name of the field
            return self._field(operand, str(wanted.value), node.position, optional=True)
        arguments = list(map(self.check, node.arguments))
        if node.target is not None:
            prefix = qualified_name(node.target)
            name = f"{prefix}.{node.function}".removeprefix(".")
            if prefix is not None and name in self.environment.functions:
                self.qualified[node] = name
                return self._resolve(node, name, arguments, method=False)
            arguments.insert(0, self.check(node.target))
        return self._resolve(node, node.function.removeprefix("."), arguments, method=node.target is not None)

    def _resolve(self, node: Call, name: str, arguments: list[Type], *, method: bool) -> Type:
        """Find the overloads that take these arguments; the first says what the result is, unless they differ."""
        known = self.environment.functions.get(name)
        if known is None:
            raise CompileError(f"undeclared reference to '{name}' (in container '')", node.position)
        if name in {"_&&_", "_||_"}:
            return self._junction(node, known, arguments)
        fitting = []
        result: Type | None = None
        for overload in known:
            if overload.method is not method or len(overload.parameters) != len(arguments):
                continue
            *parameters, outcome = self.bindings.rename((*overload.parameters, overload.result))
            if self.bindings.fit_all(tuple(arguments), tuple(parameters)):
                fitting.append(overload)
                outcome = self.bindings.resolve(outcome)
                if result is None:
                    result = outcome
                elif not result.is_dynamic and not typesystem.is_same(outcome, result):
                    result = DYN
        if result is None:
            raise CompileError(self._mismatch(name, arguments, method=method), node.position)
        self.overloads[node] = tuple(fitting)
        return result

    def _junction(self, node: Call, known: tuple[Overload, ...], arguments: list[Type]) -> Type:
        for argument, type_ in zip(node.arguments, arguments, strict=True):
            if not self.bindings.fits(type_, BOOL):
                types = [self.bindings.resolve(type_), BOOL]
                raise CompileError(self._mismatch(node.function, types, method=False), argument.position)
        self.overloads[node] = known
        return BOOL

    def _mismatch(self, name: str, arguments: list[Type], *, method: bool) -> str:
        types = [str(self.bindings.resolve(argument, close=True)) for argument in arguments]
        applied = f"{types[0]}.({', '.join(types[1:])})" if method else f"({', '.join(types)})"
        return f"found no matching overload for '{name}' applied to '{applied}'"

    def list_(self, node: ListOf) -> Type:
        joined: Type | None = None
        for element, optional in node.elements:
            joined = self._join(joined, self._unwrapped(element, optional=optional))
        return list_of(joined or self.bindings.fresh())

    def map_(self, node: MapOf) -> Type:
        keys: Type | None = None
        values: Type | None = None
        for key, value, optional in node.entries:
            keys = self._join(keys, self.check(key))
            values = self._join(values, self._unwrapped(value, optional=optional))
        return map_of(keys or self.bindings.fresh(), values or self.bindings.fresh())

    def _unwrapped(self, node: Node, *, optional: bool) -> Type:
        type_ = self.check(node)
        if not optional or type_.is_dynamic:
            return type_
        if not type_.is_optional:
            raise CompileError(f"expected type 'optional_type({type_})' but found '{type_}'", node.position)
        return type_.parameters[0]

    def _join(self, previous: Type | None, current: Type) -> Type:
        """Return the type of elements of both types; that they differ is allowed below `format` only (validating)."""
        if previous is None:
            return current
        return typesystem.most_general(previous, current) if self.bindings.fits(previous, current) else DYN

    def message(self, node: Message) -> Type:
        name = node.name.removeprefix(".")
        fields = MESSAGES[name].fields if name in MESSAGES else self.environment.device_fields
        if name not in MESSAGES and not (name == DEVICE.name and fields):
            raise CompileError(f"undeclared reference to '{name}' (in container '')", node.position)
        for field_name, value, optional in node.fields:
            found = self._unwrapped(value, optional=optional)
            if field_name not in fields:
                raise CompileError(f"undefined field '{field_name}'", value.position)
            if not self.bindings.fits(fields[field_name], found):
                reason = (
                    f"expected type of field '{field_name}' is '{fields[field_name]}' but provided type is '{found}'"
                )
                raise CompileError(reason, value.position)
        return MESSAGES[name].type if name in MESSAGES else DEVICE

    def comprehension(self, node: Comprehension) -> Type:
        loop = node.loop
        range_ = self.bindings.resolve(self.check(node.range))
        accumulated = self.check(loop.init)
        self.locals.append((loop.accumulator, accumulated))
        first, second = self._variables(node, range_)
        self.locals.append((loop.variable, first))
        if loop.second:
            self.locals.append((loop.second, second))
        for part, wanted in ((loop.condition, BOOL), (loop.step, accumulated)):
            found = self.check(part)
            if not self.bindings.fits(wanted, found):
                types = self.bindings.resolve(wanted), self.bindings.resolve(found)
                raise CompileError(f"expected type '{types[0]}' but found '{types[1]}'", part.position)
        del self.locals[-2 if loop.second else -1 :]
        result = self.check(loop.result)
        self.locals.pop()
        return self.bindings.resolve(result)

    def _variables(self, node: Comprehension, range_: Type) -> tuple[Type, Type]:
        if range_.kind == "list":
            element = range_.parameters[0]
            return (INT, element) if node.loop.second else (element, DYN)
        if range_.kind == "map":
            return range_.parameters[0], range_.parameters[1]
        if range_.kind not in {"dyn", "param"}:
            reason = f"expression of type '{range_}' cannot be range of a comprehension (must be list, map, or dynamic)"
            raise CompileError(reason, node.range.position)
        self.bindings.fits(DYN, range_)
        return DYN, DYN


_CHECKS: Final[Mapping[type[Node], Callable[..., Type]]] = {
    Literal: _Checker.literal,
    Name: _Checker.name,
    Select: _Checker.select,
    Call: _Checker.call,
    ListOf: _Checker.list_,
    MapOf: _Checker.map_,
    Message: _Checker.message,
    Comprehension: _Checker.comprehension,
}
