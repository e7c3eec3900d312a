"""One simulated node: folders, a container runtime, a kubelet, and the real plugin beside them. Called by the cluster.

The parts fail one by one, as on a real machine: the kubelet restarts, the plugin is killed or replaced by a newer one,
the node reboots (the CDI folder and all containers are gone, the boot id is another, disks are as they were).
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from driver.model import vocabulary
from driver.simulation.access import NODES, Objects
from driver.simulation.kubelet.kubelets import Folders, Kubelet, Options
from driver.simulation.processes import DriverProcess, Value
from driver.simulation.runtime.containers import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """What a node is made of."""

    name: str
    hardware: str = "hgx-h100"
    """A node file that ships with the simulated vendor, or the path of one."""
    other_hardware: Mapping[str, str] = field(default_factory=dict)
    """The same by driver name, for those of `drivers` that serve something else (network interfaces)."""
    vendor: str = "simulated"
    drivers: tuple[str, ...] = (vocabulary.DEFAULT_DRIVER_NAME,)
    """Names of drivers, one plugin each; most nodes have one."""
    labels: Mapping[str, str] = field(default_factory=dict)
    vendor_options: tuple[str, ...] = ()
    """More options for the vendor, as key=value."""
    settings: Mapping[str, Value] = field(default_factory=dict)
    """More options for the plugins, named like flags."""


_FAST_SCANS: Final = {"scan-interval": "0.5", "log-format": "text"}


class SimulatedNode:
    """A node of the embedded cluster. `start` it after its Node object exists."""

    def __init__(self, spec: NodeSpec, folder: Path, kubeconfig: Path, objects: Objects, options: Options) -> None:
        self.spec = spec
        self.folder = folder
        self.folders = Folders(folder / "k")
        self.cdi = folder / "cdi"
        self.proc = folder / "proc"
        self._kubeconfig = kubeconfig
        self._objects = objects
        self._options = options
        self.plugins: dict[str, DriverProcess] = {}
        """Running plugin processes by driver name, and `driver:pod UID` during an update."""
        self.runtime = Runtime([self.cdi])
        self._kubelet: Kubelet | None = None
        self.cdi.mkdir(parents=True, exist_ok=True)
        self.folders.make()
        self._boot()

    def create_object(self) -> None:
        """Create the Node object."""
        name = self.spec.name
        labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", **self.spec.labels}
        self._objects.create(NODES, {"metadata": {"name": name, "labels": labels}})

    @property
    def kubelet(self) -> Kubelet:
        """The kubelet that runs now."""
        if self._kubelet is None:
            raise RuntimeError(f"the kubelet of {self.spec.name} is not running")
        return self._kubelet

    def start(self) -> None:
        """Start the kubelet and the plugins."""
        self.start_kubelet()
        for driver in self.spec.drivers:
            self.start_plugin(driver)

    def stop(self) -> None:
        """Stop everything; nothing is left but files."""
        for plugin in self.plugins.values():
            plugin.stop()
        self.plugins.clear()
        self.stop_kubelet()

    def start_kubelet(self, options: Options | None = None) -> None:
        """Start the kubelet on whatever an earlier one left."""
        kubelet = Kubelet(self._objects, self.spec.name, self.folders, self.runtime, options or self._options)
        kubelet.start()
        self._kubelet = kubelet

    def stop_kubelet(self) -> None:
        """Stop the kubelet alone."""
        if self._kubelet is not None:
            self._kubelet.stop()
            self._kubelet = None

    def restart_kubelet(self) -> None:
        """Stop the kubelet and start it again: pods go on, the slices of the node are wiped."""
        self.stop_kubelet()
        self.start_kubelet()

    def start_plugin(
        self, driver: str, *, pod_uid: str = "", settings: Mapping[str, Value] | None = None
    ) -> DriverProcess:
        """Start the plugin of a driver; with a pod UID it runs beside another one, as in a rolling update."""
        key = f"{driver}:{pod_uid}" if pod_uid else driver
        options = self._plugin_options(driver) | dict(settings or {})
        if pod_uid:
            options["pod-uid"] = pod_uid
        self.plugins[key] = DriverProcess("plugin", options, self.folder / f"{key.replace(':', '-')}.log")
        return self.plugins[key]

    def stop_plugin(self, key: str) -> int:
        """Stop a plugin as the kubelet stops its pod; return its exit code."""
        return self.plugins.pop(key).stop()

    def kill_plugin(self, key: str) -> None:
        """Kill a plugin between any two of its instructions."""
        self.plugins.pop(key).kill()

    def reboot(self) -> None:
        """Restart the machine: containers and tmpfs are gone, sockets are stale, disks stay."""
        for key in list(self.plugins):
            self.kill_plugin(key)
        self.stop_kubelet()
        self.runtime = Runtime([self.cdi])
        shutil.rmtree(self.cdi)
        self.cdi.mkdir()
        self._boot()
        self.start()

    def _boot(self) -> None:
        boot_id = self.proc / "sys" / "kernel" / "random" / "boot_id"
        boot_id.parent.mkdir(parents=True, exist_ok=True)
        boot_id.write_text(f"{uuid.uuid4()}\n")

    def _plugin_options(self, driver: str) -> dict[str, Value]:
        return {
            "vendor": self.spec.vendor,
            "vendor-option": (
                f"node={self.spec.other_hardware.get(driver, self.spec.hardware)}",
                f"seed={self.spec.name}-{driver}",
                *self.spec.vendor_options,
            ),
            "driver-name": driver,
            "node-name": self.spec.name,
            "kubeconfig": str(self._kubeconfig),
            "kubelet-plugins-dir": str(self.folders.plugins),
            "kubelet-registry-dir": str(self.folders.registry),
            "cdi-root": str(self.cdi),
            "proc-root": str(self.proc),
            **_FAST_SCANS,
            **self.spec.settings,
        }
