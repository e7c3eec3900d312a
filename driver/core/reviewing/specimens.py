"""Devices that may stand before a selector: the barest and the richest that the vocabulary allows, and one of others.

Called by `selecting`. Made from `core.specification`, so that they change with the vocabulary. Published devices join
them where slices are known, one for every set of attributes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from driver.core import cel, specification
from driver.core.cel import CelError, View
from driver.core.specification import CAPACITIES, TYPES, Kind, On, Word
from driver.model import vocabulary
from driver.model.published import Attribute, Capacity, PublishedDevice, PublishedSlice
from driver.model.sharing import Strategy
from driver.model.slices import CapacityPolicy, CapacityRange
from driver.model.vocabulary import TYPE, TYPE_GPU, TYPE_NIC, TYPE_PARTITION

FOREIGN_DRIVER: Final = "device.example.com"
_TEXTS: Final[Mapping[str, str]] = {
    vocabulary.FABRIC_DOMAIN: "fabric.1",
    vocabulary.PCI_BUS_ID: "0000:1a:00.0",
    vocabulary.PCIE_ROOT: "pci0000:16",
    vocabulary.ALLOCATOR: vocabulary.ALLOCATOR_CONTROLLER,
    vocabulary.SHARING: Strategy.MPS.value,
}
"""Attributes whose text has a form."""
_SHARES: Final[Mapping[str, Capacity]] = {
    vocabulary.MEMORY: Capacity(
        value="1Gi", request_policy=CapacityPolicy(default="1Gi", valid_range=CapacityRange(min="64Mi", step="1Mi"))
    ),
    vocabulary.SHARE: Capacity(
        value="100", request_policy=CapacityPolicy(default="100", valid_range=CapacityRange(min="1", step="1"))
    ),
}
"""Capacities of a device that can be shared."""
_SHARED_TYPES: Final = (TYPE_GPU, TYPE_PARTITION)
_MAX_SHAPES: Final = 64
"""Sets of attributes of published devices that are tried; a cluster has a handful."""


@dataclass(frozen=True, slots=True)
class Specimen:
    """One device, and what it stands for in a sentence."""

    what: str
    """`a device of type gpu that has no more than it must`."""
    type: str
    """Empty: of another driver."""
    view: View


def make(driver: str) -> tuple[Specimen, ...]:
    """Return one bare and one full device of every type of ours, and one of another driver."""
    found: list[Specimen] = []
    for kind in TYPES:
        owner = FOREIGN_DRIVER if kind == TYPE_NIC else driver
        for what, is_full in (("has no more than it must", False), ("has everything", True)):
            device = _describe(kind, is_full=is_full)
            found.append(Specimen(f"a device of type {kind} that {what}", kind, cel.view(owner, device)))
    foreign = PublishedDevice(name="other", attributes={"example.com/model": Attribute(string="x")})
    return (*found, Specimen("a device of another driver", "", cel.view(FOREIGN_DRIVER, foreign)))


def sample(slices: Iterable[PublishedSlice]) -> tuple[Specimen, ...]:
    """Return one published device for each driver, type and set of attributes and capacities."""
    found: dict[tuple[str, str, frozenset[str]], Specimen] = {}
    for driver, pool, device in list_devices(slices):
        attribute = device.attributes.get(TYPE)
        kind = (attribute.string or "") if attribute is not None else ""
        key = (driver, kind, frozenset((*device.attributes, *(f"{name} " for name in device.capacity))))
        if key in found or len(found) >= _MAX_SHAPES:
            continue
        try:
            found[key] = Specimen(f"device {pool}/{device.name} of {driver}", kind, cel.view(driver, device))
        except CelError:
            continue
    return tuple(found.values())


def list_devices(slices: Iterable[PublishedSlice]) -> Iterator[tuple[str, str, PublishedDevice]]:
    """Yield driver, pool and device of all slices."""
    for each in slices:
        for device in each.spec.devices:
            yield each.spec.driver, each.spec.pool.name, device


def _describe(kind: str, *, is_full: bool) -> PublishedDevice:
    """Return a device as it is published; a full one can be shared if its type can."""
    on = On.PARTITIONS if kind == TYPE_PARTITION else On.WHOLE
    is_shared = is_full and kind in _SHARED_TYPES
    words = [
        word
        for word in specification.ATTRIBUTES
        if word.on in (On.ALL, on) and (word.always or is_full) and (is_shared or word.name != vocabulary.SHARING)
    ]
    capacities = [name for name, where in CAPACITIES.items() if where is On.ALL or (where is on and is_full)]
    plain = {name: Capacity(value="1Gi") for name in capacities if name != vocabulary.SHARE}
    return PublishedDevice(
        name=kind,
        attributes={word.name: _give(word, kind) for word in words},
        capacity={**plain, **(_SHARES if is_shared else {})},
        allow_multiple_allocations=is_shared,
    )


def _give(word: Word, kind: str) -> Attribute:
    """Return a value that an attribute can have."""
    match word.kind:
        case Kind.INT:
            return Attribute(int_=0)
        case Kind.BOOL:
            return Attribute(bool_=False)
        case Kind.VERSION:
            return Attribute(version="1.0.0")
    return Attribute(string=kind if word.name == TYPE else _TEXTS.get(word.name, "x"))
