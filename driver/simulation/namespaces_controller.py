"""The end of namespaces: what is in them goes first, then they. Called by the cluster.

kube-controller-manager's namespace controller for the kinds that workloads of a driver use. Pods end gracefully (their
claims are unprepared), so a namespace takes as long as its slowest pod.
"""

from __future__ import annotations

from typing import Final

import msgspec

from driver.model.errors import NotFound
from driver.simulation.access import KINDS, NAMESPACES, Objects
from driver.simulation.caching import Cache
from driver.simulation.loops import Loop
from driver.simulation.objects import Namespace

_CONTENTS: Final = tuple(KINDS[kind] for kind in ("Pod", "ResourceClaim", "ResourceClaimTemplate", "Event"))
_LOOK_SECONDS: Final = 0.2


class NamespacesController:
    """Empties and removes deleted namespaces until it is stopped."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._loop = Loop("namespaces-controller", self._run)
        self._namespaces = Cache(objects, NAMESPACES, self._loop.wake)

    def start(self) -> None:
        """Begin to work."""
        self._namespaces.start()
        self._loop.start()

    def stop(self) -> None:
        """End, and wait for the threads."""
        self._loop.stop()
        self._namespaces.stop()

    def _run(self) -> float | None:
        ending = [each for each in self._namespaces.items() if each.metadata.deletion_timestamp]
        remaining = [each for each in ending if not self._empty(each)]
        return _LOOK_SECONDS if remaining else None

    def _empty(self, namespace: Namespace) -> bool:
        """Delete what is in a namespace; once nothing is left, remove it."""
        name = namespace.metadata.name
        left = False
        for kind in _CONTENTS:
            for item in self._objects.list_all(kind, name):
                left = True
                if not item.metadata.deletion_timestamp:
                    self._objects.delete(kind, item)
        if not left:
            self._finalize(namespace)
        return not left

    def _finalize(self, namespace: Namespace) -> None:
        meta = {"name": namespace.metadata.name, "uid": namespace.metadata.uid}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": meta, "spec": {"finalizers": []}}
        try:
            self._objects.client.replace(
                NAMESPACES.path("", namespace.metadata.name, "finalize"), msgspec.json.encode(body)
            )
        except NotFound:
            return
