"""Selectors asked once for devices with the same content, instead of once for each device. Called by `spots`.

Most expressions look at a few attributes by name, and most devices of a cluster agree in them. An expression that looks
at devices in any other way is asked device by device.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from driver.core.allocator import candidates
from driver.core.allocator.candidates import Candidates
from driver.core.allocator.devices import Device
from driver.core.allocator.pools import DevicePool
from driver.core.allocator.requests import Shape
from driver.core.allocator.selectors import Evaluate, SelectorFault
from driver.core.cel import CelError, parsing, semvers, syntax
from driver.core.cel.syntax import Call, Literal, Name, Node, Select
from driver.model import quantities
from driver.model.errors import InvalidInput

_MAX_SHAPES: Final = 256
_MAX_CONTENTS: Final = 4096
_PLAIN: Final = ("driver", "allowMultipleAllocations")
_MAPS: Final = ("attributes", "capacity")
_INDEXING: Final = frozenset({"_[_]", "_[?_]", "_?._"})
Read = tuple[str, str, str]
"""`attributes` or `capacity`, domain and name; or one of the plain fields and twice nothing."""
_Judgement = tuple[bool, bool]
"""Whether a device is selected, and whether it is usable too."""


class Contents:
    """Candidates of pools, found by the content of their devices."""

    def __init__(self, evaluate: Evaluate) -> None:
        self._evaluate = evaluate
        self._known: dict[Shape, _Shape | None] = {}

    def find(self, pool: DevicePool, shape: Shape) -> Candidates:
        """Return the candidates of a pool, as `candidates.find` does."""
        if shape not in self._known:
            if len(self._known) >= _MAX_SHAPES:
                self._known.clear()
            reads = _find_all_reads(shape)
            self._known[shape] = None if reads is None else _Shape(shape, reads)
        known = self._known[shape]
        judgements = None if known is None or pool.unreached else known.judge(pool, self._evaluate)
        if judgements is None:
            return candidates.find(pool, shape, self._evaluate)
        if all(is_usable for _, is_usable in judgements):
            return Candidates(pool.devices, pool.devices, {})
        pairs = list(zip(pool.devices, judgements, strict=True))
        selected = tuple(device for device, (is_selected, _) in pairs if is_selected)
        return Candidates(selected, tuple(device for device, (_, is_usable) in pairs if is_usable), {})


class _Shape:
    """What one shape looks at, and what was found out about devices."""

    def __init__(self, shape: Shape, reads: frozenset[Read]) -> None:
        self._shape = shape
        self._reads = sorted(reads)
        self._names: dict[str, tuple[list[str], list[str]]] = {}
        """For each driver the attributes and the capacities to look at, as they may be spelled."""
        self._judgements: dict[tuple[object, ...], _Judgement] = {}

    def judge(self, pool: DevicePool, evaluate: Evaluate) -> list[_Judgement] | None:
        """Return a judgement for each device; None if one of them takes a closer look."""
        driver = pool.key[0]
        attributes, capacities = self._find_names(driver)
        found = []
        for device in pool.devices:
            published = device.published
            if published.allow_multiple_allocations or not is_sound(device):
                return None
            key = (
                driver,
                device.taints,
                *map(published.attributes.get, attributes),
                *(capacity and capacity.value for capacity in map(published.capacity.get, capacities)),
            )
            judgement = self._judgements.get(key)
            if judgement is None:
                judgement = self._judge(pool, device, evaluate)
                if judgement is None:
                    return None
                if len(self._judgements) >= _MAX_CONTENTS:
                    self._judgements.clear()
                self._judgements[key] = judgement
            found.append(judgement)
        return found

    def _judge(self, pool: DevicePool, device: Device, evaluate: Evaluate) -> _Judgement | None:
        refusal = candidates.find_selector(pool.generation, device, self._shape, evaluate)
        if isinstance(refusal, SelectorFault):
            return None
        is_selected = refusal is None and candidates.suffices(device, self._shape)
        return is_selected, is_selected and candidates.find_taint(device, self._shape.tolerations) is None

    def _find_names(self, driver: str) -> tuple[list[str], list[str]]:
        if driver not in self._names:
            attributes, capacities = (
                [
                    spelling
                    for kind, domain, name in self._reads
                    if kind == wanted
                    for spelling in ([f"{domain}/{name}", name] if domain == driver else [f"{domain}/{name}"])
                ]
                for wanted in _MAPS
            )
            self._names[driver] = (attributes, capacities)
        return self._names[driver]


def is_sound(device: Device) -> bool:
    """Say whether CEL can read all of a device; one attribute that it cannot makes every expression fail."""
    if device.is_sound is None:
        device.is_sound = _find_soundness(device)
    return device.is_sound


def _find_soundness(device: Device) -> bool:
    for name, attribute in device.published.attributes.items():
        if attribute.version is not None:
            if not _is_version(attribute.version):
                return False
        elif attribute.string is None and attribute.int_ is None and attribute.bool_ is None:
            return False
        if "/" in name and name.rpartition("/")[2] in device.published.attributes:
            return False  # perhaps the same name in two spellings: which one counts is for CEL to say
    return all(_is_quantity(each.value) for each in device.published.capacity.values())


@lru_cache(maxsize=4096)
def _is_version(text: str) -> bool:
    try:
        semvers.parse(text)
    except CelError:
        return False
    return True


@lru_cache(maxsize=4096)
def _is_quantity(text: str) -> bool:
    try:
        quantities.parse(text)
    except InvalidInput:
        return False
    return True


def _find_all_reads(shape: Shape) -> frozenset[Read] | None:
    """Return what the selectors and the asked capacities of a shape look at; None if that cannot be told."""
    if shape.asked:
        return None  # capacities have policies, too
    found = [find_reads(each) for each in (*shape.class_selectors, *shape.selectors)]
    known = [each for each in found if each is not None]
    return frozenset().union(*known) if len(known) == len(found) else None


def find_reads(expression: str) -> frozenset[Read] | None:
    """Return what an expression looks at, or None if that cannot be told from its text."""
    try:
        pending: list[Node] = [parsing.parse(expression)]
    except CelError:
        return None
    reads: set[Read] = set()
    seen: set[Node] = set()
    while pending:
        node = pending.pop()
        read = _read(node)
        if read is not None:
            reads.add(read)
        elif isinstance(node, Name) and node.name == "device":
            return None
        elif node not in seen:
            seen.add(node)
            pending.extend(syntax.children(node))
    return frozenset(reads)


def _read(node: Node) -> Read | None:
    """Return what a path looks at: `device.driver`, `device.attributes["domain"].name` and the like."""
    last = _step(node)
    if last is None:
        return None
    operand, name = last
    if isinstance(operand, Name):
        return (name, "", "") if operand.name == "device" and name in _PLAIN else None
    middle = _step(operand)
    first = _step(middle[0]) if middle is not None else None
    if middle is None or first is None or first[1] not in _MAPS:
        return None
    return (first[1], middle[1], name) if isinstance(first[0], Name) and first[0].name == "device" else None


def _step(node: Node) -> tuple[Node, str] | None:
    """Return what one step of a path is taken from, and its name."""
    if isinstance(node, Select):
        return node.operand, node.field
    if not isinstance(node, Call) or node.function not in _INDEXING:
        return None
    operands = node.arguments if node.target is None else (node.target, *node.arguments)
    if len(operands) != 2 or not isinstance(operands[1], Literal) or not isinstance(operands[1].value, str):
        return None
    return operands[0], operands[1].value
