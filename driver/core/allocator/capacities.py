"""Consumable capacity (KEP-5075): how much of each capacity of a device a request takes, and whether it may.

Called by `candidates` for what never changes and by `tracking` for what others have left. Amounts are whole numbers of
10^-9. Rules: Kubernetes v1.36 structured allocator, consumable capacity; `docs/allocator.md` states them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from driver.model import quantities
from driver.model.published import Capacity as PublishedCapacity
from driver.model.quantities import NANO, Format, Quantity
from driver.model.slices import CapacityPolicy

Amounts = Mapping[str, Quantity]
"""Amounts by literal capacity name."""


@dataclass(frozen=True, slots=True)
class Policy:
    """CapacityRequestPolicy, parsed: how an asked amount is rounded and checked."""

    default: Quantity | None
    minimum: Quantity | None
    maximum: Quantity | None
    step: int
    """In whole units, because the API rounds there; 0: none."""
    has_range: bool
    valid_values: tuple[Quantity, ...]

    def round(self, asked: Quantity) -> Quantity:
        """Return what is taken when `asked` is asked for: never less."""
        if self.minimum is not None:
            return self._round_in_range(asked, self.minimum)
        return next((value for value in self.valid_values if value >= asked), asked)

    def _round_in_range(self, asked: Quantity, minimum: Quantity) -> Quantity:
        if asked < minimum:
            return minimum
        if not self.step:
            return asked
        start = minimum.rounded_up
        steps = -(-(asked.rounded_up - start) // self.step)
        return Quantity((start + steps * self.step) * NANO, Format.BINARY)

    def allows(self, amount: Quantity) -> bool:
        """Say whether an amount may be taken. The default always may."""
        if amount == self.default:
            return True
        if self.has_range:
            return self._is_in_range(amount)
        return not self.valid_values or amount in self.valid_values

    def _is_in_range(self, amount: Quantity) -> bool:
        if self.maximum is not None and amount > self.maximum:
            return False
        start = self.minimum.rounded_up if self.minimum is not None else 0
        return not self.step or (amount.rounded_up - start) % self.step == 0


@dataclass(frozen=True, slots=True)
class Capacity:
    """One capacity of a device."""

    name: str
    value: Quantity
    policy: Policy | None

    def take(self, asked: Quantity | None) -> Quantity:
        """Return how much a request takes: what it asks for, rounded; else the policy's default; else everything."""
        if asked is None:
            default = self.policy.default if self.policy else None
            return self.value if default is None else default
        return self.policy.round(asked) if self.policy else asked

    def allows(self, amount: Quantity) -> bool:
        """Say whether the policy accepts an amount and the device is large enough for it."""
        return amount <= self.value and (self.policy is None or self.policy.allows(amount))


def compile_capacity(name: str, capacity: PublishedCapacity) -> Capacity:
    """Parse one capacity. Raises `InvalidInput` for a text that is no quantity."""
    policy = capacity.request_policy
    return Capacity(name, quantities.parse(capacity.value, name), _compile_policy(policy) if policy else None)


def _compile_policy(policy: CapacityPolicy) -> Policy:
    span = policy.valid_range
    step = _parse(span.step) if span else None
    return Policy(
        default=_parse(policy.default),
        minimum=_parse(span.min) if span else None,
        maximum=_parse(span.max) if span else None,
        step=step.rounded_up if step else 0,
        has_range=span is not None,
        valid_values=tuple(map(quantities.parse, policy.valid_values)),
    )


def _parse(text: str | None) -> Quantity | None:
    return None if text is None else quantities.parse(text)


def take(capacities: Sequence[Capacity], asked: Amounts) -> Amounts | None:
    """Return what a request takes of every capacity of a device; None if the device can never give it.

    A name is literal: one that the device does not have, or has with another spelling, rules the device out.
    """
    if asked and not asked.keys() <= {each.name for each in capacities}:
        return None
    taken: dict[str, Quantity] = {}
    for each in capacities:
        amount = taken[each.name] = each.take(asked.get(each.name))
        if not each.allows(amount):
            return None
    return taken
