"""Which opaque configuration rules which allocation result.

Called by `core.preparing` for the node and by `core.policies` for the controller. Order decides, as the API says: class
entries come first, claim entries later, and a later one wins over an earlier one of the same kind. Configuration for
other drivers is none of our business and is not even parsed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from driver.model import vocabulary
from driver.model.claims import AllocationConfiguration, AllocationResult, OpaqueConfiguration
from driver.model.errors import InvalidInput

ALLOCATION_POLICY: Final = "AllocationPolicy"
"""Asks our controller to allocate (`core.policies`). The node accepts it unread: a pod whose devices are allocated must
not fail for a wish about how to choose them."""
KINDS: Final = (ALLOCATION_POLICY,)
"""Kinds of `config.accel-dra.dev/v1alpha1` that may stand in a class or claim."""
_SHOWN: Final = 80
"""Characters of a wrong value that an error repeats."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """One opaque configuration for us: its kind, and its parameters as the JSON text that arrived."""

    kind: str
    parameters: bytes


class _TypeMeta(msgspec.Struct, frozen=True, rename="camel"):
    """What every configuration must begin with (metav1.TypeMeta)."""

    api_version: str
    kind: str


_metas: Final = msgspec.json.Decoder(_TypeMeta)


def rule(
    entries: Iterable[AllocationConfiguration], driver: str, result: AllocationResult
) -> Mapping[str, Configuration]:
    """Return the configurations of `driver` that hold for `result`, by kind, the last of each kind.

    Raises `InvalidInput` if one of them is not of an API version and kind that we know.
    """
    configurations = (parse(opaque) for opaque in applying(entries, driver, result))
    return {configuration.kind: configuration for configuration in configurations}


def applying(
    entries: Iterable[AllocationConfiguration], driver: str, result: AllocationResult
) -> tuple[OpaqueConfiguration, ...]:
    """Return the entries of `driver` that apply to `result`, in order, repeated copies once (at their last place).

    An entry applies if it names no request, or the result's request exactly, or its main request when the result is
    for a subrequest (ResourceClaim API, DeviceClaimConfiguration.requests). Kubernetes 1.36 may list a claim's entry
    several times.
    """
    chosen: dict[tuple[str, bytes], OpaqueConfiguration] = {}
    for entry in entries:
        if entry.opaque is not None and entry.opaque.driver == driver and _names(entry.requests, result):
            key = (entry.source, bytes(entry.opaque.parameters))
            chosen.pop(key, None)
            chosen[key] = entry.opaque
    return tuple(chosen.values())


def parse(opaque: OpaqueConfiguration) -> Configuration:
    """Return a configuration for us. Raises `InvalidInput` unless it is of an API version and kind that we know."""
    text = bytes(opaque.parameters)
    try:
        meta = _metas.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(
            f"configuration for {opaque.driver}: parameters",
            shorten(text.decode("utf-8", "backslashreplace")),
            f"a JSON object with apiVersion and kind ({shorten(str(error))})",
        ) from error
    if meta.api_version != vocabulary.CONFIG_API_VERSION:
        raise InvalidInput(
            f"configuration for {opaque.driver}: apiVersion", shorten(meta.api_version), vocabulary.CONFIG_API_VERSION
        )
    if meta.kind not in KINDS:
        raise InvalidInput(f"configuration for {opaque.driver}: kind", shorten(meta.kind), ", ".join(KINDS))
    return Configuration(meta.kind, text)


def shorten(text: str) -> str:
    """Return a wrong value as an error repeats it: not more of it than a person reads."""
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _names(requests: tuple[str, ...], result: AllocationResult) -> bool:
    return not requests or result.request in requests or result.main_request in requests
