"""What a request takes of a capacity, from the words of the API documentation. Called by `allocation_checker`.

`granted` is the amount that an allocation has to say. Steps count in whole units: amounts are rounded up to them first.
"""

from __future__ import annotations

from collections.abc import Mapping

from driver.model import quantities
from driver.model.published import Capacity, PublishedDevice
from driver.model.quantities import NANO
from driver.model.slices import CapacityPolicy, CapacityRange


def granted(capacity: Capacity, asked: str | None) -> int | None:
    """Return what a request that asks for so much of a capacity gets; None if the policy has no such amount."""
    policy = capacity.request_policy
    default = _nanos(policy.default) if policy else None
    if asked is not None:
        wanted = quantities.parse(asked).nanos
        amount = _round(policy, wanted) if policy else wanted
    else:
        amount = quantities.parse(capacity.value).nanos if default is None else default
    return amount if policy is None or amount == default or _is_allowed(policy, amount) else None


def fits(device: PublishedDevice, asked: Mapping[str, str], held: Mapping[str, int]) -> bool:
    """Say whether a device of which so much is held still has what is asked for."""
    if not asked.keys() <= device.capacity.keys():
        return False
    amounts = {name: granted(capacity, asked.get(name)) for name, capacity in device.capacity.items()}
    return all(
        amount is not None and amount + held.get(name, 0) <= quantities.parse(device.capacity[name].value).nanos
        for name, amount in amounts.items()
    )


def _round(policy: CapacityPolicy, wanted: int) -> int:
    span = policy.valid_range
    if span is None or span.min is None:
        return next(
            (value for each in policy.valid_values if (value := quantities.parse(each).nanos) >= wanted), wanted
        )
    low, step = quantities.parse(span.min).nanos, _step(span)
    if wanted <= low or not step:
        return max(low, wanted)
    return (_units(low) - (_units(low) - _units(wanted)) // step * step) * NANO


def _is_allowed(policy: CapacityPolicy, amount: int) -> bool:
    span = policy.valid_range
    if span is None:
        return not policy.valid_values or amount in {quantities.parse(each).nanos for each in policy.valid_values}
    high, step = _nanos(span.max), _step(span)
    start = _units(_nanos(span.min) or 0)
    return (high is None or amount <= high) and (not step or (_units(amount) - start) % step == 0)


def _step(span: CapacityRange) -> int:
    return _units(_nanos(span.step) or 0)


def _units(nanos: int) -> int:
    return -(-nanos // NANO)


def _nanos(text: str | None) -> int | None:
    return None if text is None else quantities.parse(text).nanos
