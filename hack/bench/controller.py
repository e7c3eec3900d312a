"""Benchmarks of the controller as a cluster sees it: from a claim to its allocation, many claims at once, memory.

A real `accel-dra controller` against the embedded API server, on nodes of eight GPUs that run eight pods each. The
server shares the interpreter with what creates the claims, so the figures are upper bounds.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from driver import vendors
from driver.core import fencing, inventory, slicing
from driver.core.fencing import Authority
from driver.core.slicing import Identity
from driver.settings import Settings
from driver.simulation import manifests
from driver.simulation.apiserver import ApiServer
from driver.simulation.apiserver.values import JsonObject
from driver.simulation.processes import DriverProcess
from hack.bench.figures import Report, resident_mebibytes

HARDWARE: Final = "hgx-h100"
DRIVER: Final = "gpu.accel-dra.dev"
CLASS: Final = "topology.accel-dra.dev"
PODS_PER_NODE: Final = 8
WAIT_SECONDS: Final = 120.0


@dataclass
class Site:
    """A cluster without kubelets."""

    server: ApiServer
    process: DriverProcess

    def create(self, name: str, count: int = 1) -> None:
        """Create a claim and the pod that waits for it."""
        request: JsonObject = {"name": "gpu", "exactly": {"deviceClassName": CLASS, "count": count}}
        meta: JsonObject = {"name": name, "namespace": "default"}
        self.server.store.create(
            {
                "apiVersion": "resource.k8s.io/v1",
                "kind": "ResourceClaim",
                "metadata": dict(meta),
                "spec": {"devices": {"requests": [request]}},
            }
        )
        container: JsonObject = {"name": "main", "image": "x", "resources": {"claims": [{"name": "gpu"}]}}
        spec: JsonObject = {
            "containers": [container],
            "resourceClaims": [{"name": "gpu", "resourceClaimName": name}],
        }
        self.server.store.create({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})

    def is_allocated(self, name: str) -> bool:
        """Say whether a claim has devices."""
        status = self.server.store.get("resourceclaims", name, "default").get("status")
        return isinstance(status, dict) and "allocation" in status

    def wait_allocated(self, *names: str) -> None:
        """Wait until claims have devices, without taking much time from the server."""
        end = time.monotonic() + WAIT_SECONDS
        for name in names:
            while not self.is_allocated(name):
                if time.monotonic() > end:
                    raise TimeoutError(f"{name} is not allocated: {self.process.read_log()[-2000:]}")
                time.sleep(0.002)


def measure(report: Report, nodes: int, count: int) -> None:
    """Measure a controller on so many nodes, with `count` claims one by one and then as many at once."""
    count = min(count, nodes * 4)
    with tempfile.TemporaryDirectory() as folder, ApiServer() as server:
        started = time.perf_counter()
        fill(server, nodes)
        print(f"{nodes} nodes made in {time.perf_counter() - started:.1f} s")
        with run_controller(server, Path(folder)) as process:
            site = Site(server, process)
            site.create("first")
            site.wait_allocated("first")
            where = f"{nodes} nodes"
            samples = []
            for index in range(count):
                started = time.perf_counter()
                site.create(f"one-{index}")
                site.wait_allocated(f"one-{index}")
                samples.append((time.perf_counter() - started) * 1000)
            report.add(f"claim to allocation, {where}", "ms", samples)
            started = time.perf_counter()
            for index in range(count):
                site.create(f"many-{index}")
            site.wait_allocated(*(f"many-{index}" for index in range(count)))
            report.add(f"claims at once, {where}", "1/s", [count / (time.perf_counter() - started)])
            report.add(f"controller memory, {where}", "MiB", [resident_mebibytes(process.pid)])


@contextlib.contextmanager
def run_controller(server: ApiServer, folder: Path) -> Iterator[DriverProcess]:
    """Run `accel-dra controller` until the block ends."""
    options = {"kubeconfig": str(server.kubeconfig(folder / "kubeconfig")), "namespace": "default"}
    process = DriverProcess("controller", options, folder / "log")
    try:
        yield process
    finally:
        process.stop()


def fill(server: ApiServer, nodes: int) -> None:
    """Create nodes with the slices of their hardware and pods that run there, and the classes."""
    for document in manifests.read(manifests.find("base", "deviceclasses.yaml")):
        server.store.create(msgspec.convert(dict(document), dict))
    slices = list(publish("template"))
    for index in range(nodes):
        name = f"node-{index:05}"
        made = server.store.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        server.store.update({**made, "spec": {}})
        for part, text in enumerate(slices):
            value: JsonObject = json.loads(text.replace("template", name))
            value["metadata"] = {"name": f"{name}-{part}"}
            server.store.create(value)
        for number in range(PODS_PER_NODE):
            requests: JsonObject = {"cpu": "250m", "memory": "512Mi"}
            container: JsonObject = {"name": "main", "image": "x", "resources": {"requests": requests}}
            server.store.create(
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": f"{name}-{number}", "namespace": "default"},
                    "spec": {"nodeName": name, "containers": [container]},
                }
            )


def publish(node: str) -> Iterator[str]:
    """Yield the slices of a node whose devices belong to the controller, as JSON."""
    vendor = vendors.load("simulated", Settings().roots, {"node": HARDWARE, "seed": node})
    devices = [entry.device for entry in inventory.build(vendor.snapshot()).entries]
    contents = slicing.layout(fencing.fence(devices, Authority.CONTROLLER)).contents
    for wanted in slicing.plan(Identity(DRIVER, node, "uid", node, {}), contents, ()).create:
        yield msgspec.json.encode(wanted).decode()
