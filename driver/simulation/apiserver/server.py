"""The embedded API server as demo, tests and benchmarks use it.

`with ApiServer() as server:` gives a Kubernetes API on a loopback port that the official clients and kubectl take for
a real one. It serves those three purposes and must never become anything else: nothing is kept on disk, one process
is the whole control plane, and what a driver does not touch is left out.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, TypedDict, Unpack

import yaml

from driver.simulation.apiserver import expressions
from driver.simulation.apiserver.authenticating import Authenticator
from driver.simulation.apiserver.authorizing import Authorizer
from driver.simulation.apiserver.claim_guard import ClaimGuard
from driver.simulation.apiserver.dispatching import Api
from driver.simulation.apiserver.faults import Faults
from driver.simulation.apiserver.gates import FeatureGates
from driver.simulation.apiserver.housekeeping import Housekeeping
from driver.simulation.apiserver.kinds import Resource, by_name
from driver.simulation.apiserver.node_rules import restrict_nodes
from driver.simulation.apiserver.objects import Objects
from driver.simulation.apiserver.policies import Evaluate, Policies
from driver.simulation.apiserver.registry import Admit, Registry
from driver.simulation.apiserver.requests import User
from driver.simulation.apiserver.reviews import Reviewer
from driver.simulation.apiserver.schemas import struct_of
from driver.simulation.apiserver.serving import HttpEdge, Pace
from driver.simulation.apiserver.sources import Sources
from driver.simulation.apiserver.storage import Key, Storage
from driver.simulation.apiserver.strategies import World
from driver.simulation.apiserver.strategies.base import CelFault
from driver.simulation.apiserver.tidying import render
from driver.simulation.apiserver.values import JsonObject

NAMESPACES: Final = ("default", "kube-system", "kube-public", "kube-node-lease")


class Options(TypedDict, total=False):
    """How a server differs from the usual one; everything may be left out."""

    port: int
    """Port on 127.0.0.1; a free one by default."""
    namespaces: Iterable[str]
    """Namespaces that exist from the start."""
    gates: FeatureGates
    """Features and version (1.36 by default); see `gates_of`."""
    sources: Sources
    """Clock, uids and random names."""
    history: int
    """How many changes of a resource are remembered for watches and old lists."""
    authorize: bool
    """Authentication and authorization: RBAC over stored roles, the node authorizer, the rights for claim status."""
    tokens: Mapping[str, User]
    """Bearer tokens that are known from the start."""
    admit: Iterable[Admit]
    """Further admission hooks."""
    evaluate: Evaluate
    """How ValidatingAdmissionPolicies' expressions are evaluated."""
    cel_fault: CelFault
    """What is wrong with a device selector."""
    certificate: Path
    """PEM file with a private key and its certificate for 127.0.0.1: serve https."""
    pace: Pace
    """Bookmark interval and length of a second of timeoutSeconds."""


class ApiServer:
    """A Kubernetes API server in a thread.

    `store` reads and writes objects directly, with the same rules as over HTTP; `storage` is what lies below it;
    `faults` makes it misbehave.
    """

    def __init__(self, **options: Unpack[Options]) -> None:
        gates = options.get("gates", FeatureGates())
        sources = options.get("sources", Sources())
        self.storage = Storage(options.get("history", 4096), _renderer)
        cel_fault = options.get("cel_fault", expressions.selector_fault)
        self.registry = Registry(self.storage, World(gates, sources, self._lookup, cel_fault))
        self.store = Objects(self.registry)
        self.faults = Faults()
        self.authenticator = Authenticator(options.get("tokens", {}), sources, self._lookup)
        authorizer = Authorizer(self.storage) if options.get("authorize") else None
        self.api = Api(self.registry, Reviewer(self.registry, self.authenticator, authorizer), authorizer, gates)
        self._hook(options, authorizer, gates)
        self._certificate = options.get("certificate")
        pace = options.get("pace", Pace())
        self._edge = HttpEdge(self.api.handle, self.faults, pace, options.get("port", 0), self._certificate)
        for name in options.get("namespaces", NAMESPACES):
            self.store.create({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}})

    def _hook(self, options: Options, authorizer: Authorizer | None, gates: FeatureGates) -> None:
        Housekeeping(self.registry)
        evaluate = options.get("evaluate", expressions.evaluate)
        self.registry.admission += [restrict_nodes, Policies(self.registry, evaluate).admit, *options.get("admit", ())]
        if authorizer is not None and gates.granular_status:
            self.registry.guards.append(ClaimGuard(authorizer).check)

    def _lookup(self, resource: str, key: Key) -> JsonObject | None:
        item = self.storage.get(by_name(resource), key)
        return item.value if item else None

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
        return f"{'https' if self._certificate else 'http'}://127.0.0.1:{self._edge.port}"

    def __enter__(self) -> ApiServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _authority(self) -> dict[str, str]:
        """What a kubeconfig says about whom to trust: the certificate without its key."""
        if self._certificate is None:
            return {}
        begin = "-----BEGIN CERTIFICATE-----"
        certificate = begin + self._certificate.read_text(encoding="ascii").partition(begin)[2]
        return {"certificate-authority-data": base64.b64encode(certificate.encode()).decode()}

    def kubeconfig(self, path: Path, *, user: str = "", token: str = "", namespace: str = "default") -> Path:
        """Writes a kubeconfig that points at this server; `token` authenticates where authentication is on.

        kubectl sends no tokens without TLS, so the URL carries it then, too.
        """
        server = self.url if self._certificate or not token else self.url.replace("://", f"://token:{token}@", 1)
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "embedded", "cluster": {"server": server, **self._authority()}}],
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


def _renderer(resource: Resource) -> Callable[[JsonObject], bytes]:
    return partial(render, struct_of(resource.group, resource.kind))
