"""What is special about a kind when it is written: the hooks upstream calls a REST strategy.

The registry asks `strategy_of(resource)` and calls the hooks in upstream's order. Hooks change the object they are
given (it is not stored yet) and return faults; they never touch the storage.
"""

from __future__ import annotations

from driver.simulation.apiserver.kinds import Resource
from driver.simulation.apiserver.statuses import Cause
from driver.simulation.apiserver.values import JsonObject, metadata, obj


class Strategy:
    """Defaults that fit kinds without rules of their own."""

    def __init__(self, resource: Resource) -> None:
        self.resource = resource

    def prepare_create(self, value: JsonObject) -> None:
        """Clears what a client may not set on create."""
        if self.resource.status:
            value.pop("status", None)
        if self.resource.generation:
            metadata(value)["generation"] = 1
        else:
            metadata(value).pop("generation", None)

    def prepare_update(self, new: JsonObject, old: JsonObject) -> None:
        """Keeps what an update of the main resource may not touch; counts the generation."""
        if self.resource.status:
            keep(new, old, "status")
        if self.resource.generation and spec_of(new) != spec_of(old):
            generation = metadata(old).get("generation")
            metadata(new)["generation"] = (generation if isinstance(generation, int) else 0) + 1

    def prepare_status(self, new: JsonObject, old: JsonObject) -> None:
        """Keeps everything but the status; some kinds let labels pass."""
        for key in [*new, *old]:
            if key not in {"metadata", "status", "kind", "apiVersion"}:
                keep(new, old, key)
        reset_metadata(new, old)

    def validate(self, new: JsonObject, old: JsonObject | None, subresource: str) -> list[Cause]:
        """The faults of a create (no `old`) or update."""
        del new, old, subresource
        return []

    def grace_period(self, value: JsonObject, wanted: int | None) -> int:
        """Seconds an object stays after its deletion; 0 removes it at once."""
        del value, wanted
        return 0


def keep(new: JsonObject, old: JsonObject, key: str) -> None:
    """Makes `new[key]` what it was."""
    if key in old:
        new[key] = old[key]
    else:
        new.pop(key, None)


def reset_metadata(new: JsonObject, old: JsonObject) -> None:
    """metav1.ResetObjectMetaForStatus: a status update changes no other metadata."""
    for key in (
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "labels",
        "annotations",
        "ownerReferences",
        "finalizers",
    ):
        keep(metadata(new), metadata(old), key)


def spec_of(value: JsonObject) -> JsonObject:
    """What the generation counts changes of: everything but metadata and status."""
    return {key: item for key, item in value.items() if key not in {"metadata", "status", "kind", "apiVersion"}}


def strategy_of(resource: Resource) -> Strategy:
    """The strategy of a resource."""
    return Strategy(resource)


def labels_of(value: JsonObject) -> JsonObject:
    """metadata.labels."""
    return obj(metadata(value).get("labels"))
