"""What is special about a kind when it is written: the hooks upstream calls a REST strategy.

The registry calls the hooks in upstream's order: prepare, default, validate. Hooks change the object they are given
(it is not stored yet) and return faults; they never touch the storage. This class fits kinds without rules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from driver.simulation.apiserver.checking import Faults, subdomain_rules
from driver.simulation.apiserver.gates import FeatureGates
from driver.simulation.apiserver.kinds import Resource
from driver.simulation.apiserver.sources import Sources
from driver.simulation.apiserver.storage import Key
from driver.simulation.apiserver.values import JsonObject, metadata

Lookup = Callable[[str, Key], "JsonObject | None"]
"""Reads another object: resource name and key to the object, or None."""
CelFault = Callable[[str], "str | None"]
"""What is wrong with a device selector, in the words of the compiler; None if nothing."""


def _no_fault(_expression: str) -> str | None:
    return None


@dataclass(frozen=True)
class World:
    """What rules may ask about besides the object itself."""

    gates: FeatureGates
    sources: Sources
    lookup: Lookup
    cel_fault: CelFault = field(default=_no_fault)


class Strategy:
    """Rules of one resource; override what is special."""

    def __init__(self, resource: Resource, world: World) -> None:
        self.resource = resource
        self.world = world

    def prepare_create(self, value: JsonObject) -> None:
        """Clears what a client may not set on create."""
        if self.resource.status:
            value.pop("status", None)

    def prepare_update(self, new: JsonObject, old: JsonObject) -> None:
        """Keeps what an update of the main resource may not touch."""
        if self.resource.status:
            keep(new, old, "status")

    def prepare_status(self, new: JsonObject, old: JsonObject) -> None:
        """Keeps everything but the status."""
        for key in {*new, *old} - {"metadata", "status", "kind", "apiVersion"}:
            keep(new, old, key)
        reset_metadata(new, old)

    def prepare_other(self, new: JsonObject, old: JsonObject) -> None:
        """The same for a write through another subresource."""

    def default(self, value: JsonObject) -> None:
        """Fills in what the client left out."""

    def validate(self, new: JsonObject, old: JsonObject | None, subresource: str) -> Faults:
        """The faults of a create (no `old`) or update."""
        del new, old, subresource
        return []

    def validate_name(self, name: str) -> list[str]:
        """What is wrong with metadata.name."""
        return subdomain_rules(name)

    def warnings(self, new: JsonObject, old: JsonObject | None) -> list[str]:
        """Texts of Warning headers."""
        del new, old
        return []

    graceful = False
    """Whether a deletion leaves a grace period (pods)."""

    def lingers(self, value: JsonObject) -> bool:
        """Whether the kind itself holds a deleted object (namespaces until they are empty)."""
        del value
        return False

    def grace_period(self, value: JsonObject, wanted: int | None) -> int:
        """Seconds an object stays after its deletion; 0 removes it at once."""
        del value, wanted
        return 0

    def mark_deleting(self, value: JsonObject) -> None:
        """Changes an object that is about to be deleted but stays for now."""


def keep(new: JsonObject, old: JsonObject, key: str) -> None:
    """Makes `new[key]` what it was."""
    if key in old:
        new[key] = old[key]
    else:
        new.pop(key, None)


RESET = (
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
)


def reset_metadata(new: JsonObject, old: JsonObject) -> None:
    """metav1.ResetObjectMetaForStatus: a status update changes no other metadata."""
    for key in RESET:
        keep(metadata(new), metadata(old), key)
