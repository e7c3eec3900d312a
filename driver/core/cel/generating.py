"""The fast path: one Python expression for a whole selector. Called by programs.

The rule that makes it safe: the code gives the exact value or raises, and whatever it raises, the interpreter decides
(evaluating is pure, so doing it again is sound). It is generated from the checked tree alone: constants, names and
functions are bound as arguments `k0`, `k1`, …; no text of a user is ever part of the source. What is not supported here
raises `Unsupported` and is left to the interpreter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from driver.core.cel import library, patterns, quick
from driver.core.cel.checking import Checked
from driver.core.cel.errors import EvaluationError
from driver.core.cel.syntax import Call, Comprehension, ListOf, Literal, MapOf, Message, Name, Node, Select, descendants
from driver.core.cel.typesystem import Type
from driver.core.cel.values import Value

MAX_DEPTH: Final = 40
MAX_SOURCE: Final = 200_000
_PLAIN: Final = frozenset(("string", "int", "bool", "double", "uint", "bytes"))
_SAFE_WITH_NULL: Final = frozenset(
    f"{kind}_{name}" for kind in ("quantity", "semver") for name in ("compare_to", "is_greater_than", "is_less_than")
)
_SYMBOLS: Final = {"_<_": "<", "_<=_": "<=", "_>_": ">", "_>=_": ">="}
_METHODS: Final[Mapping[str, Callable[..., Value]]] = {"lowerAscii": quick.lower, "upperAscii": quick.upper}


class Unsupported(Exception):  # noqa: N818 - no error: the interpreter takes over
    """The expression has a part for which no code is generated."""


@dataclass(slots=True)
class _Generator:
    checked: Checked
    constants: Mapping[Node, Value]
    bound: dict[str, Value] = field(default_factory=dict)
    known: dict[int, str] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=lambda: {"device": ["d"]})
    depth: int = 0
    length: int = 0
    variables: int = 0

    def bind(self, value: Value) -> str:
        """Return the name under which the code knows a value."""
        name = self.known.get(id(value))
        if name is None:
            name = self.known[id(value)] = f"k{len(self.bound)}"
            self.bound[name] = value
        return name

    def emit(self, node: Node) -> str:
        """Return the code of a node, in parentheses where it needs them."""
        if node in self.constants:
            return self.bind(self.constants[node])
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unsupported
        code = _EMIT[type(node)](self, node)
        self.depth -= 1
        self.length += len(code)
        if self.length > MAX_SOURCE:
            raise Unsupported
        return code

    def kind(self, node: Node) -> Type:
        return self.checked.types[node]

    def condition(self, node: Node) -> str:
        """Return the code of a node that must be a bool."""
        code = self.emit(node)
        return code if self.kind(node).kind == "bool" else f"{self.bind(quick.truth)}({code})"

    def name(self, node: Name) -> str:
        return self.names[node.name.removeprefix(".")][-1]

    def select(self, node: Select) -> str:
        operand, key = self.emit(node.operand), self.bind(node.field)
        type_ = self.kind(node.operand)
        if node.test:
            return f"{self.bind(quick.present)}({operand}, {key})"
        if type_.name == "kubernetes.DRADevice" or self._has_text_keys(type_):
            return f"{operand}[{key}]"
        return f"{self.bind(quick.get)}({operand}, {key})"

    @staticmethod
    def _has_text_keys(type_: Type) -> bool:
        return type_.kind == "map" and type_.parameters[0].kind == "string"

    def list_(self, node: ListOf) -> str:
        if any(optional for _, optional in node.elements):
            raise Unsupported
        return f"[{', '.join(self.emit(element) for element, _ in node.elements)}]"

    def map_(self, node: MapOf) -> str:
        if not self._has_text_keys(self.kind(node)) or any(optional for *_, optional in node.entries):
            raise Unsupported
        return f"{{{', '.join(f'{self.emit(key)}: {self.emit(value)}' for key, value, _ in node.entries)}}}"

    def message(self, _: Message) -> str:
        raise Unsupported

    def call(self, node: Call) -> str:
        special = _SPECIAL.get(self.checked.function(node))
        if special is not None:
            code = special(self, node)
            if code is not None:
                return code
        return self._function(node)

    def _function(self, node: Call) -> str:
        nodes, name = self.checked.arguments(node), self.checked.function(node)
        if name in {"or", "orValue"}:
            return self._alternative(nodes, name)
        fitting = self.checked.overloads[node]
        run = library.resolve(name, fitting, self.checked.environment.functions[name])
        if all(argument in self.constants for argument in nodes):
            return self._evaluated(run, [self.constants[argument] for argument in nodes])
        if (
            len(fitting) == 1
            and fitting[0].id in library.IMPLEMENTATIONS
            and self._needs_no_guard(nodes, fitting[0].id)
        ):
            run = library.IMPLEMENTATIONS[fitting[0].id]
        return f"{self.bind(run)}({', '.join(map(self.emit, nodes))})"

    def _needs_no_guard(self, nodes: tuple[Node, ...], overload: str) -> bool:
        return all(self.kind(node).kind in _PLAIN for node in nodes) or (
            overload in _SAFE_WITH_NULL and not any(self.kind(node).is_dynamic for node in nodes)
        )

    def _evaluated(self, run: Callable[..., Value], arguments: list[Value]) -> str:
        try:
            return self.bind(run(*arguments))
        except EvaluationError as error:
            raise Unsupported from error

    def _alternative(self, nodes: tuple[Node, ...], name: str) -> str:
        """`map.?key.orValue(other)`, the only form of optionals that has code of its own."""
        optional, other = nodes
        if name != "orValue" or not isinstance(optional, Call) or optional.function not in {"_?._", "_[?_]"}:
            raise Unsupported
        container, key = optional.arguments
        type_ = self.kind(container)
        inner = self._has_text_keys(type_) and type_.parameters[1].kind != "map"
        if not inner or key not in self.constants or other not in self.constants:
            raise Unsupported
        return f"{self.emit(container)}.get({self.emit(key)}, {self.emit(other)})"

    def junction(self, node: Call) -> str:
        word = " and " if node.function == "_&&_" else " or "
        return f"({word.join(map(self.condition, node.arguments))})"

    def invert(self, node: Call) -> str:
        return f"(not {self.condition(node.arguments[0])})"

    def choice(self, node: Call) -> str:
        condition, chosen, other = node.arguments
        return f"({self.emit(chosen)} if {self.condition(condition)} else {self.emit(other)})"

    def index(self, node: Call) -> str:
        container, key = node.arguments
        if self._has_text_keys(self.kind(container)) and self.kind(key).kind == "string":
            return f"{self.emit(container)}[{self.emit(key)}]"
        return f"{self.bind(quick.get)}({self.emit(container)}, {self.emit(key)})"

    def optional(self, _: Call) -> str:
        raise Unsupported

    def equality(self, node: Call) -> str | None:
        left, right = node.arguments
        kinds = self.kind(left).kind, self.kind(right).kind
        same = kinds[0] == kinds[1] and kinds[0] in {"string", "int", "bool"}
        if same:
            sign = "==" if node.function == "_==_" else "!="
            return f"({self.emit(left)} {sign} {self.emit(right)})"
        if node.function == "_==_" and kinds[0] == "any" and right in self.constants:
            return self._equals_constant(left, self.constants[right])
        return None

    def _equals_constant(self, node: Node, value: Value) -> str | None:
        if isinstance(value, str):
            return f"({self.emit(node)} == {self.bind(value)})"
        if type(value) is int and abs(value) <= quick.LARGEST_PLAIN:
            return f"{self.bind(quick.equals_int)}({self.emit(node)}, {self.bind(value)})"
        return None

    def comparison(self, node: Call) -> str | None:
        left, right = node.arguments
        kinds = {self.kind(left).kind, self.kind(right).kind}
        symbol = _SYMBOLS[node.function]
        amount = self._compared_amounts(left, right)
        if amount is not None:
            return f"({amount[0]}.nanos {symbol} {amount[1]}.nanos)"
        if len(kinds) == 1 and kinds <= {"string", "int"}:
            return f"({self.emit(left)} {symbol} {self.emit(right)})"
        return None

    def _compared_amounts(self, left: Node, right: Node) -> tuple[str, str] | None:
        """`quantity.compareTo(quantity) >= 0` is a comparison of numbers."""
        if self.constants.get(right) != 0 or not isinstance(right, Literal) or right.value is False:
            return None
        if not isinstance(left, Call) or [each.id for each in self.checked.overloads[left]] != ["quantity_compare_to"]:
            return None
        one, other = self.checked.arguments(left)
        if any(self.kind(node).is_dynamic for node in (one, other)):
            return None
        return self.emit(one), self.emit(other)

    def contained(self, node: Call) -> str | None:
        item, container = node.arguments
        kind = self.kind(item).kind
        if container in self.constants and kind in {"string", "any"}:
            items = self.constants[container]
            if isinstance(items, list) and all(type(each) is str for each in items):
                return f"({self.emit(item)} in {self.bind(frozenset(items))})"
        if self._has_text_keys(self.kind(container)) and kind == "string":
            return f"({self.emit(item)} in {self.emit(container)})"
        return None

    def size(self, node: Call) -> str | None:
        (argument,) = self.checked.arguments(node)
        return f"len({self.emit(argument)})" if self.kind(argument).kind in {"string", "list", "map"} else None

    def text_method(self, node: Call) -> str | None:
        """`startsWith` and its relatives: Python's own methods exist for texts only."""
        if node.target is None or self.kind(node.target).kind not in {"string", "any"}:
            return None
        if node.function in _METHODS and not node.arguments:
            return f"{self.bind(_METHODS[node.function])}({self.emit(node.target)})"
        if len(node.arguments) != 1 or self.kind(node.arguments[0]).kind != "string":
            return None
        part = self.emit(node.arguments[0])
        if node.function == "contains":
            return f"{self.bind(quick.contains)}({self.emit(node.target)}, {part})"
        return f"{self.emit(node.target)}.{'startswith' if node.function == 'startsWith' else 'endswith'}({part})"

    def pattern(self, node: Call) -> str | None:
        text, regex = self.checked.arguments(node)
        constant = self.constants.get(regex)
        if not isinstance(constant, str) or self.kind(text).kind not in {"string", "any"}:
            return None
        return f"{self.bind(patterns.pattern(constant).occurs)}({self.emit(text)})"

    def dynamic(self, node: Call) -> str:
        return self.emit(node.arguments[0])

    def comprehension(self, node: Comprehension) -> str:
        if node.macro == "bind":
            return self._bound(node)
        make = _MACROS.get(node.macro)
        range_ = self.kind(node.range)
        if make is None or not (range_.kind == "list" or self._has_text_keys(range_)):
            raise Unsupported
        items = self.emit(node.range)
        if node.loop.second:
            items = f"enumerate({items})" if range_.kind == "list" else f"{items}.items()"
        names = [self._enter(name) for name in (node.loop.variable, node.loop.second) if name]
        code = make(self, node, f"for {', '.join(names)} in {items}")
        for name in (node.loop.variable, node.loop.second):
            if name:
                self.names[name].pop()
        return code

    def _enter(self, name: str) -> str:
        self.variables += 1
        self.names.setdefault(name, []).append(f"v{self.variables}")
        return f"v{self.variables}"

    def _bound(self, node: Comprehension) -> str:
        """A variable of cel.bind becomes the parameter of a function, which is evaluated even if it is not used."""
        name = node.loop.accumulator
        if any(
            isinstance(each, Call)
            and each.function == "_+_"
            and isinstance(each.arguments[0], Name)
            and each.arguments[0].name.removeprefix(".") == name
            and self.kind(each.arguments[0]).kind not in _PLAIN
            for each in descendants(node.loop.result)
        ):
            raise Unsupported
        value = self.emit(node.loop.init)
        parameter = self._enter(name)
        body = self.emit(node.loop.result)
        self.names[name].pop()
        return f"(lambda {parameter}: {body})({value})"

    def quantifier(self, node: Comprehension, loop: str) -> str:
        step = node.loop.step
        assert isinstance(step, Call)  # noqa: S101 - see macros
        word = "all" if node.macro == "all" else "any"
        return f"{word}({self.condition(step.arguments[1])} {loop})"

    def exists_one(self, node: Comprehension, loop: str) -> str:
        step = node.loop.step
        assert isinstance(step, Call)  # noqa: S101 - see macros
        return f"(sum(1 {loop} if {self.condition(step.arguments[0])}) == 1)"

    def collected(self, node: Comprehension, loop: str) -> str:
        """`map`, `filter` and `transformList`."""
        step, condition = node.loop.step, ""
        assert isinstance(step, Call)  # noqa: S101 - see macros
        if step.function == "_?_:_":
            condition = f" if {self.condition(step.arguments[0])}"
            inner = step.arguments[1]
            assert isinstance(inner, Call)  # noqa: S101 - see macros
            step = inner
        item = step.arguments[1]
        code = self.emit(item)
        if not isinstance(item, ListOf) or not code.startswith("["):
            code = f"[{code}[0]]"
        return f"[{code[1:-1]} {loop}{condition}]"


_Special = Callable[[_Generator, Call], "str | None"]
_SPECIAL: Final[Mapping[str, _Special]] = {
    "_&&_": _Generator.junction,
    "_||_": _Generator.junction,
    "!_": _Generator.invert,
    "_?_:_": _Generator.choice,
    "_[_]": _Generator.index,
    "_[?_]": _Generator.optional,
    "_?._": _Generator.optional,
    "_==_": _Generator.equality,
    "_!=_": _Generator.equality,
    **dict.fromkeys(_SYMBOLS, _Generator.comparison),
    "@in": _Generator.contained,
    "size": _Generator.size,
    **dict.fromkeys(("startsWith", "endsWith", "contains", "lowerAscii", "upperAscii"), _Generator.text_method),
    "matches": _Generator.pattern,
    "dyn": _Generator.dynamic,
}
_MACROS: Final[Mapping[str, Callable[[_Generator, Comprehension, str], str]]] = {
    "all": _Generator.quantifier,
    "exists": _Generator.quantifier,
    "exists_one": _Generator.exists_one,
    "existsOne": _Generator.exists_one,
    **dict.fromkeys(("map", "filter", "transformList"), _Generator.collected),
}
_EMIT: Final[Mapping[type[Node], Callable[..., str]]] = {
    Name: _Generator.name,
    Select: _Generator.select,
    Call: _Generator.call,
    ListOf: _Generator.list_,
    MapOf: _Generator.map_,
    Message: _Generator.message,
    Comprehension: _Generator.comprehension,
}


def generate(checked: Checked, constants: Mapping[Node, Value]) -> Callable[[Value], Value] | None:
    """Return a function of the device, or None if the expression is left to the interpreter."""
    generator = _Generator(checked, constants)
    try:
        body = generator.emit(checked.root)
        source = f"lambda {', '.join(('d', *(f'{name}={name}' for name in generator.bound)))}: {body}"
        code = compile(source, "<selector>", "eval")
    except (Unsupported, SyntaxError, RecursionError, MemoryError):
        return None
    run: Callable[[Value], Value] = eval(code, dict(generator.bound))  # noqa: S307 - our own text, see above
    return run
