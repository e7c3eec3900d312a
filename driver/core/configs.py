"""Which opaque configuration rules which allocation result.

Called by `core.preparing` for the node and by the allocator for its policy. Order decides, as the API says: class
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
"""Asks our controller to allocate; the node accepts it and does nothing."""
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


def rule(
    entries: Iterable[AllocationConfiguration], driver: str, result: AllocationResult
) -> Mapping[str, Configuration]:
    """Return the configurations of `driver` that hold for `result`, by kind, the last of each kind.

    Raises `InvalidInput` if one of them is not of an API version and kind that we know.
    """
    configurations = (_parse(opaque) for opaque in applying(entries, driver, result))
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


def _names(requests: tuple[str, ...], result: AllocationResult) -> bool:
    return not requests or result.request in requests or result.main_request in requests


def _parse(opaque: OpaqueConfiguration) -> Configuration:
    text = bytes(opaque.parameters)
    try:
        meta = msgspec.json.decode(text, type=_TypeMeta)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(
            f"configuration for {opaque.driver}: parameters",
            _shorten(text.decode("utf-8", "backslashreplace")),
            f"a JSON object with apiVersion and kind ({_shorten(str(error))})",
        ) from error
    if meta.api_version != vocabulary.CONFIG_API_VERSION:
        raise InvalidInput(
            f"configuration for {opaque.driver}: apiVersion", _shorten(meta.api_version), vocabulary.CONFIG_API_VERSION
        )
    if meta.kind not in KINDS:
        raise InvalidInput(f"configuration for {opaque.driver}: kind", _shorten(meta.kind), ", ".join(KINDS))
    return Configuration(meta.kind, text)


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
