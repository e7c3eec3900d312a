"""The embedded API server as demo, tests and benchmarks use it.

`with ApiServer() as server:` gives a Kubernetes API on a loopback port that the official clients and kubectl take for
a real one. It serves those three purposes and must never become anything else: nothing is kept on disk, one process
is the whole control plane, and what a driver does not touch is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import yaml

from driver.simulation.apiserver.dispatching import Api
from driver.simulation.apiserver.objects import Objects
from driver.simulation.apiserver.registry import Registry
from driver.simulation.apiserver.serving import HttpEdge
from driver.simulation.apiserver.sources import Sources
from driver.simulation.apiserver.storage import Storage

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


class ApiServer:
    """A Kubernetes API server in a thread.

    `store` reads and writes objects directly, with the same rules as over HTTP; `storage` is what lies below it.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        namespaces: Iterable[str] = NAMESPACES,
        sources: Sources | None = None,
        history: int = 4096,
    ) -> None:
        self.storage = Storage(history)
        self.registry = Registry(self.storage, sources or Sources())
        self.api = Api(self.registry)
        self.store = Objects(self.registry)
        self._edge = HttpEdge(self.api.handle, port)
        for name in namespaces:
            self.store.create({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}})

    def start(self) -> ApiServer:
        """Opens the port; OSError if it is taken."""
        self._edge.start()
        return self

    def stop(self) -> None:
        """Closes the port and every connection."""
        self._edge.stop()

    @property
    def url(self) -> str:
        """Base URL, e.g. http://127.0.0.1:34567."""
        return f"http://127.0.0.1:{self._edge.port}"

    def __enter__(self) -> ApiServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def kubeconfig(self, path: Path, *, user: str = "", token: str = "", namespace: str = "default") -> Path:
        """Writes a kubeconfig that points at this server; `token` authenticates where authentication is on."""
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "embedded", "cluster": {"server": self.url}}],
            "users": [{"name": user or "embedded", "user": {"token": token} if token else {}}],
            "contexts": [
                {
                    "name": "embedded",
                    "context": {"cluster": "embedded", "user": user or "embedded", "namespace": namespace},
                }
            ],
            "current-context": "embedded",
        }
        path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        path.chmod(0o600)
        return path
