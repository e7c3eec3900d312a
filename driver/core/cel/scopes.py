"""Which names an expression may use, and of what type they are. Called by programs, checking and evaluating.

Source of the device: k8s.io/dynamic-resource-allocation cel/compile.go. Policies see plain JSON, of unknown type here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from driver.core.cel import signatures, typesystem
from driver.core.cel.signatures import Overload
from driver.core.cel.typesystem import BOOL, DYN, QUANTITY, STRING, Type, map_of

_ATTRIBUTES: Final = map_of(STRING, map_of(STRING, typesystem.ANY))
_LIST_ATTRIBUTES: Final = map_of(STRING, map_of(STRING, DYN))
_FIELDS: Final[Mapping[str, Type]] = {
    "driver": STRING,
    "attributes": _ATTRIBUTES,
    "capacity": map_of(STRING, map_of(STRING, QUANTITY)),
    "allowMultipleAllocations": BOOL,
}


@dataclass(frozen=True, slots=True)
class Environment:
    """What an expression is compiled against: variables, the fields of a device, functions."""

    variables: Mapping[str, Type]
    device_fields: Mapping[str, Type] = field(default_factory=dict)
    functions: Mapping[str, tuple[Overload, ...]] = field(default_factory=lambda: signatures.FUNCTIONS)
    attribute_size: int = 64
    """The longest text, or list, that an attribute can hold (DeviceAttributeMaxValueLength)."""


DEVICE: Final = Environment({"device": typesystem.DEVICE}, _FIELDS)
"""Selectors of DeviceClasses and ResourceClaims, with Kubernetes' default feature gates."""
LIST_DEVICE: Final = Environment(
    {"device": typesystem.DEVICE}, {**_FIELDS, "attributes": _LIST_ATTRIBUTES}, signatures.WITH_LISTS
)
"""The same with the feature gate DRAListTypeAttributes: attributes may be lists, and there is `includes`."""
_POLICY_NAMES: Final = ("object", "oldObject", "request", "params", "namespaceObject", "variables")
ADMISSION: Final = Environment(dict.fromkeys(_POLICY_NAMES, DYN))
"""ValidatingAdmissionPolicies, without authorizer."""
ALL: Final = Environment({**DEVICE.variables, **ADMISSION.variables}, _FIELDS)
"""Both; for tests and tools."""
