"""The clauses of a selector that a person would read as a comparison: `memory >= 40Gi`, `architecture == hopper`.

Called by `misses`. An expression is a conjunction of clauses; those of another form are left out, and nothing is said
of them. What a clause says of a device is only used to explain; whether a device matches is always CEL's own answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from driver.core import cel
from driver.core.allocator.devices import Device
from driver.core.cel import CelError, semvers
from driver.core.cel.semvers import Semver
from driver.core.cel.syntax import Call, ListOf, Literal, Name, Node, Select
from driver.model import quantities
from driver.model.errors import InvalidInput
from driver.model.published import Attribute
from driver.model.quantities import Quantity

Scalar = bool | int | str | Quantity | Semver
HAS: Final = "has"
_OPERATORS: Final = {"_==_": "==", "_!=_": "!=", "_<_": "<", "_<=_": "<=", "_>_": ">", "_>=_": ">=", "@in": "in"}
_METHODS: Final = {"isGreaterThan": ">", "isLessThan": "<"}


@dataclass(frozen=True, slots=True)
class Path:
    """`device.driver`, or an attribute or a capacity of a device by domain and name."""

    kind: str
    """driver, attributes or capacity."""
    domain: str = ""
    name: str = "driver"

    def read(self, device: Device) -> Scalar | None:
        """Return a device's value, None if it has none."""
        if self.kind == "driver":
            return device.driver
        for key in (f"{self.domain}/{self.name}", *([self.name] if self.domain == device.driver else [])):
            if self.kind == "capacity" and key in device.published.capacity:
                return _parse(device.published.capacity[key].value)
            if self.kind == "attributes" and key in device.published.attributes:
                return _read(device.published.attributes[key])
        return None


@dataclass(frozen=True, slots=True)
class Clause:
    """A comparison of one value of a device with constants."""

    path: Path
    operator: str
    wanted: tuple[Scalar, ...] = ()

    def holds(self, device: Device) -> bool:
        """Say whether a device satisfies it; one without a value, or with one of another type, does not."""
        value = self.path.read(device)
        if value is None:
            return False
        match self.operator:
            case "has":
                return True
            case "==" | "in":
                return value in self.wanted
            case "!=":
                return value not in self.wanted
        return _compare(value, self.wanted[0], self.operator)


def find(expression: str) -> list[Clause]:
    """Return the clauses of an expression that can be read, in its order; none of one that does not compile."""
    try:
        root = cel.compile_selector(expression).checked.root
    except CelError:
        return []
    return [clause for node in _split(root) if (clause := _read_clause(node)) is not None]


def _split(node: Node) -> Iterator[Node]:
    if isinstance(node, Call) and node.function == "_&&_":
        for each in node.arguments:
            yield from _split(each)
    else:
        yield node


def _read_clause(node: Node) -> Clause | None:
    if isinstance(node, Select) and node.test:
        path = _read_path(Select(node.position, node.operand, node.field))
        return Clause(path, HAS) if path else None
    if isinstance(node, Call):
        if node.function == "!_" and (path := _read_path(node.arguments[0])) is not None:
            return Clause(path, "==", (False,))
        if node.function in _OPERATORS:
            return _read_comparison(node.arguments[0], _OPERATORS[node.function], node.arguments[1])
        if node.function in _METHODS and node.target is not None:
            return _make(node.target, _METHODS[node.function], node.arguments[0])
    path = _read_path(node)
    return Clause(path, "==", (True,)) if path else None


def _read_comparison(left: Node, operator: str, right: Node) -> Clause | None:
    """Read `path OP constant`, `path in [constants]`, and `path.compareTo(constant) OP 0`."""
    if isinstance(left, Call) and left.function == "compareTo" and left.target is not None:
        is_zero = isinstance(right, Literal) and right.value == 0
        return _make(left.target, operator, left.arguments[0]) if is_zero else None
    return _make(left, operator, right)


def _make(left: Node, operator: str, right: Node) -> Clause | None:
    path = _read_path(left)
    constants = [
        _read_constant(each)
        for each in ([each for each, _ in right.elements] if isinstance(right, ListOf) else [right])
    ]
    wanted = tuple(each for each in constants if each is not None)
    return Clause(path, operator, wanted) if path and wanted and len(wanted) == len(constants) else None


def _read_constant(node: Node) -> Scalar | None:
    if isinstance(node, Literal) and isinstance(node.value, bool | int | str):
        return node.value
    if isinstance(node, Call) and node.target is None and len(node.arguments) == 1:
        text = node.arguments[0]
        if isinstance(text, Literal) and isinstance(text.value, str):
            if node.function == "quantity":
                return _parse(text.value)
            return _parse_version(text.value) if node.function == "semver" else None
    return None


def _read_path(node: Node) -> Path | None:
    """Read `device.driver`, `device.kind["domain"].name`, `device.kind["domain"].?name.orValue(default)`."""
    if isinstance(node, Call) and node.function in ("orValue", "value") and node.target is not None:
        return _read_path(node.target)
    if isinstance(node, Call) and node.function == "_?._":
        operand, name = node.arguments
        return _read_member(operand, name.value) if isinstance(name, Literal) and isinstance(name.value, str) else None
    if not isinstance(node, Select) or node.test:
        return None
    if isinstance(node.operand, Name) and node.operand.name == "device" and node.field == "driver":
        return Path("driver")
    return _read_member(node.operand, node.field)


def _read_member(operand: Node, name: str) -> Path | None:
    if not isinstance(operand, Call) or operand.function not in ("_[_]", "_[?_]"):
        return None
    container, domain = operand.arguments
    if not isinstance(container, Select) or container.field not in ("attributes", "capacity"):
        return None
    if not isinstance(domain, Literal) or not isinstance(domain.value, str):
        return None
    return Path(container.field, domain.value, name)


def _read(attribute: Attribute) -> Scalar | None:
    if attribute.version is not None:
        return _parse_version(attribute.version)
    return next((each for each in (attribute.string, attribute.int_, attribute.bool_) if each is not None), None)


def _parse(text: str) -> Quantity | None:
    try:
        return quantities.parse(text)
    except InvalidInput:
        return None


def _parse_version(text: str) -> Semver | None:
    try:
        return semvers.parse(text)
    except CelError:
        return None


def _compare(value: Scalar, wanted: Scalar, operator: str) -> bool:
    order = rank(value, wanted)
    if order is None:
        return False
    return {"<": order < 0, "<=": order <= 0, ">": order > 0, ">=": order >= 0}.get(operator, False)


def rank(value: Scalar, other: Scalar) -> int | None:
    """Return -1, 0 or 1 for values that have an order; None for others."""
    for kind in (Quantity, Semver, int, str):
        if isinstance(value, kind) and isinstance(other, kind):
            return (value > other) - (value < other)  # type: ignore[operator]  # both are of one kind
    return None
