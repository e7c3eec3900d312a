"""What a DELETE does to one object: preconditions, grace period, finalizers, marking.

Called by the registry. Pure: works on values, the registry stores or removes.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

from driver.simulation.apiserver.kinds import Resource
from driver.simulation.apiserver.sources import Sources, format_time
from driver.simulation.apiserver.statuses import conflict
from driver.simulation.apiserver.storage import Item, Key
from driver.simulation.apiserver.strategies import Strategy
from driver.simulation.apiserver.values import Json, JsonObject, copy_object, items, metadata, text

FOREGROUND: Final = "foregroundDeletion"
ORPHAN: Final = "orphan"
_POLICY_FINALIZERS: Final = {"Foreground": FOREGROUND, "Orphan": ORPHAN}


@dataclass(frozen=True)
class DeleteOptions:
    """metav1.DeleteOptions as far as it is honoured."""

    uid: str = ""
    resource_version: str = ""
    grace: int | None = None
    propagation: str = ""


class Deleter:
    """The rules of one resource's deletion."""

    def __init__(self, resource: Resource, strategy: Strategy, sources: Sources) -> None:
        self._resource = resource
        self._strategy = strategy
        self._sources = sources

    def check(self, key: Key, stored: Item, options: DeleteOptions) -> None:
        """409 where a precondition does not hold."""
        uid = text(metadata(stored.value).get("uid"))
        why = ""
        if options.uid and options.uid != uid:
            why = (
                f"the UID in the precondition ({options.uid}) does not match the UID in record ({uid}). "
                "The object might have been deleted and then recreated"
            )
        elif options.resource_version and options.resource_version != str(stored.rv):
            why = (
                f"the ResourceVersion in the precondition ({options.resource_version}) does not match the "
                f"ResourceVersion in record ({stored.rv}). The object might have been modified"
            )
        if why:
            raise conflict(self._resource.group, self._resource.kind, key[1], why)

    def mark(self, value: JsonObject, options: DeleteOptions) -> JsonObject:
        """The object as it looks while (or when) it goes: deletionTimestamp where the kind or a finalizer wants one."""
        graceful = self._strategy.graceful
        policy = _POLICY_FINALIZERS.get(options.propagation)
        if not graceful and not policy and not finalizers(value) and not self._strategy.lingers(value):
            return value
        grace = self._strategy.grace_period(value, options.grace)
        meta = metadata(value)
        before = meta.get("deletionGracePeriodSeconds")
        if meta.get("deletionTimestamp"):
            shorter = isinstance(before, int) and grace < before
            return self._shorten(value, grace) if shorter else value
        marked = copy_object(value)
        meta = metadata(marked)
        meta["deletionTimestamp"] = self._in(grace)
        meta["deletionGracePeriodSeconds"] = grace
        generation = meta.get("generation")
        if self._resource.generation and isinstance(generation, int):
            meta["generation"] = generation + 1
        if policy:
            meta["finalizers"] = [*items(meta.get("finalizers")), policy]
        self._strategy.mark_deleting(marked)
        return marked

    def _shorten(self, value: JsonObject, grace: int) -> JsonObject:
        marked = copy_object(value)
        metadata(marked)["deletionTimestamp"] = self._in(grace)
        metadata(marked)["deletionGracePeriodSeconds"] = grace
        return marked

    def _in(self, seconds: int) -> str:
        return format_time(self._sources.now() + dt.timedelta(seconds=seconds))

    def stays(self, marked: JsonObject) -> bool:
        """Whether something still holds the object."""
        return bool(
            finalizers(marked) or metadata(marked).get("deletionGracePeriodSeconds") or self._strategy.lingers(marked)
        )


def finalizers(value: JsonObject) -> list[Json]:
    """metadata.finalizers."""
    return items(metadata(value).get("finalizers"))
