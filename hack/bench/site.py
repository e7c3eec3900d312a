"""Where the node benchmarks run: an API server (embedded or given), a plugin process, allocated claims, its socket."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import msgspec

from driver.kube import access, slices
from driver.kube.client import Client
from driver.kubelet import methods, sockets
from driver.kubelet.pb.dra.v1 import api_pb2 as pb
from driver.model.claims import ResourceClaim
from driver.model.errors import NotFound

CLAIMS: Final = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims"
HARDWARE: Final = "hgx-h100"
"""The simulated machine: eight H100."""
WAIT_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Options:
    """What is measured and where."""

    kubeconfig: str
    """Empty: the embedded API server."""
    node: str
    driver: str
    plugin: tuple[str, ...]
    """Arguments of `accel-dra plugin`; empty: a plugin that already runs behind `socket`."""
    socket: str
    folder: Path


@contextlib.contextmanager
def serve_api(options: Options) -> Iterator[str]:
    """Give the path of a kubeconfig: the one that was given, or that of an embedded server."""
    if options.kubeconfig:
        yield options.kubeconfig
        return
    command = [sys.executable, "-m", "hack.bench.server", str(options.folder), options.node]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.stdin.close()
            server.wait()


@contextlib.contextmanager
def run_plugin(options: Options, kubeconfig: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run our plugin as a process of its own; its log goes to a file of the folder."""
    command = [sys.executable, "-m", "driver", "plugin", "--kubeconfig", kubeconfig, *options.plugin]
    with (options.folder / "plugin.log").open("ab") as log, subprocess.Popen(command, stderr=log) as plugin:
        try:
            yield plugin
        finally:
            plugin.terminate()
            plugin.wait()


def wait_for(condition: Callable[[], object], what: str, pause: float = 0.002) -> None:
    """Wait until the condition holds, at most half a minute."""
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"benchmark: {what} did not happen within {WAIT_SECONDS:.0f} s")
        time.sleep(pause)


def connect(kubeconfig: str) -> Client:
    """Return a client of the API server."""
    return Client(access.load(kubeconfig, os.environ))


def list_devices(client: Client, options: Options) -> list[tuple[str, str]]:
    """Return pool and name of the devices that the driver publishes for the node."""
    found = slices.fetch(client, options.driver, options.node)
    return [(each.spec.pool.name, device.name) for each in found for device in each.spec.devices]


class Claims:
    """Allocated claims in the default namespace, removed at the end."""

    def __init__(self, client: Client, options: Options) -> None:
        self._client = client
        self._options = options
        self.made: list[ResourceClaim] = []

    def make(self, count: int, device: tuple[str, str]) -> Sequence[ResourceClaim]:
        """Create claims that are all allocated the same device: they are prepared one after the other."""
        for index in range(count):
            self.made.append(self._make_one(f"bench-{os.getpid()}-{len(self.made)}-{index}", device))
        return self.made[-count:]

    def remove(self) -> None:
        """Delete what was made."""
        for claim in self.made:
            with contextlib.suppress(NotFound):
                self._client.delete(f"{CLAIMS}/{claim.metadata.name}")

    def _make_one(self, name: str, device: tuple[str, str]) -> ResourceClaim:
        request = {"name": "gpu", "exactly": {"deviceClassName": "gpu.accel-dra.dev"}}
        body = {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "metadata": {"name": name},
            "spec": {"devices": {"requests": [request]}},
        }
        self._client.create(CLAIMS, msgspec.json.encode(body))
        result = {"request": "gpu", "driver": self._options.driver, "pool": device[0], "device": device[1]}
        status = {"status": {"allocation": {"devices": {"results": [result]}}}}
        answer = self._client.patch(f"{CLAIMS}/{name}/status", msgspec.json.encode(status))
        return msgspec.json.decode(answer, type=ResourceClaim)


class Kubelet:
    """The kubelet's two calls on the plugin's socket, over one connection as the kubelet has it."""

    def __init__(self, socket: str) -> None:
        self._channel = grpc.insecure_channel(f"unix:{socket}")
        grpc.channel_ready_future(self._channel).result(WAIT_SECONDS)
        self._prepare = methods.PREPARE_V1.dial(self._channel)
        self._unprepare = methods.UNPREPARE_V1.dial(self._channel)

    def prepare(self, claim: ResourceClaim) -> None:
        """Prepare one claim. Ends the benchmark if it fails: an error is fast and must not be measured."""
        answer = self._prepare(pb.NodePrepareResourcesRequest(claims=[_refer(claim)]), timeout=45)
        entry = answer.claims[claim.metadata.uid]
        if entry.error or not entry.devices:
            raise SystemExit(f"benchmark: prepare failed: {entry.error or 'no devices'}")

    def unprepare(self, claim: ResourceClaim) -> None:
        """Unprepare one claim."""
        answer = self._unprepare(pb.NodeUnprepareResourcesRequest(claims=[_refer(claim)]), timeout=45)
        if answer.claims[claim.metadata.uid].error:
            raise SystemExit(f"benchmark: unprepare failed: {answer.claims[claim.metadata.uid].error}")

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


def _refer(claim: ResourceClaim) -> pb.Claim:
    meta = claim.metadata
    return pb.Claim(namespace=meta.namespace, name=meta.name, uid=meta.uid)


def make_options(kubeconfig: str, node: str, driver: str, socket: str) -> Options:
    """Return options for a plugin of ours in a folder of its own, or for one that runs behind `socket`."""
    folder = Path(tempfile.mkdtemp(prefix="accel-dra-bench-"))
    if socket:
        return Options(kubeconfig, node, driver, (), socket, folder)
    plugins, registry = str(folder / "plugins"), str(folder / "registry")
    Path(registry).mkdir()  # the kubelet's, which the plugin waits for and never makes
    arguments = {
        "--node-name": node,
        "--driver-name": driver,
        "--vendor": "simulated",
        "--vendor-option": f"node={HARDWARE}",
        "--kubelet-plugins-dir": plugins,
        "--kubelet-registry-dir": registry,
        "--cdi-root": str(folder / "cdi"),
    }
    plugin = tuple(word for pair in arguments.items() for word in pair)
    return Options(kubeconfig, node, driver, plugin, sockets.name(driver, plugins, registry, "").dra, folder)
