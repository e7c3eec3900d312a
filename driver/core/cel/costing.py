"""What an expression costs at most, before it has seen a device. Called by programs.

The API server refuses selectors above `tracking.LIMIT`. Source: cel-go checker/cost.go, with the sizes of
k8s.io/dynamic-resource-allocation cel/compile.go. With `strict` the bound is one that no evaluation exceeds by more
than a small factor (upstream's is no bound: it leaves out fields of attributes); it decides whether costs are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from driver.core.cel import estimates, tracking
from driver.core.cel.checking import Checked
from driver.core.cel.estimates import Operand, Size, add, times, union
from driver.core.cel.syntax import (
    ACCUMULATOR,
    Call,
    Comprehension,
    ListOf,
    Literal,
    MapOf,
    Message,
    Name,
    Node,
    Select,
)
from driver.core.cel.typesystem import Type

_MAX_NAME: Final = 63
_MAX_ID: Final = 32
_MAX_ENTRIES: Final = 32
_LONGEST_CHECK: Final = 9
"""How many times more than estimated the check of a named format can cost."""
_SCALARS: Final = frozenset(("bool", "double", "duration", "int", "timestamp", "uint"))
Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Entries:
    """The sizes of the keys and values of a list or map that the expression builds."""

    kind: str
    keys: Size
    values: Size

    def union(self, other: _Entries | None) -> _Entries | None:
        """Return what covers both, or None if one is not known."""
        if other is None:
            return None
        return _Entries(self.kind, union(self.keys, other.keys), union(self.values, other.values))


@dataclass(frozen=True, slots=True)
class _Local:
    """A variable of a macro: where its value comes from, how large it and its entries are."""

    path: Path
    size: Size | None
    entries: _Entries | None = None


def estimate(checked: Checked, *, strict: bool = False) -> int:
    """Return the worst-case cost of an expression, at most 2^64 - 1."""
    return _Coster(checked, strict=strict).cost(checked.root)


@dataclass(slots=True)
class _Coster:
    checked: Checked
    strict: bool
    costs: dict[Node, int] = field(default_factory=dict)
    paths: dict[Node, Path] = field(default_factory=dict)
    sizes: dict[Node, Size] = field(default_factory=dict)
    entry_sizes: dict[Node, _Entries] = field(default_factory=dict)
    locals: dict[str, list[_Local]] = field(default_factory=dict)

    def cost(self, node: Node) -> int:
        """Return the cost of a node; one that occurs twice is looked at once."""
        known = self.costs.get(node)
        if known is None:
            known = self.costs[node] = _COSTS[type(node)](self, node)
        return known

    def literal(self, _: Literal) -> int:
        return 0

    def name(self, node: Name) -> int:
        local = self._local(node.name)
        self.paths[node] = (node.name,) if local is None else local.path
        return 1

    def select(self, node: Select) -> int:
        cost = self.cost(node.operand)
        if node.test:
            return cost + 1 if self.strict else cost
        self.paths[node] = (*self._path(node.operand), node.field)
        if node in self.checked.constants:
            return 1
        selects = self.strict or self.checked.types[node.operand].kind in {"map", "message"}
        return add(cost, 1) if selects else cost

    def list_(self, node: ListOf) -> int:
        cost = tracking.LIST
        items: Size = (estimates.MAX, 0) if node.elements else (0, 0)
        for element, _ in node.elements:
            cost = add(cost, self.cost(element))
            items = union(items, self._size_or_unknown(element))
        self.entry_sizes[node] = _Entries("list", (1, 1), items)
        return cost

    def map_(self, node: MapOf) -> int:
        cost = tracking.MAP
        keys = values = (estimates.MAX, 0) if node.entries else (0, 0)
        for key, value, _ in node.entries:
            cost = add(cost, self.cost(key), self.cost(value))
            keys = union(keys, self._size_or_unknown(key))
            values = union(values, self._size_or_unknown(value))
        self.entry_sizes[node] = _Entries("map", keys, values)
        return cost

    def message(self, node: Message) -> int:
        return add(tracking.MESSAGE, *(self.cost(value) for _, value, _ in node.fields))

    def comprehension(self, node: Comprehension) -> int:
        loop = node.loop
        cost = add(self.cost(node.range), self.cost(loop.init))
        entries = self._entries(loop.init)
        self._push(loop.accumulator, _Local(self._path(loop.init), self._size(loop.init), entries))
        if node.macro != "bind":
            self._push_variables(node)
            each = add(self.cost(loop.condition), self.cost(loop.step))
            self._pop(loop.variable)
            if loop.second:
                self._pop(loop.second)
        cost = add(cost, self.cost(loop.result))
        self._pop(loop.accumulator)
        if node.macro == "bind":
            self._copy(node, loop.result)
            return cost
        count = self._size_or_unknown(node.range)
        self._size_result(node, count)
        return add(cost, times(count[1], each))

    def _size_result(self, node: Comprehension, count: Size) -> None:
        loop = node.loop
        if isinstance(loop.init, Literal):
            size = self._size(loop.init)
            if size is not None:
                self.sizes[node] = size
        elif isinstance(loop.init, ListOf | MapOf):
            self.sizes[node] = count
            entries = self._entries(loop.step)
            if entries is not None:
                self.entry_sizes[node] = entries

    def _push_variables(self, node: Comprehension) -> None:
        entries, path = self._entries(node.range), self._path(node.range)
        kind = entries.kind if entries else self.checked.types[node.range].kind
        keys = None if entries is None else entries.keys
        values = None if entries is None else entries.values
        is_list = kind == "list"
        if node.loop.second:
            self._push(node.loop.variable, _Local((*path, "@indices" if is_list else "@keys"), keys))
            self._push(node.loop.second, _Local((*path, "@items" if is_list else "@values"), values))
        elif is_list:
            self._push(node.loop.variable, _Local((*path, "@items"), values))
        else:
            self._push(node.loop.variable, _Local((*path, "@keys"), keys))

    def call(self, node: Call) -> int:
        if node.function == "dyn" and node.target is None:
            cost = add(self.cost(node.arguments[0]), 1)
            self._copy(node, node.arguments[0])
            return cost
        arguments = self.checked.arguments(node)
        costs = list(map(self.cost, arguments))
        if node.function in {"_&&_", "_||_"}:
            return add(*costs)
        if node.function == "_?_:_":
            return self._choice(node, costs)
        if node.function == "_?._":
            return add(*costs, 1)
        return add(*costs, self._overloads(node, arguments))

    def _choice(self, node: Call, costs: list[int]) -> int:
        _, chosen, other = node.arguments
        entries = self._entries(chosen)
        both = entries.union(self._entries(other)) if entries else None
        if both is not None:
            self.entry_sizes[node] = both
        self.sizes[node] = union(self._size_or_unknown(chosen), self._size_or_unknown(other))
        return add(costs[0], max(costs[1:]))

    def _overloads(self, node: Call, arguments: tuple[Node, ...]) -> int:
        """Estimate the call by the most expensive of the overloads that it can mean."""
        operands = tuple(map(self._operand, arguments))
        name = self.checked.function(node)
        most, size = 0, None
        for overload in self.checked.overloads[node]:
            estimate = estimates.estimator(name, overload.id)(operands)
            most = max(most, times(estimate.cost, _LONGEST_CHECK if self.strict and name == "validate" else 1))
            if estimate.size is not None:
                size = estimate.size if size is None else union(size, estimate.size)
            if overload.id in {"index_list", "index_map"}:
                entries = self._entries(arguments[0])
                size = None if entries is None else entries.values
                step = "@items" if overload.id == "index_list" else "@values"
                self.paths[node] = (*self._path(arguments[0]), step)
            elif overload.id in {"add_list", "add_string", "add_bytes"}:
                self._join_entries(node, arguments)
            size = size or self._size(node)
        if size is not None:
            self.sizes[node] = size
        return most

    def _join_entries(self, node: Call, arguments: tuple[Node, ...]) -> None:
        entries = self._entries(arguments[0])
        both = entries.union(self._entries(arguments[1])) if entries else None
        if both is not None:
            self.entry_sizes[node] = both

    def _operand(self, node: Node) -> Operand:
        path = self._path(node)
        if path and path[0] == ACCUMULATOR:
            path = ()
        element = self._declared((*path, "@items")) if path else None
        return Operand(node, self.checked.types[node], self._size(node), element or estimates.UNKNOWN)

    def _local(self, name: str) -> _Local | None:
        stack = self.locals.get(name)
        return stack[-1] if stack else None

    def _push(self, name: str, local: _Local) -> None:
        self.locals.setdefault(name, []).append(local)

    def _pop(self, name: str) -> None:
        self.locals[name].pop()

    def _path(self, node: Node) -> Path:
        if isinstance(node, Name):
            local = self._local(node.name)
            if local is not None:
                return local.path
        return self.paths.get(node, ())

    def _copy(self, node: Node, source: Node) -> None:
        size, entries = self._size(source), self._entries(source)
        if size is not None:
            self.sizes[node] = size
        if entries is not None:
            self.entry_sizes[node] = entries

    def _entries(self, node: Node) -> _Entries | None:
        found = self.entry_sizes.get(node)
        if found is None and isinstance(node, Name):
            local = self._local(node.name)
            found = local.entries if local else None
        return found

    def _size_or_unknown(self, node: Node) -> Size:
        return self._size(node) or estimates.UNKNOWN

    def _size(self, node: Node) -> Size | None:
        known = self.sizes.get(node) or _written_size(node) or self._declared(self._path(node))
        if known is not None:
            return known
        if _is_scalar(self.checked.types[node]):
            return 1, 1
        local = self._local(node.name) if isinstance(node, Name) else None
        return local.size if local else None

    def _declared(self, path: Path) -> Size | None:
        """Return the size that the API allows for what a path from `device` leads to."""
        if not path or path[0] != "device" or "device" not in self.checked.environment.variables:
            return None
        place: _Place | None = _DEVICE
        for step in path[1:]:
            place = _step(place, step) if place else None
        if place is None:
            return None
        return 0, self.checked.environment.attribute_size if place.attribute else place.size


def _written_size(node: Node) -> Size | None:
    if isinstance(node, Literal):
        length = len(node.value) if isinstance(node.value, str | bytes) else 1
    elif isinstance(node, ListOf):
        length = len(node.elements)
    elif isinstance(node, MapOf):
        length = len(node.entries)
    else:
        return None
    return length, length


def _is_scalar(type_: Type) -> bool:
    return type_.kind in _SCALARS or (type_.is_optional and _is_scalar(type_.parameters[0]))


@dataclass(frozen=True, slots=True)
class _Place:
    """A part of the device as the API limits it."""

    size: int
    fields: Mapping[str, _Place] = field(default_factory=dict)
    key: _Place | None = None
    element: _Place | None = None
    attribute: bool = False


def _step(place: _Place, step: str) -> _Place | None:
    if step in {"@items", "@values"}:
        return place.element
    if step == "@keys":
        return place.key
    if step in place.fields:
        return place.fields[step]
    return place.element if place.element is not None and place.element.attribute else None


_ATTRIBUTE: Final = _Place(0, attribute=True)


def _map(key: int, element: _Place) -> _Place:
    return _Place(_MAX_ENTRIES, key=_Place(key), element=element)


_DEVICE: Final = _Place(
    0,
    {
        "driver": _Place(_MAX_NAME),
        "allowMultipleAllocations": _Place(1),
        "attributes": _map(_MAX_NAME, _map(_MAX_ID, _ATTRIBUTE)),
        "capacity": _map(_MAX_NAME, _map(_MAX_ID, _Place(0))),
    },
)
_COSTS: Final[Mapping[type[Node], Callable[..., int]]] = {
    Literal: _Coster.literal,
    Name: _Coster.name,
    Select: _Coster.select,
    Call: _Coster.call,
    ListOf: _Coster.list_,
    MapOf: _Coster.map_,
    Message: _Coster.message,
    Comprehension: _Coster.comprehension,
}
