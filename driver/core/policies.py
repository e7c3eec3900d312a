"""Which claims ask for our controller, and how it shall choose devices for them: AllocationPolicy, read strictly.

Called by the controller and by `accel-dra explain`. A claim asks by opaque configuration of
kind AllocationPolicy for our driver, in itself or in a DeviceClass that one of its requests names. Class entries count
before those of the claim, each in their order, and the last one holds as a whole: what it leaves out has its default
and not the value of an earlier one. It rules the whole claim, whatever requests it names, because a claim is allocated
as a whole. Promises: nothing but `InvalidInput` is raised, and it names every fault by the path of its field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Final, TypeVar

import msgspec

from driver.core import configs, suggesting
from driver.model.claims import OpaqueConfiguration
from driver.model.errors import Faulty, InvalidInput
from driver.model.policies import GroupPolicy, Policy
from driver.model.requests import Configuration, DeviceClass, DeviceRequest, Request
from driver.model.vocabulary import FABRIC_DOMAIN
from driver.model.wanted import Claim

Fields = Mapping[str, object]
"""A JSON object: names and values."""
_Choice = TypeVar("_Choice", bound=Enum)

_FIELDS: Final = ("when", "interconnect", "numa", "placement", "group")
_TYPE_META: Final = ("apiVersion", "kind")
_GROUP_FIELDS: Final = ("size", "within")
_INT32: Final = range(1, 2**31)

_SUBDOMAIN: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_ATTRIBUTE: Final = re.compile(rf"(?P<domain>{_SUBDOMAIN})/[A-Za-z_][A-Za-z0-9_]{{0,31}}")
_LABEL_KEY: Final = re.compile(rf"((?P<domain>{_SUBDOMAIN})/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?")
_MAX_ATTRIBUTE_DOMAIN: Final = 63
_MAX_LABEL_DOMAIN: Final = 253


def find(claim: Claim, classes: Mapping[str, DeviceClass], driver: str) -> Policy | None:
    """Return the policy of a claim that asks for our controller; None if nobody asked.

    `classes` by name; one that does not exist is none of our business here. Raises `InvalidInput` for configuration
    of `driver` that is of no known kind, and for a wrong policy unless a later one replaces it.
    """
    last: tuple[str, configs.Configuration] | None = None
    for where, opaque in _list_entries(claim, classes, driver):
        try:
            configuration = configs.parse(opaque)
        except InvalidInput as error:
            raise InvalidInput(f"{where}: {error.field}", error.value, error.allowed) from error
        if configuration.kind == configs.ALLOCATION_POLICY:
            last = where, configuration
    return read(last[1].parameters, last[0]) if last is not None else None


def read(parameters: bytes, where: str = "") -> Policy:
    """Return the policy that the JSON text of an AllocationPolicy holds; `where` begins the path of every fault.

    Raises `InvalidInput`, as `Faulty` if there are several faults.
    """
    fields = _decode(parameters, where)
    faults: list[InvalidInput] = []
    prefix = f"{where}." if where else ""
    faults.extend(_find_unknown(fields, prefix, _FIELDS, _TYPE_META))
    defaults = Policy()
    policy = Policy(
        when=_choose(fields, "when", defaults.when, prefix, faults),
        interconnect=_choose(fields, "interconnect", defaults.interconnect, prefix, faults),
        numa=_choose(fields, "numa", defaults.numa, prefix, faults),
        placement=_choose(fields, "placement", defaults.placement, prefix, faults),
        group=_read_group(fields.get("group"), f"{prefix}group", faults),
    )
    if faults:
        raise faults[0] if len(faults) == 1 else Faulty(tuple(faults))
    return policy


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


def _decode(parameters: bytes, where: str) -> Fields:
    try:
        return msgspec.json.decode(parameters, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        text = configs.shorten(parameters.decode("utf-8", "backslashreplace"))
        allowed = f"a JSON object ({configs.shorten(str(error))})"
        raise InvalidInput(where or configs.ALLOCATION_POLICY, text, allowed) from error


def _find_unknown(
    fields: Fields, prefix: str, known: tuple[str, ...], meta: tuple[str, ...] = ()
) -> Iterator[InvalidInput]:
    for name in fields:
        if name in known or name in meta:
            continue
        allowed = f"no such field; the fields are {_list(known, name)}"
        path = configs.shorten(name if name.isprintable() else repr(name))
        yield InvalidInput(f"{prefix}{path}", _show(fields[name]), allowed)


def _choose(fields: Fields, name: str, default: _Choice, prefix: str, faults: list[InvalidInput]) -> _Choice:
    """Return the value of an enumeration; null is as if the field were absent, as everywhere in Kubernetes."""
    value = fields.get(name)
    if value is None:
        return default
    choices = {str(choice.value): choice for choice in type(default)}
    if isinstance(value, str) and value in choices:
        return choices[value]
    faults.append(InvalidInput(f"{prefix}{name}", _show(value), _list(choices, value)))
    return default


def _read_group(value: object, path: str, faults: list[InvalidInput]) -> GroupPolicy | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        faults.append(InvalidInput(path, _show(value), f"an object with the fields {', '.join(_GROUP_FIELDS)}"))
        return None
    faults.extend(_find_unknown(value, f"{path}.", _GROUP_FIELDS))
    size, within = value.get("size"), value.get("within")
    if isinstance(size, bool) or not isinstance(size, int) or size not in _INT32:
        faults.append(InvalidInput(f"{path}.size", _show(size), "a whole number, at least 1: how many claims it has"))
        size = 1
    if within is not None and not (isinstance(within, str) and (within == "" or _is_place(within))):
        allowed = f"the qualified name of a device attribute, such as {FABRIC_DOMAIN}, or the key of a node label"
        faults.append(InvalidInput(f"{path}.within", _show(within), allowed))
        within = ""
    return GroupPolicy(size, within or "")


def _is_place(text: str) -> bool:
    """Say whether it can be the name of an attribute or the key of a label."""
    for pattern, longest in ((_ATTRIBUTE, _MAX_ATTRIBUTE_DOMAIN), (_LABEL_KEY, _MAX_LABEL_DOMAIN)):
        found = pattern.fullmatch(text)
        if found is not None and len(found["domain"] or "") <= longest:
            return True
    return False


def _list(known: Iterable[str], written: object) -> str:
    """Return all that is allowed, and which of it was probably meant."""
    names = tuple(known)
    nearest = suggesting.find_nearest(written, names) if isinstance(written, str) else None
    return ", ".join(names) + (f" ({nearest} was probably meant)" if nearest else "")


def _show(value: object) -> object:
    """Return a wrong value as the error repeats it: JSON's words for what is no text or number."""
    if isinstance(value, str):
        return configs.shorten(value)
    if isinstance(value, (dict, list)):
        return configs.shorten(msgspec.json.encode(value).decode())
    return value
