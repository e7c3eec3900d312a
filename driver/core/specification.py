"""The published vocabulary as rules a machine checks: docs/vocabulary.md in code. Called by `inventory` and the tests.

`check` says everything that is wrong with a device at once. It promises that a device without faults is accepted by
the API server (limits of resource.k8s.io/v1) and means what the specification says. A test keeps this table, the
document and `driver.model.vocabulary` equal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from driver.model import quantities, slices, vocabulary
from driver.model.errors import InvalidInput
from driver.model.sharing import Strategy
from driver.model.slices import Device, DeviceAttribute


class Kind(Enum):
    """Type of an attribute, as the field of DeviceAttribute is called."""

    STRING = "string"
    INT = "int"
    BOOL = "bool"
    VERSION = "version"


class On(Enum):
    """Which devices carry it."""

    ALL = "all"
    WHOLE = "whole devices"
    PARTITIONS = "partitions"


@dataclass(frozen=True, slots=True)
class Word:
    """One attribute. `always`: such a device without it is not described well enough to be chosen; None: no device."""

    name: str
    kind: Kind
    on: On = On.ALL
    always: On | None = None
    pattern: str = ""
    """Regular expression (RE2) that the whole text matches; empty: any text."""


BUS_ID: Final = r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]"
PCIE_ROOT: Final = r"pci[0-9a-f]{4,8}:[0-9a-f]{2}"
STRATEGIES: Final = (Strategy.MPS.value, Strategy.TIME_SLICING.value)
TYPES: Final = (vocabulary.TYPE_GPU, vocabulary.TYPE_PARTITION, vocabulary.TYPE_VFIO, vocabulary.TYPE_NIC)

ATTRIBUTES: Final = (
    Word(vocabulary.VENDOR, Kind.STRING, always=On.ALL, pattern=r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"),
    Word(vocabulary.TYPE, Kind.STRING, always=On.ALL, pattern="|".join(TYPES)),
    Word(vocabulary.MODEL, Kind.STRING),
    Word(vocabulary.ARCHITECTURE, Kind.STRING),
    Word(vocabulary.INDEX, Kind.INT, always=On.ALL),
    Word(vocabulary.UUID, Kind.STRING, always=On.WHOLE),
    Word(vocabulary.DRIVER_VERSION, Kind.VERSION),
    Word(vocabulary.DRIVER_VERSION_TEXT, Kind.STRING),
    Word(vocabulary.RUNTIME_VERSION, Kind.VERSION),
    Word(vocabulary.COMPUTE_CAPABILITY, Kind.VERSION),
    Word(vocabulary.INTERCONNECT_DOMAIN, Kind.STRING, On.WHOLE),
    Word(vocabulary.INTERCONNECT_GBPS, Kind.INT, On.WHOLE),
    Word(vocabulary.FABRIC_DOMAIN, Kind.STRING, On.WHOLE, pattern=r".+\.[0-9]+"),
    Word(vocabulary.ALLOCATOR, Kind.STRING, pattern=vocabulary.ALLOCATOR_CONTROLLER),
    Word(vocabulary.SHARING, Kind.STRING, pattern="|".join(STRATEGIES)),
    Word(vocabulary.PROFILE, Kind.STRING, On.PARTITIONS, always=On.PARTITIONS),
    Word(vocabulary.PARENT_UUID, Kind.STRING, On.PARTITIONS, always=On.PARTITIONS),
    Word(vocabulary.PLACEMENT, Kind.INT, On.PARTITIONS, always=On.PARTITIONS),
    Word(vocabulary.PCI_BUS_ID, Kind.STRING, pattern=BUS_ID),
    Word(vocabulary.PCIE_ROOT, Kind.STRING, pattern=PCIE_ROOT),
    Word(vocabulary.NUMA_NODE, Kind.INT),
)

CAPACITIES: Final = {
    vocabulary.MEMORY: On.ALL,
    vocabulary.MULTIPROCESSORS: On.ALL,
    vocabulary.COPY_ENGINES: On.PARTITIONS,
    vocabulary.DECODERS: On.PARTITIONS,
    vocabulary.ENCODERS: On.PARTITIONS,
    vocabulary.JPEG_ENGINES: On.PARTITIONS,
    vocabulary.OFA_ENGINES: On.PARTITIONS,
    vocabulary.SHARE: On.ALL,
}

TAINT_EFFECTS: Final = {
    vocabulary.TAINT_UNHEALTHY: "NoSchedule",
    vocabulary.TAINT_DEGRADED: "None",
    vocabulary.TAINT_CONTROLLER_ONLY: "NoSchedule",
}

_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?", re.ASCII)
_NAME: Final = re.compile(r"(?=[^/]{1,63}/)[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z_][A-Za-z0-9_]{0,31}", re.ASCII)
_SEMVER: Final = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?"
    r"(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?",
    re.ASCII,
)
_WORDS: Final = {word.name: word for word in ATTRIBUTES}
OWN_DOMAINS: Final = (f"{vocabulary.DOMAIN}/", f"{vocabulary.STANDARD_DOMAIN}/")


def check(device: Device) -> tuple[str, ...]:
    """Return every fault of a device as a sentence that names the field, the value and what is allowed."""
    checks = (_check_frame, _check_attributes, _check_capacities, _check_shares, _check_taints)
    return tuple(fault for find in checks for fault in find(device))


def is_qualified_name(name: str) -> bool:
    """Return whether the API takes this as the name of an attribute: `domain/C_identifier`, 63 and 32 characters."""
    return _NAME.fullmatch(name) is not None


def _check_frame(device: Device) -> Iterator[str]:
    if not _LABEL.fullmatch(device.name):
        yield f"name: {device.name!r} is not a DNS label"
    entries = len(device.attributes) + len(device.capacity)
    if entries > vocabulary.ENTRIES_PER_DEVICE:
        yield f"attributes and capacity: {entries} entries; allowed: {vocabulary.ENTRIES_PER_DEVICE}"


def _check_attributes(device: Device) -> Iterator[str]:
    kind_of_device = _find_type(device)
    for name, attribute in device.attributes.items():
        word = _WORDS.get(name)
        if word is None:
            yield from _check_foreign(name, attribute)
            continue
        if word.on not in (On.ALL, kind_of_device):
            yield f"{name}: only {word.on.value} carry it"
        yield from _check_value(name, word.kind, attribute)
        if word.pattern and attribute.string and not re.fullmatch(word.pattern, attribute.string, re.ASCII):
            yield f"{name}: {attribute.string!r} does not match {word.pattern}"
    for word in ATTRIBUTES:
        if word.always in (On.ALL, kind_of_device) and word.name not in device.attributes:
            yield f"{word.name}: missing; every device of this type carries it"
    if vocabulary.DRIVER_VERSION in device.attributes and vocabulary.DRIVER_VERSION_TEXT not in device.attributes:
        yield f"{vocabulary.DRIVER_VERSION_TEXT}: missing; it stands beside {vocabulary.DRIVER_VERSION}"


def _check_foreign(name: str, attribute: DeviceAttribute) -> Iterator[str]:
    """Attributes of other domains belong to the vendor; only the API's own rules hold for them."""
    if name.startswith(OWN_DOMAINS):
        yield f"{name}: not a word of vocabulary {vocabulary.SPEC_VERSION}"
    elif not is_qualified_name(name):
        yield f"{name}: not a qualified name (domain/C_identifier)"
    set_fields = _read(attribute)
    if len(set_fields) == 1:
        yield from _check_value(name, next(iter(set_fields)), attribute)
    else:
        yield f"{name}: {len(set_fields)} values; allowed: exactly one"


def _check_value(name: str, kind: Kind, attribute: DeviceAttribute) -> Iterator[str]:
    values = _read(attribute)
    if set(values) != {kind}:
        yield f"{name}: given as {' and '.join(given.value for given in values) or 'nothing'}; allowed: {kind.value}"
        return
    value = values[kind]
    if isinstance(value, str) and not 0 < len(value.encode()) <= slices.MAX_TEXT:
        yield f"{name}: {value!r} has {len(value.encode())} bytes; allowed: 1 to {slices.MAX_TEXT}"
    if kind is Kind.VERSION and not _SEMVER.fullmatch(str(value)):
        yield f"{name}: {value!r} is not a semantic version"
    if kind is Kind.INT and isinstance(value, int) and value < 0 and name in _WORDS:
        yield f"{name}: {value} is negative; what is not known is left out"


def _check_capacities(device: Device) -> Iterator[str]:
    for name, capacity in device.capacity.items():
        on = CAPACITIES.get(name)
        if on is None and name.startswith(OWN_DOMAINS):
            yield f"{name}: not a word of vocabulary {vocabulary.SPEC_VERSION}"
        elif on not in (None, On.ALL, _find_type(device)):
            yield f"{name}: only {On.PARTITIONS.value} carry it"
        elif not is_qualified_name(name):
            yield f"{name}: not a qualified name (domain/C_identifier)"
        try:
            amount = quantities.parse(capacity.value, name)
        except InvalidInput as error:
            yield str(error)
            continue
        if not amount.is_whole or amount.nanos < 0:
            yield f"{name}: {capacity.value} is not a whole number of at least 0"
        elif amount.nanos == 0 and on is On.ALL:
            yield f"{name}: 0; what is not known is left out"


def _check_shares(device: Device) -> Iterator[str]:
    """Three things say that a device can be shared, for selectors, for people and for the scheduler."""
    said = {
        f"attribute {vocabulary.SHARING}": vocabulary.SHARING in device.attributes,
        f"capacity {vocabulary.SHARE}": vocabulary.SHARE in device.capacity,
        "allowMultipleAllocations": device.allow_multiple_allocations,
    }
    if any(said.values()) and not all(said.values()):
        missing = " and ".join(name for name, is_there in said.items() if not is_there)
        yield f"{missing}: missing; a device that can be shared has all of {', '.join(said)}"


def _check_taints(device: Device) -> Iterator[str]:
    if len(device.taints) > slices.MAX_TAINTS:
        yield f"taints: {len(device.taints)}; allowed: {slices.MAX_TAINTS}"
    for taint in device.taints:
        effect = TAINT_EFFECTS.get(taint.key)
        if effect is None:
            yield f"taints: {taint.key!r}; allowed: {', '.join(TAINT_EFFECTS)}"
        elif taint.effect != effect:
            yield f"taints: {taint.key} has effect {taint.effect!r}; allowed: {effect}"
        if not _LABEL_VALUE.fullmatch(taint.value):
            yield f"taints: {taint.value!r} is not a label value"


def _find_type(device: Device) -> On:
    attribute = device.attributes.get(vocabulary.TYPE)
    is_partition = attribute is not None and attribute.string == vocabulary.TYPE_PARTITION
    return On.PARTITIONS if is_partition else On.WHOLE


def _read(attribute: DeviceAttribute) -> Mapping[Kind, str | int]:
    """Return the values that are set, by kind."""
    values = {
        Kind.STRING: attribute.string,
        Kind.INT: attribute.int_,
        Kind.BOOL: attribute.bool_,
        Kind.VERSION: attribute.version,
    }
    return {kind: value for kind, value in values.items() if value is not None}
