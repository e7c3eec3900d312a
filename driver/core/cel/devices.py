"""Devices as selectors see them. Called by whoever allocates or explains.

Source: k8s.io/dynamic-resource-allocation cel/compile.go, DeviceMatches: names without a domain are in the driver's,
missing domains are empty maps, an attribute without a value makes every expression fail.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from driver.core.cel import amounts, semvers
from driver.core.cel.errors import EvaluationError
from driver.core.cel.programs import Program
from driver.core.cel.values import Domain, Domains, Value, kind_of

View = Mapping[str, Value]
"""The variable `device`."""


class PublishedAttribute(Protocol):
    """An attribute of a device; a type with lists has `ints`, `bools`, `strings` and `versions` as well."""

    @property
    def int_(self) -> int | None:
        """A number."""

    @property
    def bool_(self) -> bool | None:
        """A truth value."""

    @property
    def string(self) -> str | None:
        """A text."""

    @property
    def version(self) -> str | None:
        """A semantic version."""


class PublishedCapacity(Protocol):
    """A capacity of a device."""

    @property
    def value(self) -> str:
        """A quantity in text."""


class Published(Protocol):
    """What this module reads of a device: `model.slices.Device`, `model.published.PublishedDevice`."""

    @property
    def attributes(self) -> Mapping[str, PublishedAttribute]:
        """Attributes by name, with or without a domain."""

    @property
    def capacity(self) -> Mapping[str, PublishedCapacity]:
        """Capacities by name, with or without a domain."""


def view(
    driver: str, device: Published, *, allow_multiple_allocations: bool | None = None, list_attributes: bool = False
) -> View:
    """Return the value of `device` for one published device. Raises `EvaluationError` naming a bad attribute.

    `allow_multiple_allocations`: default is what the device says, if its type can say it. `list_attributes`: whether
    attributes may be lists (feature gate DRAListTypeAttributes); without it a list is a bad attribute.
    """
    attributes, capacity = Domains("attributes"), Domains("capacity")
    for name, attribute in device.attributes.items():
        domain, identifier = _split(name, driver)
        _domain(attributes, domain)[identifier] = _attribute(name, attribute, lists=list_attributes)
    for name, amount in device.capacity.items():
        domain, identifier = _split(name, driver)
        _domain(capacity, domain)[identifier] = _capacity(name, amount.value)
    if allow_multiple_allocations is None:
        allow_multiple_allocations = getattr(device, "allow_multiple_allocations", False)
    return {
        "driver": driver,
        "attributes": attributes,
        "capacity": capacity,
        "allowMultipleAllocations": allow_multiple_allocations,
    }


def matches(selector: Program, device: View) -> bool:
    """Say whether a device satisfies a selector. Raises `EvaluationError`, also if the result is no bool."""
    result = selector.evaluate_device(device)
    if result is True or result is False:
        return result
    raise EvaluationError(f"CEL result of type {kind_of(result)} could not be converted to bool")


def _split(name: str, driver: str) -> tuple[str, str]:
    domain, slash, identifier = name.partition("/")
    return (domain, identifier) if slash else (driver, name)


def _domain(domains: Domains, name: str) -> Domain:
    found = domains.get(name)
    if not isinstance(found, Domain):
        found = domains[name] = Domain(domains.group, name)
    return found


def _attribute(name: str, attribute: PublishedAttribute, *, lists: bool) -> Value:
    if attribute.string is not None:
        return attribute.string
    if attribute.int_ is not None:
        return attribute.int_
    if attribute.bool_ is not None:
        return attribute.bool_
    if attribute.version is not None:
        return _version(name, attribute.version)
    for kind in ("ints", "bools", "strings"):
        items = getattr(attribute, kind, None)
        if lists and items is not None:
            return list(items)
    versions = getattr(attribute, "versions", None)
    if lists and versions is not None:
        return [_version(name, each) for each in versions]
    raise EvaluationError(f"attribute {name}: unsupported attribute value")


def _version(name: str, text: str) -> Value:
    try:
        return semvers.parse(text)
    except EvaluationError as error:
        raise EvaluationError(f"attribute {name}: parse semantic version: {error}") from error


def _capacity(name: str, text: str) -> Value:
    try:
        return amounts.parse(text)
    except EvaluationError as error:
        raise EvaluationError(f"capacity {name}: {error}") from error
