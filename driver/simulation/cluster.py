"""The embedded cluster: API server, scheduler, controllers, nodes with kubelets and the real plugin on each.

`with Cluster([NodeSpec(name="n1")]) as cluster:` is all that demo, tests and benchmarks need. Everything goes through
real HTTP, real sockets and real processes; only hardware, scheduler, kubelet and container runtime are simulated. The
plugins have the rights that deploy/base gives them, and no more.
Leaving it ends all threads and processes and removes all files.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from driver.kube.access import Access
from driver.kube.client import Client
from driver.lifecycle import Service
from driver.model.errors import DriverError, Unavailable
from driver.simulation import manifests
from driver.simulation.access import LEASES, NAMESPACES, PODS, SLICES, Objects
from driver.simulation.apiserver import ApiServer, User
from driver.simulation.claims_controller import ClaimsController
from driver.simulation.kubelet.kubelets import Options
from driver.simulation.kubelet.timings import Timings
from driver.simulation.nodes import NodeSpec, SimulatedNode
from driver.simulation.objects import Pod
from driver.simulation.processes import DriverProcess
from driver.simulation.resources import Slice
from driver.simulation.runtime.containers import Sandbox
from driver.simulation.scheduler.scheduling import Scheduler

T = TypeVar("T")

DEFAULT_SPEED: Final = 10.0
"""How much faster than a real kubelet this one retries and reconciles."""
_INSTALLED: Final = ("serviceaccount", "clusterrole", "controller-role", "slice-policy", "deviceclasses")
"""Files of deploy/base; `SimulatedNode` and `start_controller` do what DaemonSet and Deployment do."""
_NAMESPACE: Final = "accel-dra"
_ACCOUNT: Final = "accel-dra-node"
_CONTROLLER: Final = "accel-dra-controller"
_EAGER: Final = {"explain-after": "0.5", "explain-every": "1", "log-format": "text"}
"""Settings of the controller for people and tests, who wait."""
_LOOK_SECONDS: Final = 0.02
_READY_SECONDS: Final = 60.0
_LONGEST_BASE: Final = 16
"""Characters of the folder for temporary files; sockets below it must stay within 107 bytes with a pod UID in them."""


def _now() -> datetime:
    return datetime.now(UTC)


def _make_folder() -> Path:
    base = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="ad", dir=base if len(base) <= _LONGEST_BASE else "/tmp"))  # noqa: S108 - short


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """How a cluster behaves."""

    kubelet: Options = field(default_factory=lambda: Options(timings=Timings(speed=DEFAULT_SPEED)))
    port: int = 0
    """Port of the API server; 0 takes any."""
    controllers: int = 0
    """Processes of our controller, of which one leads."""


class Cluster(Service):
    """A cluster in this process, with one plugin process a node and driver."""

    def __init__(self, nodes: Sequence[NodeSpec], options: ClusterOptions | None = None) -> None:
        self._options = options or ClusterOptions()
        self._specs = tuple(nodes)
        self._token = secrets.token_hex()
        admin = User("admin", groups=("system:masters",))
        self.server = ApiServer(port=self._options.port, authorize=True, tokens={self._token: admin})
        self.folder = _make_folder()
        self.kubeconfig = self.folder / "kubeconfig"
        self.nodes: dict[str, SimulatedNode] = {}
        self.controllers: dict[str, DriverProcess] = {}
        """Running processes of our controller by the name of their pod."""
        self._clients: list[Client] = []
        self._controllers: list[Scheduler | ClaimsController] = []

    def start(self) -> None:
        """Start everything; returns before the nodes are ready, see `wait_ready`."""
        self.server.start()
        self.server.kubeconfig(self.kubeconfig, user="admin", token=self._token)
        self.objects = self.connect()
        self.create_namespace(_NAMESPACE)
        for name in _INSTALLED:
            manifests.apply(self.objects, manifests.read(manifests.find("base", f"{name}.yaml")))
        for spec in self._specs:
            self.add_node(spec)
        self._controllers = [
            ClaimsController(self.connect(), _now),
            Scheduler(self.connect(), _now),
        ]
        for controller in self._controllers:
            controller.start()
        for number in range(self._options.controllers):
            self.start_controller(f"controller-{number}")

    def stop(self) -> None:
        """End everything and remove all files. Safe after a start that failed half-way."""
        for process in self.controllers.values():
            process.stop()
        for node in self.nodes.values():
            node.stop()
        for controller in self._controllers:
            controller.stop()
        for client in self._clients:
            client.close()
        self.server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def connect(self) -> Objects:
        """Return a connection of its own to the API server, closed with the cluster."""
        client = Client(Access(server=self.server.url, token=self._token))
        self._clients.append(client)
        return Objects(client)

    def add_node(self, spec: NodeSpec) -> SimulatedNode:
        """Add a node and start it."""
        folder = self.folder / str(len(self.nodes))
        folder.mkdir()
        node_name = {"authentication.kubernetes.io/node-name": (spec.name,)}
        kubeconfig = self._admit(_ACCOUNT, node_name, folder / "kubeconfig")
        node = SimulatedNode(spec, folder, kubeconfig, self.connect(), self._options.kubelet)
        self.nodes[spec.name] = node
        node.create_object()
        node.start()
        return node

    def start_controller(self, pod: str, settings: Mapping[str, str] | None = None) -> DriverProcess:
        """Start a process of our controller, as a pod of this name would run it."""
        folder = self.folder / pod
        folder.mkdir(exist_ok=True)
        kubeconfig = self._admit(_CONTROLLER, {}, folder / "kubeconfig")
        options = {
            "pod-name": pod,
            "namespace": _NAMESPACE,
            "kubeconfig": str(kubeconfig),
            **_EAGER,
            **(settings or {}),
        }
        self.controllers[pod] = DriverProcess("controller", options, folder / "log")
        return self.controllers[pod]

    def stop_controller(self, pod: str) -> int:
        """Stop a controller as the kubelet stops its pod; return its exit code."""
        return self.controllers.pop(pod).stop()

    def kill_controller(self, pod: str) -> None:
        """Kill a controller between any two of its instructions."""
        self.controllers.pop(pod).kill()

    def _admit(self, account: str, extra: Mapping[str, tuple[str, ...]], kubeconfig: Path) -> Path:
        """Write the kubeconfig of one of our pods: what its token says, and the rights of its role."""
        token = secrets.token_hex()
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{_NAMESPACE}")
        user = User(f"system:serviceaccount:{_NAMESPACE}:{account}", groups=groups, extra=dict(extra))
        self.server.authenticator.add_token(token, user)
        return self.server.kubeconfig(kubeconfig, user=account, token=token)

    def restart_server(self) -> None:
        """Take the API server away and bring it back on the same port with the same objects."""
        self.server.stop()
        self.server.start()

    def wait_ready(self, timeout: float = _READY_SECONDS) -> None:
        """Wait until every plugin has registered and published, and a controller leads if there are any.

        Raises `Unavailable` with what is missing, `DriverError` if a process has ended.
        """
        for node in self.nodes.values():
            for driver in node.spec.drivers:
                self.wait(
                    partial(self._is_serving, node, driver),
                    f"{driver} on {node.spec.name}",
                    timeout,
                )
        if self.controllers:
            self.wait(self._is_led, "a controller to lead", timeout)

    def _is_led(self) -> bool:
        for pod, process in self.controllers.items():
            if process.exit_code is not None:
                raise DriverError(f"{pod} ended with {process.exit_code}: {process.read_log()[-2000:]}")
        lease = self.objects.find(LEASES, _CONTROLLER, _NAMESPACE)
        return lease is not None

    def _is_serving(self, node: SimulatedNode, driver: str) -> bool:
        plugin = node.kubelet.plugins.find(driver)
        process = node.plugins.get(driver)
        if process is not None and process.exit_code is not None:
            raise DriverError(
                f"the plugin on {node.spec.name} ended with {process.exit_code}: {process.read_log()[-2000:]}"
            )
        return plugin is not None and plugin.connection.is_connected and bool(self.slices(node.spec.name, driver))

    def slices(self, node: str, driver: str = "") -> list[Slice]:
        """Return the slices of a node, of one driver or of all."""
        fields = f"spec.nodeName={node}" + (f",spec.driver={driver}" if driver else "")
        return self.objects.list_all(SLICES, fields=fields)

    def create_namespace(self, name: str) -> None:
        """Create a namespace."""
        self.objects.create(NAMESPACES, {"metadata": {"name": name}})

    def delete_namespace(self, name: str, timeout: float = 30.0) -> None:
        """Delete a namespace with all that is in it and wait until it is gone."""
        self.objects.delete(NAMESPACES, self.objects.get(NAMESPACES, name))
        self.wait(lambda: self.objects.find(NAMESPACES, name) is None, f"namespace {name} to end", timeout)

    def apply(self, path: Path, namespace: str = "") -> None:
        """Create the objects of a YAML file or folder, in a namespace of choice."""
        manifests.apply(self.objects, manifests.read(path), namespace)

    def pod(self, name: str, namespace: str = "default") -> Pod:
        """Return a pod as it is now."""
        return self.objects.get(PODS, name, namespace)

    def sandbox(self, pod: Pod) -> Sandbox | None:
        """Return what runs of a pod, or None."""
        node = self.nodes.get(pod.spec.node_name)
        return node.runtime.find(pod.metadata.uid) if node else None

    def wait(self, condition: Callable[[], T | None], what: str, timeout: float = 30.0) -> T:
        """Wait until a condition holds and return what it gave. Raises `Unavailable` naming `what`."""
        deadline = time.monotonic() + timeout
        last: DriverError | None = None
        while time.monotonic() < deadline:
            found: T | None
            try:
                found, last = condition(), None
            except Unavailable as error:
                found, last = None, error
            if found:
                return found
            time.sleep(_LOOK_SECONDS)
        raise Unavailable(f"waited {timeout:.0f} s in vain for {what}{f': {last}' if last else ''}")

    def wait_running(self, name: str, namespace: str = "default", timeout: float = 30.0) -> Pod:
        """Wait until a pod runs and return it."""

        def look() -> Pod | None:
            pod = self.pod(name, namespace)
            return pod if pod.status.phase == "Running" else None

        return self.wait(look, f"pod {namespace}/{name} to run", timeout)

    def delete_pod(self, name: str, namespace: str = "default", *, wait: bool = True) -> None:
        """Delete a pod and wait until it is gone."""
        pod = self.pod(name, namespace)
        self.objects.delete(PODS, pod)
        if wait:
            self.wait(lambda: self._is_gone(pod), f"pod {namespace}/{name} to end")

    def _is_gone(self, pod: Pod) -> bool:
        now = self.objects.find(PODS, pod.metadata.name, pod.metadata.namespace)
        return now is None or now.metadata.uid != pod.metadata.uid
