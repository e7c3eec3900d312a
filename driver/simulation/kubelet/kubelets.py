"""One kubelet: its loops, its folders, its memory. Called by the simulated node; it may be stopped and made again.

What it keeps over a restart is in its root folder (`dra_manager_state`); sandboxes are the runtime's. Making one on a
folder that an earlier one used is a restart.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from driver.simulation.access import NODES, PODS, Json, Objects
from driver.simulation.caching import Cache
from driver.simulation.events import Recorder, format_time
from driver.simulation.kubelet.claims import Claims
from driver.simulation.kubelet.health import HealthCache
from driver.simulation.kubelet.plugins import SERVICES, Plugins
from driver.simulation.kubelet.pods import Pods, Waits
from driver.simulation.kubelet.timings import Timings
from driver.simulation.kubelet.watcher import Watcher
from driver.simulation.loops import Loop
from driver.simulation.runtime.containers import Runtime

_NOT_READY: Final = "node.kubernetes.io/not-ready"


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Folders:
    """The kubelet's root folder and what lies in it."""

    root: Path

    @property
    def plugins(self) -> Path:
        """Data folders of plugins."""
        return self.root / "plugins"

    @property
    def registry(self) -> Path:
        """Registration sockets."""
        return self.root / "plugins_registry"

    def make(self) -> None:
        """Create them."""
        for folder in (self.plugins, self.registry):
            folder.mkdir(parents=True, exist_ok=True)


@dataclass(frozen=True, slots=True)
class Options:
    """How a kubelet behaves."""

    timings: Timings = field(default_factory=Timings)
    services: tuple[str, ...] = SERVICES
    """Plugin services it knows; an old one knows v1beta1 only."""
    waits: Waits = field(default_factory=lambda: Waits(clock=time.monotonic, now=_now, jitter=random.random))


class Kubelet:
    """The kubelet of one node. `start` it, `stop` it; a restart is a new one on the same folders and runtime."""

    def __init__(self, objects: Objects, node_name: str, folders: Folders, runtime: Runtime, options: Options) -> None:
        """Read what an earlier kubelet left. Raises `Corrupt` if it cannot be read: then a kubelet does not start."""
        folders.make()
        timings, waits = options.timings, options.waits
        self._objects = objects
        self._node_name = node_name
        self._now = waits.now
        self._timings = timings
        self.health = HealthCache(waits.clock, self._refresh_pods)
        self.plugins = Plugins(objects, node_name, timings, waits.clock, self.health, options.services)
        self.claims = Claims(folders.root, objects, self.plugins, timings)
        self.watcher = Watcher(folders.registry, folders.root, self.plugins, timings, waits.clock)
        events = Recorder(objects, "kubelet", waits.now, node_name)
        self.pods = Pods(events, self.claims, runtime, self.health.find, timings, waits)
        self._plugin_loop = Loop("kubelet-plugins", self._tend_plugins)
        self._pod_loop = Loop("kubelet-pods", self._sync_pods)
        self._node_loop = Loop("kubelet-node", self._report_node)
        self._cache = Cache(objects, PODS, self._pod_loop.wake, fields=f"spec.nodeName={node_name}")

    def start(self) -> None:
        """Begin: report the node ready, follow its pods, look for plugins."""
        self._cache.start()
        for loop in (self._node_loop, self._plugin_loop, self._pod_loop):
            loop.start()

    def stop(self) -> None:
        """End as a kubelet does: containers go on, plugins keep serving, nobody calls them."""
        for loop in (self._node_loop, self._plugin_loop, self._pod_loop):
            loop.stop()
        self._cache.stop()
        self.pods.close()
        self.watcher.close()
        self.plugins.close()

    def sync_soon(self) -> None:
        """Look at all pods again without waiting for anything."""
        self.pods.expedite()
        self._pod_loop.wake()

    def _refresh_pods(self) -> None:
        self._pod_loop.wake()

    def _tend_plugins(self) -> float:
        self.watcher.reconcile()
        self.plugins.tend()
        return self._timings.reconcile

    def _sync_pods(self) -> float | None:
        if not self._cache.is_synced:
            return self._timings.reconcile
        wait = self.pods.sync(self._cache.items(), self._pod_loop.wake)
        return min(self._timings.orphans, self._timings.orphans if wait is None else wait)

    def _report_node(self) -> None:
        node = self._objects.get(NODES, self._node_name)
        if node.is_ready:
            return
        moment = format_time(self._now())
        condition = {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "message": "kubelet is posting ready status",
            "lastHeartbeatTime": moment,
            "lastTransitionTime": moment,
        }
        self._objects.patch(NODES, node, {"status": {"conditions": [condition]}}, "status")
        # The node lifecycle controller takes off the taint that a new node gets from the API server.
        kept: list[Json] = [msgspec.to_builtins(each) for each in node.spec.taints if each.key != _NOT_READY]
        self._objects.patch(NODES, node, {"spec": {"taints": kept}})
