"""The devices of one pool that requests of one shape may get, whatever is allocated. Kept with the pool.

Called by `plans` and by explanations. Order and laziness are upstream's: class selectors, then the request's; a
selector that fails is remembered and only counts when its device is reached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from driver.core.allocator import capacities
from driver.core.allocator.capacities import Amounts
from driver.core.allocator.devices import Device
from driver.core.allocator.generations import Generation
from driver.core.allocator.pools import DevicePool
from driver.core.allocator.requests import Shape
from driver.core.allocator.selectors import Evaluate, SelectorFault
from driver.core.cel import CelError
from driver.model.claims import Toleration
from driver.model.errors import InvalidInput
from driver.model.slices import DeviceTaint

_MAX_SHAPES: Final = 32
"""Shapes remembered for a pool; then all are forgotten."""
_MAX_EXPRESSIONS: Final = 64


@dataclass(frozen=True, slots=True)
class Candidates:
    """What requests of one shape may get from one pool, in order."""

    selected: tuple[Device, ...]
    """Every selector matches or fails, and the device is large enough."""
    usable: tuple[Device, ...]
    """Those of them whose taints are tolerated."""
    faults: dict[Device, SelectorFault]
    """Those of them for which a selector fails."""


def find(pool: DevicePool, shape: Shape, evaluate: Evaluate) -> Candidates:
    """Return the candidates of a pool."""
    return keep(pool, shape, lambda pool, shape: _find(pool, shape, evaluate))


def keep(pool: DevicePool, shape: Shape, search: Callable[[DevicePool, Shape], Candidates]) -> Candidates:
    """Return the candidates of a pool; what has to be searched for is kept with it."""
    found = pool.by_shape.get(shape)
    if not isinstance(found, Candidates):
        found = search(pool, shape)
        if len(pool.by_shape) >= _MAX_SHAPES:
            pool.by_shape.clear()
        pool.by_shape[shape] = found
    return found


def _find(pool: DevicePool, shape: Shape, evaluate: Evaluate) -> Candidates:
    faults: dict[Device, SelectorFault] = {}
    selected: list[Device] = []
    for device in pool.devices:
        refusal = find_selector(pool.generation, device, shape, evaluate)
        if isinstance(refusal, SelectorFault):
            faults[device] = refusal
            selected.append(device)
        elif refusal is None and device not in pool.unreached and suffices(device, shape):
            selected.append(device)
    usable = (each for each in selected if each in faults or find_taint(each, shape.tolerations) is None)
    return Candidates(tuple(selected), tuple(usable), faults)


def find_selector(
    generation: Generation, device: Device, shape: Shape, evaluate: Evaluate
) -> SelectorFault | tuple[bool, int] | None:
    """Return the first selector that fails for a device, or that does not match it; None if all of them match.

    A selector is told by whether it is the class's, and its number.
    """
    for is_of_class, expressions in ((True, shape.class_selectors), (False, shape.selectors)):
        for index, expression in enumerate(expressions):
            verdict = _ask(generation, device, expression, evaluate)
            if isinstance(verdict, CelError):
                return SelectorFault(verdict, index, is_of_class=is_of_class)
            if not verdict:
                return is_of_class, index
    return None


def _ask(generation: Generation, device: Device, expression: str, evaluate: Evaluate) -> object:
    known = generation.verdicts.get(expression)
    if known is None:
        if len(generation.verdicts) >= _MAX_EXPRESSIONS:
            generation.verdicts.clear()
        known = generation.verdicts[expression] = {}
    verdict = known.get(device)
    if verdict is None:
        try:
            verdict = evaluate(expression, device)
        except CelError as error:
            verdict = error
        known[device] = verdict
    return verdict


def amounts(device: Device, shape: Shape) -> Amounts:
    """Return what a candidate gives of each capacity to a request of a shape."""
    return capacities.take(device.capacities, shape.asked) or {}


def suffices(device: Device, shape: Shape) -> bool:
    """Say whether a device, with nothing taken of it, has what a shape asks for."""
    try:
        return capacities.take(device.capacities, shape.asked) is not None
    except InvalidInput:
        return False  # one bad device is one bad device; the API server lets no such text through


def find_taint(device: Device, tolerations: Sequence[Toleration]) -> DeviceTaint | None:
    """Return the first taint of a device that is not tolerated, or None."""
    for taint in device.taints:
        if not any(tolerates(each, taint) for each in tolerations):
            return taint
    return None


def tolerates(toleration: Toleration, taint: DeviceTaint) -> bool:
    """Say whether a toleration covers a taint: an empty effect or key covers all; unknown operators cover none."""
    if toleration.effect not in ("", taint.effect) or toleration.key not in ("", taint.key):
        return False
    return toleration.operator == "Exists" or (toleration.operator in ("", "Equal") and toleration.value == taint.value)
