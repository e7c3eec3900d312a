"""A cluster of simulated machines without kubelets, the real controller with its role's rights, and who uses it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from driver.controller.app import Controller
from driver.controller.settings import ControllerSettings
from driver.core.fencing import Authority
from driver.kube.access import Access
from driver.kube.client import Client
from driver.model.policies import GROUP_LABEL
from driver.simulation import manifests
from driver.simulation.access import CLAIMS, EVENTS, NAMESPACES, NODES, PODS, Body, Json, Objects
from driver.simulation.apiserver import ApiServer, User
from driver.simulation.claims_controller import ClaimsController
from driver.simulation.scheduler.scheduling import Scheduler
from tests.fakes import published_machines
from tests.fakes.installing import ADMIN, guarded_server
from tests.fakes.waiting import wait_until

ACCOUNT: Final = "system:serviceaccount:accel-dra:accel-dra-controller"
TOPOLOGY: Final = "topology.accel-dra.dev"
GPU: Final = "gpu.accel-dra.dev"
SPACE: Final = "team"


@dataclass
class Site:
    """One API server and what runs against it."""

    server: ApiServer
    folder: Path
    objects: Objects
    stack: ExitStack
    controllers: list[Controller] = field(default_factory=list)

    def machine(self, name: str, hardware: str = "hgx-h100", *, authority: Authority = Authority.CONTROLLER) -> None:
        """Add a node that is ready, with the slices of its hardware."""
        published_machines.add_machine(self.server, name, hardware, authority)
        node = self.objects.get(NODES, name)
        ready: Body = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"cpu": "64", "pods": "110"}}
        self.objects.patch(NODES, node, {"status": ready}, "status")

    def controller(self, **settings: object) -> Controller:
        """Start a controller in this process."""
        controller = Controller(ControllerSettings(**{**self.settings(), **settings}))  # type: ignore[arg-type]
        self.controllers.append(controller)
        self.stack.enter_context(controller)
        return controller

    def settings(self) -> dict[str, object]:
        """Return settings with the token of the controller's service account and a quick lease."""
        token = f"token-{len(self.controllers)}"
        self.server.authenticator.add_token(token, User(ACCOUNT, groups=("system:serviceaccounts",)))
        path = self.server.kubeconfig(self.folder / f"kubeconfig-{len(self.controllers)}", user="c", token=token)
        quick = {"lease_duration": 2, "renew_deadline": 1.2, "lease_retry": 0.1, "explain_after": 0.1, "grace": 1.0}
        return {"kubeconfig": str(path), "pod_name": f"c{len(self.controllers)}", **quick}

    def kubernetes(self) -> None:
        """Start kube-scheduler and kube-controller-manager, as far as they are simulated."""
        for kind in (ClaimsController, Scheduler):
            client = Client(Access(server=self.server.url, token=ADMIN))
            self.stack.callback(client.close)
            component = kind(Objects(client), lambda: datetime.now(UTC))
            component.start()
            self.stack.callback(component.stop)

    def claim(
        self,
        name: str,
        count: int = 1,
        *,
        class_name: str = TOPOLOGY,
        policy: Mapping[str, Json] | None = None,
        group: str = "",
        selector: str = "",
    ) -> None:
        """Create a claim for GPUs; a policy of its own replaces that of the class."""
        exactly: dict[str, Json] = {"deviceClassName": class_name, "count": count}
        if selector:
            exactly["selectors"] = [{"cel": {"expression": selector}}]
        devices: dict[str, Json] = {"requests": [{"name": "gpu", "exactly": exactly}]}
        if policy is not None:
            parameters = {"apiVersion": "config.accel-dra.dev/v1alpha1", "kind": "AllocationPolicy", **policy}
            devices["config"] = [{"opaque": {"driver": GPU, "parameters": parameters}}]
        labels = {GROUP_LABEL: group} if group else {}
        self.objects.create(CLAIMS, {"metadata": {"name": name, "labels": labels}, "spec": {"devices": devices}}, SPACE)

    def pod(self, name: str, *claims: str, **spec: Json) -> None:
        """Create a pod that uses claims."""
        uses: list[Json] = [{"name": each, "resourceClaimName": each} for each in claims]
        container: Body = {"name": "main", "image": "x", "resources": {"claims": [{"name": each} for each in claims]}}
        body: Body = {"containers": [container], "resourceClaims": uses, **spec}
        self.objects.create(PODS, {"metadata": {"name": name}, "spec": body}, SPACE)

    def workload(self, name: str, count: int = 1, **claim: object) -> None:
        """Create a claim and a pod of the same name."""
        self.claim(name, count, **claim)  # type: ignore[arg-type]
        self.pod(name, name)

    def read(self, name: str) -> Body:
        """Return a claim as it is stored."""
        claim: Body = json.loads(self.objects.client.get(CLAIMS.path(SPACE, name)))
        return claim

    def devices(self, name: str) -> list[tuple[str, str]]:
        """Return pool and device of what a claim has."""
        status = self.read(name).get("status")
        allocation = status.get("allocation") if isinstance(status, dict) else None
        results = allocation["devices"]["results"] if allocation else []
        return [(str(each["pool"]), str(each["device"])) for each in results]

    def wait_allocated(self, *names: str, deadline: float = 20.0) -> list[tuple[str, str]]:
        """Wait until claims are allocated and return all their devices."""
        for name in names:
            wait_until(partial(self.devices, name), f"claim {name} to be allocated", deadline)
        return [device for name in names for device in self.devices(name)]

    def finalizers(self, name: str) -> list[str]:
        """Return the finalizers of a claim."""
        return list(self.objects.get(CLAIMS, name, SPACE).metadata.finalizers)

    def wait_free(self, name: str) -> None:
        """Wait until a claim has nothing."""
        wait_until(lambda: not self.devices(name), f"claim {name} to lose its devices")

    def wait_bound(self, name: str) -> str:
        """Wait until a pod has a node and return it."""

        def look() -> str:
            return self.objects.get(PODS, name, SPACE).spec.node_name

        wait_until(look, f"pod {name} to be bound")
        return look()

    def clear(self, name: str) -> None:
        """Take the allocation away, as kube-scheduler does."""
        claim = self.objects.get(CLAIMS, name, SPACE)
        self.objects.change(CLAIMS, claim, {"status": {"allocation": None}}, "status")

    def delete_pod(self, name: str) -> None:
        """Delete a pod at once."""
        self.objects.delete(PODS, self.objects.get(PODS, name, SPACE), grace=0)

    def events(self, kind: str, name: str) -> list[Mapping[str, Json]]:
        """Return the Events about an object."""
        items: Sequence[Mapping[str, Json]] = json.loads(self.objects.client.get(EVENTS.path(SPACE)))["items"]
        return [
            each
            for each in items
            if isinstance(about := each["involvedObject"], dict) and (about["kind"], about["name"]) == (kind, name)
        ]

    def wait_event(self, kind: str, name: str, reason: str) -> str:
        """Wait for an Event and return its message."""

        def look() -> str:
            found = [each for each in self.events(kind, name) if each["reason"] == reason]
            return str(found[0]["message"]) if found else ""

        wait_until(look, f"Event {reason} on {kind} {name}")
        return look()


@contextmanager
def open_site(folder: Path) -> Iterator[Site]:
    """Serve an API server with the classes and the controller's role of deploy/base."""
    with ExitStack() as stack:
        server = stack.enter_context(guarded_server())
        client = Client(Access(server=server.url, token=ADMIN))
        stack.callback(client.close)
        objects = Objects(client)
        for namespace in ("accel-dra", SPACE):
            objects.create(NAMESPACES, {"metadata": {"name": namespace}})
        for name in ("controller-role", "deviceclasses"):
            manifests.apply(objects, manifests.read(manifests.find("base", f"{name}.yaml")))
        with ExitStack() as running:
            yield Site(server, folder, objects, running)
