"""A running cluster for end-to-end tests, and what they ask of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import pytest

from driver.simulation import manifests
from driver.simulation.access import CLAIMS, EVENTS, Body, Json
from driver.simulation.cluster import Cluster, ClusterOptions
from driver.simulation.kubelet.kubelets import Options
from driver.simulation.kubelet.timings import Timings
from driver.simulation.nodes import NodeSpec
from driver.simulation.objects import Pod
from driver.simulation.resources import Claim
from driver.simulation.runtime.containers import Container

GPU = "gpu.accel-dra.dev"
FAST = ClusterOptions(kubelet=Options(timings=Timings(speed=30.0)))
"""A kubelet that retries after two or three seconds instead of 60 to 90."""


class E2E:
    """Shorthands over one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.node = next(iter(cluster.nodes.values()), None)

    def template(
        self, name: str, *requests: Body, namespace: str = "default", constraints: Sequence[Json] = ()
    ) -> None:
        """Create a claim template; a request without a class is for any GPU."""
        whole = [_complete(request) for request in requests or ({"name": "gpu"},)]
        devices: Body = {"requests": whole, "constraints": list(constraints)}
        body: Body = {
            "kind": "ResourceClaimTemplate",
            "metadata": {"name": name},
            "spec": {"spec": {"devices": devices}},
        }
        manifests.apply(self.cluster.objects, [body], namespace)

    def claim(self, name: str, *requests: Body) -> Claim:
        """Create a claim of its own."""
        spec: Body = {"devices": {"requests": [_complete(request) for request in requests or ({"name": "gpu"},)]}}
        return self.cluster.objects.create(CLAIMS, {"metadata": {"name": name}, "spec": spec}, "default")

    def pod(
        self,
        name: str,
        template: str = "",
        *,
        claim: str = "",
        containers: Sequence[Body] = (),
        namespace: str = "default",
        **spec: Json,
    ) -> None:
        """Create a pod; without `containers` its one container uses the claim."""
        source = {"resourceClaimTemplateName": template} if template else {"resourceClaimName": claim}
        has_claim = bool(template or claim)
        main: Body = {"name": "main", "resources": {"claims": [{"name": "gpu"}] if has_claim else []}}
        body: Body = {
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "containers": [{"image": "x", **each} for each in containers or (main,)],
                "resourceClaims": [{"name": "gpu", **source}] if has_claim else [],
                "terminationGracePeriodSeconds": 1,
                **spec,
            },
        }
        manifests.apply(self.cluster.objects, [body], namespace)

    def container(self, pod: Pod, name: str = "main") -> Container:
        """Return a running container."""
        sandbox = self.cluster.sandbox(pod)
        assert sandbox is not None, f"{pod} has no sandbox"
        return sandbox.containers[name]

    def devices(self, claim: Claim) -> list[tuple[str, str]]:
        """Return pool and device of each result of a claim."""
        allocation = claim.status.allocation
        return [(each.pool, each.device) for each in allocation.devices.results] if allocation else []

    def claim_of(self, pod: Pod) -> Claim:
        """Return the first claim of a pod."""
        name = pod.claim_name(pod.spec.resource_claims[0])
        assert name is not None
        return self.cluster.objects.get(CLAIMS, name, pod.metadata.namespace)

    def claims(self, namespace: str = "default") -> list[Claim]:
        """Return all claims of a namespace."""
        return self.cluster.objects.list_all(CLAIMS, namespace)

    def messages(self, reason: str, namespace: str = "default") -> list[str]:
        """Return the messages of all events of a reason."""
        body = json.loads(self.cluster.objects.client.get(EVENTS.path(namespace)))
        return [item["message"] for item in body["items"] if item["reason"] == reason]

    def cdi_files(self, node: str) -> list[str]:
        """Return the names of all CDI documents on a node."""
        return sorted(path.name for path in self.cluster.nodes[node].cdi.iterdir())


def _complete(request: Body) -> Body:
    if "exactly" in request or "firstAvailable" in request:
        return request
    fields = {key: value for key, value in request.items() if key != "name"}
    return {"name": request["name"], "exactly": {"deviceClassName": GPU, **fields}}


Start = Callable[..., E2E]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a cluster with these nodes and wait until they serve; it ends with the test."""
    with ExitStack() as stack:

        def begin(*specs: NodeSpec) -> E2E:
            cluster = stack.enter_context(Cluster(specs or (NodeSpec(name="node-1", hardware="a100-mesh"),), FAST))
            cluster.wait_ready()
            return E2E(cluster)

        yield begin
