"""Which claims ask for our controller, and how it shall choose devices for them: AllocationPolicy, read strictly.

Called by the controller and by `accel-dra explain`. A claim asks by opaque configuration of
kind AllocationPolicy for our driver, in itself or in a DeviceClass that one of its requests names. Class entries count
before those of the claim, each in their order, and the last one holds as a whole: what it leaves out has its default
and not the value of an earlier one. It rules the whole claim, whatever requests it names, because a claim is allocated
as a whole. Promises: nothing but `InvalidInput` is raised, and it names every fault by the path of its field.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from driver.core.configuring import documents, fields
from driver.core.configuring.documents import ALLOCATION_POLICY
from driver.model.claims import OpaqueConfiguration
from driver.model.errors import InvalidInput
from driver.model.policies import Policy
from driver.model.requests import Configuration, DeviceClass, DeviceRequest, Request
from driver.model.wanted import Claim


def find(claim: Claim, classes: Mapping[str, DeviceClass], driver: str) -> Policy | None:
    """Return the policy of a claim that asks for our controller; None if nobody asked.

    `classes` by name; one that does not exist is none of our business here. Raises `InvalidInput` for configuration
    of `driver` that is of no known kind, and for a wrong policy unless a later one replaces it.
    """
    last: tuple[str, bytes] | None = None
    for where, opaque in _list_entries(claim, classes, driver):
        text = bytes(opaque.parameters)
        try:
            kind = documents.identify(text)
        except InvalidInput as error:
            raise fields.put(error, where) from error
        if kind == ALLOCATION_POLICY:
            last = where, text
    return read(last[1], last[0]) if last is not None else None


def read(parameters: bytes, where: str = "parameters") -> Policy:
    """Return the policy that the JSON text of an AllocationPolicy holds; `where` begins the path of every fault.

    Raises `InvalidInput`, as `Faulty` if there are several faults.
    """
    try:
        content = documents.read(parameters)
    except InvalidInput as error:
        raise fields.put(error, where) from error
    if not isinstance(content, Policy):
        raise InvalidInput(f"{where}.kind", documents.identify(parameters), ALLOCATION_POLICY)
    return content


def name_classes(requests: Iterable[Request]) -> tuple[str, ...]:
    """Return the names of the classes that requests and their alternatives ask for, each once, in order."""
    return tuple(dict.fromkeys(each.device_class_name for request in requests for each in _list_wishes(request)))


def _list_entries(
    claim: Claim, classes: Mapping[str, DeviceClass], driver: str
) -> Iterator[tuple[str, OpaqueConfiguration]]:
    """Yield the entries for our driver with the path of their parameters, classes first."""
    for name in name_classes(claim.spec.devices.requests):
        if name in classes:
            where = f"DeviceClass {name}: spec.config"
            yield from _select(classes[name].spec.config, where, driver)
    yield from _select(claim.spec.devices.config, "spec.devices.config", driver)


def _list_wishes(request: Request) -> tuple[DeviceRequest, ...]:
    return (request.exactly,) if request.exactly is not None else request.first_available


def _select(entries: tuple[Configuration, ...], where: str, driver: str) -> Iterator[tuple[str, OpaqueConfiguration]]:
    for index, entry in enumerate(entries):
        if entry.opaque is not None and entry.opaque.driver == driver:
            yield f"{where}[{index}].opaque.parameters", entry.opaque
