"""Devices as selectors see them, and selectors themselves. Called by whoever allocates or explains.

Source: k8s.io/dynamic-resource-allocation cel/compile.go, DeviceMatches: names without a domain are in the driver's,
missing domains are empty maps, an attribute without a value makes every expression fail.
"""

from __future__ import annotations

from collections.abc import Mapping

from driver.core.cel import semvers
from driver.core.cel.errors import EvaluationError
from driver.core.cel.programs import Program
from driver.core.cel.values import Defaulting, Value, kind_of
from driver.model import quantities
from driver.model.errors import InvalidInput
from driver.model.slices import Device, DeviceAttribute

View = Mapping[str, Value]
"""The variable `device`."""


def view(driver: str, device: Device, *, allow_multiple_allocations: bool = False) -> View:
    """Return the value of `device` for one published device. Raises `EvaluationError` naming a bad attribute."""
    attributes = {name: _attribute(name, attribute) for name, attribute in device.attributes.items()}
    capacity = {name: _capacity(name, amount.value) for name, amount in device.capacity.items()}
    return {
        "driver": driver,
        "attributes": _by_domain(driver, attributes),
        "capacity": _by_domain(driver, capacity),
        "allowMultipleAllocations": allow_multiple_allocations,
    }


def matches(selector: Program, device: View) -> bool:
    """Say whether a device satisfies a selector. Raises `EvaluationError`, also if the result is no bool."""
    result = selector.evaluate({"device": device})
    if result is True or result is False:
        return result
    raise EvaluationError(f"CEL result of type {kind_of(result)} could not be converted to bool")


def _by_domain(driver: str, named: Mapping[str, Value]) -> Defaulting:
    domains: dict[str, dict[str, Value]] = {}
    for name, value in named.items():
        domain, slash, identifier = name.rpartition("/")
        domains.setdefault(domain if slash else driver, {})[identifier] = value
    return Defaulting(domains)


def _attribute(name: str, attribute: DeviceAttribute) -> Value:
    if attribute.version is not None:
        try:
            return semvers.parse(attribute.version)
        except EvaluationError as error:
            raise EvaluationError(f"attribute {name}: parse semantic version: {error}") from error
    for value in (attribute.int_, attribute.bool_, attribute.string):
        if value is not None:
            return value
    raise EvaluationError(f"attribute {name}: unsupported attribute value")


def _capacity(name: str, text: str) -> Value:
    try:
        return quantities.parse(text)
    except InvalidInput as error:
        raise EvaluationError(f"capacity {name}: {error}") from error
