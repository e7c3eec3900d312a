"""Claims compiled: what every request asks for, in the form in which it is compared with devices.

`Shape` and `CompiledClaim.shape` are keys: requests or claims of equal shape have the same candidates, whatever their
names, so what is found out for one holds for all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final

from driver.core import suggesting
from driver.core.allocator.capacities import Amounts
from driver.core.allocator.outcomes import InvalidClaim
from driver.core.allocator.reasons import Code
from driver.model import quantities
from driver.model.claims import Toleration
from driver.model.errors import InvalidInput
from driver.model.requests import ALL, EXACT_COUNT, Constraint, DeviceClass, DeviceRequest, Request, Selector
from driver.model.wanted import Claim

MAX_RESULTS: Final = 32
"""Devices of one claim (AllocationResultsMaxSize)."""
Classes = Mapping[str, DeviceClass]


@dataclass(frozen=True, slots=True)
class ShapeKey:
    """What makes two requests have the same candidates."""

    class_selectors: tuple[str, ...]
    selectors: tuple[str, ...]
    tolerations: tuple[Toleration, ...]
    capacity: tuple[tuple[str, str], ...]
    """Asked amounts by literal name, as written."""


class Shape:
    """A `ShapeKey` that is compared by identity: equal keys give the same object, see `make_shape`."""

    __slots__ = ("asked", "class_selectors", "key", "selectors", "tolerations")

    def __init__(self, key: ShapeKey) -> None:
        self.key = key
        self.class_selectors = key.class_selectors
        self.selectors = key.selectors
        self.tolerations = key.tolerations
        self.asked: Amounts = {name: quantities.parse(text, name) for name, text in key.capacity}

    def tolerating(self, tolerations: tuple[Toleration, ...]) -> Shape:
        """Return the shape that tolerates more."""
        return make_shape(replace(self.key, tolerations=(*self.tolerations, *tolerations)))


@lru_cache(maxsize=4096)
def make_shape(key: ShapeKey) -> Shape:
    """Return the shape of a key. Raises `InvalidInput` for an amount that is no quantity."""
    return Shape(key)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One request, or one alternative of a request."""

    name: str
    """`request` or `request/subrequest`, as allocations say it."""
    source: DeviceRequest
    device_class: DeviceClass
    shape: Shape
    count: int
    is_all: bool
    admin_access: bool


@dataclass(frozen=True, slots=True)
class Slot:
    """One request of one claim: a place in the search."""

    claim: int
    """Position among the claims that are allocated together."""
    alternatives: tuple[Wanted, ...]
    is_list: bool
    """True if it is a list of alternatives (firstAvailable), even of one."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One constraint of a claim."""

    source: Constraint
    claim: int
    attribute: str
    is_match: bool
    """matchAttribute; else distinctAttribute."""
    is_of_policy: bool = False
    """Not written in the claim but required by its policy; see `requirements`."""

    def concerns(self, wanted: Wanted) -> bool:
        """Say whether it is about a request."""
        return self.source.concerns(wanted.name)


@dataclass(frozen=True, slots=True)
class CompiledClaim:
    """A claim, checked and ready to be searched for."""

    claim: Claim
    slots: tuple[Slot, ...]
    rules: tuple[Rule, ...]
    shape: tuple[object, ...] = field(repr=False)
    """Hashable; equal for claims that only differ in their names."""

    @property
    def written_rules(self) -> tuple[Rule, ...]:
        """The constraints that the claim itself has."""
        return tuple(rule for rule in self.rules if not rule.is_of_policy)


def compile_claim(
    claim: Claim, position: int, classes: Classes, tolerations: tuple[Toleration, ...] = ()
) -> CompiledClaim:
    """Compile one claim; `tolerations` are the allocator's own, which come to those of every request.

    Raises `InvalidClaim` for the first thing in it that no node can satisfy.
    """
    spec = claim.spec.devices
    slots = tuple(_compile_request(claim, position, request, classes) for request in spec.requests)
    if tolerations:
        slots = tuple(_tolerate(slot, tolerations) for slot in slots)
    rules = tuple(_compile_rule(claim, position, index, each) for index, each in enumerate(spec.constraints))
    return CompiledClaim(claim, slots, rules, _shape(slots, rules))


def _tolerate(slot: Slot, tolerations: tuple[Toleration, ...]) -> Slot:
    alternatives = tuple(replace(each, shape=each.shape.tolerating(tolerations)) for each in slot.alternatives)
    return replace(slot, alternatives=alternatives)


def _compile_request(claim: Claim, position: int, request: Request, classes: Classes) -> Slot:
    if request.first_available:
        names = [(f"{request.name}/{each.name}", each) for each in request.first_available]
        alternatives = tuple(_compile_wanted(claim, name, each, classes) for name, each in names)
        return Slot(position, alternatives, is_list=True)
    exactly = request.exactly or DeviceRequest()
    return Slot(position, (_compile_wanted(claim, request.name, exactly, classes),), is_list=False)


def _compile_wanted(claim: Claim, name: str, source: DeviceRequest, classes: Classes) -> Wanted:
    where = f"claim {claim}, request {name}"
    selectors = _read_selectors(where, source.selectors)
    if not source.device_class_name:
        raise InvalidClaim(f"{where}: missing device class name (unsupported request type?)")
    device_class = classes.get(source.device_class_name)
    if device_class is None:
        nearest = suggesting.find_nearest(source.device_class_name, sorted(classes))
        hint = f" ({nearest} was probably meant)" if nearest else ""
        raise InvalidClaim(f"{where}: device class {source.device_class_name} does not exist{hint}", Code.CLASS_MISSING)
    if source.allocation_mode not in (EXACT_COUNT, ALL):
        raise InvalidClaim(f"{where}: unsupported allocation mode {source.allocation_mode}; known: ExactCount, All")
    key = ShapeKey(
        _read_selectors(f"class {source.device_class_name}", device_class.spec.selectors),
        selectors,
        source.tolerations,
        tuple(source.capacity.requests.items()) if source.capacity else (),
    )
    try:
        shape = make_shape(key)
    except InvalidInput as error:
        raise InvalidClaim(f"{where}: {error}") from error
    is_all = source.allocation_mode == ALL
    return Wanted(name, source, device_class, shape, source.count, is_all, source.admin_access)


def _read_selectors(where: str, selectors: Sequence[Selector]) -> tuple[str, ...]:
    for index, each in enumerate(selectors):
        if each.cel is None:
            raise InvalidClaim(f"{where}, selector #{index}: CEL expression empty (unsupported selector type?)")
    return tuple(each.cel.expression for each in selectors if each.cel is not None)


def _compile_rule(claim: Claim, position: int, index: int, source: Constraint) -> Rule:
    attribute = source.match_attribute or source.distinct_attribute
    if not attribute:
        raise InvalidClaim(f"claim {claim}, constraint #{index}: empty constraint (unsupported constraint type?)")
    return Rule(source, position, attribute, is_match=bool(source.match_attribute))


def _shape(slots: Sequence[Slot], rules: Sequence[Rule]) -> tuple[object, ...]:
    asked = tuple(
        (slot.is_list, *((each.shape, each.count, each.is_all, each.admin_access) for each in slot.alternatives))
        for slot in slots
    )
    return asked, tuple((rule.is_match, rule.attribute, _coverage(rule, slots)) for rule in rules)


def _coverage(rule: Rule, slots: Sequence[Slot]) -> tuple[tuple[bool, ...], ...]:
    return tuple(tuple(rule.concerns(each) for each in slot.alternatives) for slot in slots)
