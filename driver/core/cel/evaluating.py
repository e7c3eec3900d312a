"""Trees into closures: the exact interpreter, which also counts costs. Called by programs.

Every node becomes a function of the frame, once; evaluating only calls them. Constants are evaluated here, as cel-go's
planner does: lists and maps of constants, conversions, `in` a constant list, regular expressions; what fails there does
not compile. Sources: cel-go interpreter/{planner,interpretable,decorators}.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from driver.core.cel import folding, library, messages, operators, patterns, qualifying, tracking, values
from driver.core.cel.checking import Checked
from driver.core.cel.errors import CompileError, EvaluationError, no_such_overload
from driver.core.cel.frames import Evaluator, Failed, Frame, attempt, charge, reader
from driver.core.cel.library import Function
from driver.core.cel.qualifying import Step
from driver.core.cel.syntax import Call, Comprehension, ListOf, Literal, MapOf, Message, Name, Node, Select
from driver.core.cel.tracking import FAILED, Cost
from driver.core.cel.values import Optional, TypeName, Value, kind_of

_CHAINED: Final = frozenset(("_[_]", "_[?_]", "_?._"))
_REGEX: Final[Mapping[str, Callable[[str], Function]]] = {
    "matches": lambda pattern: patterns.pattern(pattern).occurs,
    "find": lambda pattern: patterns.pattern(pattern).find,
    "findAll": lambda pattern: patterns.pattern(pattern).find_all,
}


@dataclass(slots=True)
class Planner:
    """Makes the closures of one expression."""

    checked: Checked
    slots: dict[str, list[int]] = field(default_factory=dict)
    size: int = 1
    """How long the frames of this expression have to be; the first place is for the cost."""
    constants: dict[Node, Value] = field(default_factory=dict)
    planned: dict[Node, Evaluator] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.checked.environment.variables:
            self.slots[name] = [self._slot()]

    def _slot(self) -> int:
        self.size += 1
        return self.size - 1

    def plan(self, node: Node) -> Evaluator:
        """Return what evaluates a node. Raises `CompileError` for constants that cannot be evaluated."""
        known = self.planned.get(node)
        if known is None:
            known = self.planned[node] = _PLANS[type(node)](self, node)
        return known

    def _constant(self, node: Node, value: Value) -> Evaluator:
        self.constants[node] = value
        return lambda _: value

    def _folded(self, node: Node, evaluate: Evaluator) -> Evaluator:
        """Evaluate at once what depends on constants only."""
        try:
            return self._constant(node, evaluate([0]))
        except EvaluationError as error:
            raise CompileError(str(error), node.position) from error

    def literal(self, node: Literal) -> Evaluator:
        """Plan a constant."""
        return self._constant(node, node.value)

    def name(self, node: Name) -> Evaluator:
        """Plan a variable or the name of a type."""
        if node in self.checked.constants:
            return self._constant(node, TypeName(self.checked.constants[node]))
        return self._charged(node)

    def select(self, node: Select) -> Evaluator:
        """Plan the selection of a field, or the question whether it is there."""
        if node in self.checked.constants:
            return self._constant(node, TypeName(self.checked.constants[node]))
        if node.test:
            root, steps = self._chain(node.operand)
            return qualifying.tester(root, steps, node.field)
        return self._charged(node)

    def _charged(self, node: Node) -> Evaluator:
        """Return what follows a chain and pays for it; one that starts at a ternary is free, as the ternary is."""
        start = node
        while self._is_chain(start) and not isinstance(start, Name):
            start = start.operand if isinstance(start, Select) else start.arguments[0]  # type: ignore[union-attr]
        is_free = isinstance(start, Call) and start.function == "_?_:_"
        return self._resolver(node) if is_free else qualifying.charged(self._resolver(node))

    def _resolver(self, node: Node) -> Evaluator:
        return qualifying.resolver(*self._chain(node))

    def _is_chain(self, node: Node) -> bool:
        if isinstance(node, Name | Select):
            return node not in self.checked.constants and not (isinstance(node, Select) and node.test)
        return isinstance(node, Call) and node.function in _CHAINED

    def _chain(self, node: Node) -> tuple[Evaluator, list[Step]]:
        """Return where a chain starts and its steps."""
        steps: list[Step] = []
        while self._is_chain(node) and not isinstance(node, Name):
            if isinstance(node, Select):
                steps.append(Step(qualifying.constant_key(node.field), optional=False))
                node = node.operand
            elif isinstance(node, Call):
                steps.append(self._step(node))
                node = node.arguments[0]
        steps.reverse()
        if isinstance(node, Name) and node not in self.checked.constants:
            name = node.name.removeprefix(".")
            return reader(name, self.slots[name][-1]), steps
        if isinstance(node, Call) and node.function == "_?_:_":
            return self._choice(node), steps
        return self.plan(node), steps

    def _step(self, node: Call) -> Step:
        key = node.arguments[1]
        evaluate = self._branch(key)
        optional = node.function != "_[_]"
        if key not in self.constants:
            return Step(qualifying.computed_key(evaluate), optional)
        try:
            return Step(qualifying.constant_key(self.constants[key]), optional)
        except EvaluationError as error:
            raise CompileError(str(error), key.position) from error

    def _branch(self, node: Node) -> Evaluator:
        """Return what evaluates a node where a chain itself is free: keys and the branches of a ternary."""
        if isinstance(node, Call) and node.function == "_?_:_":
            return self._choice(node)
        return self._resolver(node) if self._is_chain(node) else self.plan(node)

    def _choice(self, node: Call) -> Evaluator:
        condition = self.plan(node.arguments[0])
        chosen, otherwise = self._branch(node.arguments[1]), self._branch(node.arguments[2])

        def choose(frame: Frame) -> Value:
            value = condition(frame)
            if value is True:
                return chosen(frame)
            if value is False:
                return otherwise(frame)
            raise no_such_overload("_?_:_", kind_of(value))

        return choose

    def list_(self, node: ListOf) -> Evaluator:
        """Plan a list."""
        items = [(self.plan(element), optional) for element, optional in node.elements]

        def build(frame: Frame) -> Value:
            made: list[Value] = []
            for item, optional in items:
                value = item(frame)
                if not optional:
                    made.append(value)
                elif _checked(value).present:
                    made.append(_checked(value).content)
            return made

        if all(element in self.constants for element, _ in node.elements):
            return self._folded(node, build)
        return _built(build, tracking.LIST)

    def map_(self, node: MapOf) -> Evaluator:
        """Plan a map."""
        pairs = [(self.plan(key), self.plan(value), optional) for key, value, optional in node.entries]

        def build(frame: Frame) -> Value:
            made: dict[Value, Value] = {}
            for key, content, optional in pairs:
                name = values.key_of(key(frame))
                value = content(frame)
                if not optional:
                    made[name] = value
                elif _checked(value).present:
                    made[name] = _checked(value).content
                else:
                    made.pop(name, None)
            return made

        if all(key in self.constants and value in self.constants for key, value, _ in node.entries):
            return self._folded(node, build)
        return _built(build, tracking.MAP)

    def message(self, node: Message) -> Evaluator:
        """Plan a message."""
        fields = [(name, self.plan(value), optional) for name, value, optional in node.fields]
        type_name = node.name.removeprefix(".")

        def build(frame: Frame) -> Value:
            made: dict[str, Value] = {}
            for name, content, optional in fields:
                value = content(frame)
                if not optional:
                    made[name] = value
                elif _checked(value).present:
                    made[name] = _checked(value).content
            return messages.build(type_name, made)

        return _built(build, tracking.MESSAGE)

    def call(self, node: Call) -> Evaluator:
        """Plan the call of a function."""
        special = _SPECIAL.get(node.function)
        if special is not None:
            return special(self, node)
        if node.function in _CHAINED:
            return self._charged(node)
        nodes = self.checked.arguments(node)
        arguments = list(map(self.plan, nodes))
        name = self.checked.function(node)
        fitting = self.checked.overloads[node]
        overload = fitting[0].id if len(fitting) == 1 else ""
        if overload == "in_list" and nodes[1] in self.constants:
            member = self._membership(node, arguments[0], self.constants[nodes[1]])
            if member is not None:
                return member
        run = self._function(node, name, nodes)
        has_pattern = name in _REGEX and nodes[1] in self.constants
        eager = len(arguments) <= 2 and (bool(overload) or name in library.SINGLETONS) and not has_pattern
        evaluate = _strict(arguments, run, tracking.cost_of(name, overload), eager=eager)
        if name in library.TYPE_CONVERSIONS and len(nodes) == 1 and nodes[0] in self.constants:
            return self._folded(node, lambda _: run(self.constants[nodes[0]]))
        return evaluate

    def _function(self, node: Call, name: str, nodes: tuple[Node, ...]) -> Function:
        """Return what a call runs; constant regular expressions are compiled."""
        declared = self.checked.environment.functions[name]
        run = library.resolve(name, self.checked.overloads[node], declared)
        if name in _REGEX and isinstance(self.constants.get(nodes[1]), str):
            try:
                patterns.pattern(str(self.constants[nodes[1]]))
            except EvaluationError as error:
                raise CompileError(str(error), nodes[1].position) from error
        return run

    def _membership(self, node: Node, item: Evaluator, items: Value) -> Evaluator | None:
        """`item in [constants]`: costs nothing, and does not even look at the item if the list is empty."""
        elements = values.elements(items)
        if not elements:
            return self._constant(node, value=False)
        if any(kind_of(each) not in {"bool", "int", "uint", "double", "string"} for each in elements):
            return None
        return lambda frame: operators.contained(item(frame), elements)

    def junction(self, node: Call) -> Evaluator:
        """`&&` and `||`: the deciding value wins over errors on either side."""
        terms = list(map(self.plan, node.arguments))
        decisive = node.function == "_||_"
        name = node.function

        def evaluate(frame: Frame) -> Value:
            failure: EvaluationError | None = None
            for term in terms:
                value = attempt(term, frame)
                if value is decisive:
                    return decisive
                if type(value) is Failed:
                    failure = failure or value.error
                elif value is not (not decisive):
                    failure = failure or no_such_overload(name, kind_of(value))
            if failure is not None:
                raise failure
            return not decisive

        return evaluate

    def going_on(self, node: Call) -> Evaluator:
        """`@not_strictly_false`: whether `all` or `exists` goes on; an error means yes."""
        (argument,) = map(self.plan, node.arguments)

        def evaluate(frame: Frame) -> Value:
            value = attempt(argument, frame)
            charge(frame, 1)
            return value is not False

        return evaluate

    def alternative(self, node: Call) -> Evaluator:
        """`or` and `orValue` of optionals: the other is evaluated only if it is needed."""
        first, second = (self.plan(argument) for argument in self.checked.arguments(node))
        unwraps = node.function == "orValue"

        def evaluate(frame: Frame) -> Value:
            value = first(frame)
            if not isinstance(value, Optional):
                return value
            if value.present:
                return value.content if unwraps else value
            return second(frame)

        return evaluate

    def comprehension(self, node: Comprehension) -> Evaluator:
        """Plan a macro."""
        loop = node.loop
        range_ = self.plan(node.range)
        init = self.plan(loop.init)
        accumulator = self._bind(loop.accumulator)
        slots = [self._bind(name) for name in (loop.variable, loop.second) if name]
        condition, step = self.plan(loop.condition), self.plan(loop.step)
        for name in (loop.variable, loop.second):
            if name:
                self.slots[name].pop()
        result = self.plan(loop.result)
        self.slots[loop.accumulator].pop()
        return folding.fold(range_, folding.Fold(accumulator, tuple(slots), init, condition, step, result))

    def _bind(self, name: str) -> int:
        slot = self._slot()
        self.slots.setdefault(name, []).append(slot)
        return slot


def _checked(value: Value) -> Optional:
    if not isinstance(value, Optional):
        raise EvaluationError(f"cannot initialize optional entry from non-optional value of type {kind_of(value)}")
    return value


def _built(build: Evaluator, cost: int) -> Evaluator:
    def evaluate(frame: Frame) -> Value:
        try:
            return build(frame)
        finally:
            charge(frame, cost)

    return evaluate


def _strict(arguments: list[Evaluator], run: Function, cost: Cost | None, *, eager: bool) -> Evaluator:
    """Return what calls a function. With `eager` all arguments are evaluated, and paid for, even if one fails."""

    def evaluate(frame: Frame) -> Value:
        found: list[Value] = []
        failure: EvaluationError | None = None
        for argument in arguments:
            value = attempt(argument, frame)
            if type(value) is Failed:
                failure = failure or value.error
                value = FAILED
            found.append(value)
            if failure is not None and not eager:
                break
        result: Value = FAILED
        try:
            if failure is not None:
                raise failure
            result = run(*found)
        finally:
            if cost is not None and len(found) == len(arguments):
                charge(frame, cost(found, result))
        return result

    return evaluate


_SPECIAL: Final[Mapping[str, Callable[[Planner, Call], Evaluator]]] = {
    "_&&_": Planner.junction,
    "_||_": Planner.junction,
    "_?_:_": Planner._choice,  # noqa: SLF001 - the planner's own table
    "@not_strictly_false": Planner.going_on,
    "or": Planner.alternative,
    "orValue": Planner.alternative,
}
_PLANS: Final[Mapping[type[Node], Callable[..., Evaluator]]] = {
    Literal: Planner.literal,
    Name: Planner.name,
    Select: Planner.select,
    Call: Planner.call,
    ListOf: Planner.list_,
    MapOf: Planner.map_,
    Message: Planner.message,
    Comprehension: Planner.comprehension,
}
