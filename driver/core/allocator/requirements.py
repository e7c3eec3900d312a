"""What a policy demands of the devices of a claim, as constraints of the claim. Called by `tracking` and by `best`.

So every way to search obeys them, and an explanation names them like a constraint that the author wrote.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from driver.core.allocator.constraints import Constraint, Values
from driver.core.allocator.devices import Device
from driver.core.allocator.layouts import ACCELERATORS
from driver.core.allocator.requests import CompiledClaim, Rule
from driver.model.policies import Policy, Preference
from driver.model.requests import Constraint as WrittenConstraint
from driver.model.vocabulary import INTERCONNECT_DOMAIN, NUMA_NODE, TYPE

_NOTHING: Final[Values] = frozenset()


def require(claim: CompiledClaim, policy: Policy) -> CompiledClaim:
    """Return the claim with what its policy requires."""
    rules = tuple(_list_rules(claim, policy))
    if not rules:
        return claim
    shape = (*claim.shape, *(rule.attribute for rule in rules))
    return replace(claim, rules=(*claim.rules, *rules), shape=shape)


def _list_rules(claim: CompiledClaim, policy: Policy) -> Iterator[Rule]:
    position = claim.slots[0].claim if claim.slots else 0
    wanted = ((policy.interconnect, INTERCONNECT_DOMAIN), (policy.numa, NUMA_NODE))
    for preference, attribute in wanted:
        if preference is Preference.REQUIRE:
            source = WrittenConstraint(match_attribute=attribute)
            yield Rule(source, position, attribute, is_match=True, is_of_policy=True)


class Requirement(Constraint):
    """All devices that it is about have one value. A single one needs none; beside another one, no value is no match.

    The interconnect is about devices that have a domain and about accelerators, which could have one; a network
    interface is passed by. The NUMA node is about every device.
    """

    def __init__(self, rule: Rule, *, with_lists: bool) -> None:
        super().__init__(rule, with_lists=with_lists)
        self._common: list[Values | None] = [None]
        self._bits: list[int] = []

    def add(self, device: Device, bit: int) -> int | None:
        """Accept a device, or return the choices because of which it cannot be."""
        values = self.values(device)
        common = self._common[-1]
        if values is None and not self._is_about(device):
            self._common.append(common)
            self._bits.append(0)
            return None
        values = (values or _NOTHING) if common is None else (values or _NOTHING) & common
        if common is not None and not values:
            return sum({*self._bits})
        self._common.append(values)
        self._bits.append(bit)
        return None

    def remove(self) -> None:
        """Take back the device that was accepted last."""
        self._common.pop()
        self._bits.pop()

    def _is_about(self, device: Device) -> bool:
        if self.rule.attribute == NUMA_NODE:
            return True
        kind = device.find_attribute(TYPE)
        return kind is not None and kind.string in ACCELERATORS
