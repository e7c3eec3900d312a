"""Opaque configuration in claims, classes and allocations: which driver, how big, an object."""

from __future__ import annotations

from typing import Final

import msgspec

from driver.simulation.apiserver.checking import Faults, invalid, required, too_long
from driver.simulation.apiserver.strategies.slices import check_driver
from driver.simulation.apiserver.values import Json, obj

MAX_PARAMETERS: Final = 10 * 1024
MAX_CONFIGS: Final = 32


def check_opaque(value: Json, path: str) -> Faults:
    """`opaque` of one config entry; `path` is the entry."""
    if value is None:
        return [required(f"{path}.opaque")]
    opaque = obj(value)
    faults = check_driver(opaque.get("driver"), f"{path}.opaque.driver")
    return faults + check_raw(opaque.get("parameters"), f"{path}.opaque.parameters", needed=True)


def check_raw(value: Json, path: str, *, needed: bool) -> Faults:
    """Bytes that must be one JSON object of at most 10 KiB."""
    if not isinstance(value, msgspec.Raw):
        return [required(path)] if needed else []
    raw = bytes(value)
    if len(raw) > MAX_PARAMETERS:
        return [too_long(path, MAX_PARAMETERS)]
    if raw.lstrip().startswith(b"{"):
        return []
    return [invalid(path, "<value omitted>", "must be a valid JSON object")]
