"""Sandboxes and containers of one node, as a runtime beside the kubelet keeps them.

The kubelet creates and removes; tests and the demo look. It outlives a restart of the kubelet, like a real runtime,
and forgets everything when the node reboots (make a new one). Safe for several threads.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from driver.simulation.runtime import cdi, injection
from driver.simulation.runtime.injection import Contents


@dataclass(frozen=True, slots=True)
class Wanted:
    """A container to be started."""

    cdi_devices: tuple[str, ...] = ()
    user: int = 0


@dataclass(frozen=True, slots=True)
class Container:
    """One running container."""

    name: str
    cdi_devices: tuple[str, ...]
    contents: Contents


@dataclass(slots=True)
class Sandbox:
    """One pod's sandbox and the containers in it; `exit_code` is None while it runs."""

    uid: str
    containers: dict[str, Container] = field(default_factory=dict)
    exit_code: int | None = None


class Runtime:
    """The container runtime of one node, reading CDI documents from `folders` (later ones have priority)."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)
        self._sandboxes: dict[str, Sandbox] = {}
        self._lock = threading.Lock()

    def create(self, uid: str) -> Sandbox:
        """Make the sandbox of a pod, or find it made."""
        with self._lock:
            return self._sandboxes.setdefault(uid, Sandbox(uid))

    def start(self, uid: str, containers: Mapping[str, Wanted]) -> None:
        """Start the containers of a pod in its sandbox, each with the CDI devices of its own; none if one fails.

        Raises `InjectionError`.
        """
        with self._lock:
            registry = cdi.load(self._folders)
            self._sandboxes[uid].containers = {
                name: Container(name, each.cdi_devices, injection.inject(registry, each.cdi_devices, each.user))
                for name, each in containers.items()
            }

    def find(self, uid: str) -> Sandbox | None:
        """Return the sandbox of a pod, or None."""
        with self._lock:
            return self._sandboxes.get(uid)

    def finish(self, uid: str, exit_code: int) -> None:
        """Let the processes of a pod end by themselves, as a job does."""
        with self._lock:
            self._sandboxes[uid].exit_code = exit_code

    def remove(self, uid: str) -> None:
        """Stop and remove a pod's containers and sandbox, if they are there."""
        with self._lock:
            self._sandboxes.pop(uid, None)

    def list_sandboxes(self) -> list[str]:
        """Return the UIDs of all pods that have a sandbox."""
        with self._lock:
            return list(self._sandboxes)
