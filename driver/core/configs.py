"""Which opaque configuration rules which allocation result, unread. Called by `core.preparing`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from driver.core.configuring import documents, fields, ruling
from driver.model.claims import AllocationConfiguration, AllocationResult
from driver.model.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Configuration:
    """One opaque configuration for us: its kind, and its parameters as the JSON text that arrived."""

    kind: str
    parameters: bytes


def rule(
    entries: Iterable[AllocationConfiguration], driver: str, result: AllocationResult
) -> Mapping[str, Configuration]:
    """Return the configurations of `driver` that hold for `result`, by kind, the last of each kind.

    Raises `InvalidInput` if one of them is not of an API version and kind that we know.
    """
    found: dict[str, Configuration] = {}
    for entry in ruling.applying(entries, driver, result):
        text = bytes(entry.opaque.parameters) if entry.opaque is not None else b""
        try:
            kind = documents.identify(text)
        except InvalidInput as error:
            raise fields.put(error, f"configuration for {driver}: parameters") from error
        found[kind] = Configuration(kind, text)
    return found
