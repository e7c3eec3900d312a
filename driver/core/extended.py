"""Extended resources that DeviceClasses serve: `limits: {accel-dra.dev/gpu: 1}` stands for a claim (KEP-5004).

Called by the controller and `accel-dra explain`, which say why such a pod waits before the claim exists, and by the
scheduler of the simulation, which makes it.
"""

from __future__ import annotations

from collections.abc import Container as Collection
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from driver.model import quantities
from driver.model.errors import InvalidInput
from driver.model.objects import ObjectMeta
from driver.model.requests import ClaimSpec, ClassSpec, DeviceRequest, DevicesSpec, Request
from driver.model.wanted import Claim
from driver.model.workloads import Workload

IMPLICIT_RESOURCE: Final = "deviceclass.resource.kubernetes.io/"
"""Before the name of a DeviceClass: the resource that stands for the class without further ado."""
IN_MEMORY: Final = "<extended-resources>"
"""Name of the claim as long as it does not exist, as kube-scheduler has it."""


class Class(Protocol):
    """A DeviceClass."""

    @property
    def metadata(self) -> ObjectMeta:
        """Name and age."""

    @property
    def spec(self) -> ClassSpec:
        """The extended resource it serves."""


class Resources(Protocol):
    """ResourceRequirements."""

    @property
    def limits(self) -> Mapping[str, str | int | float]:
        """Quantities by resource."""


class Container(Protocol):
    """A container of a pod."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def resources(self) -> Resources:
        """What it asks for."""


@dataclass(frozen=True, slots=True)
class Served:
    """A request that an extended resource of a container stands for."""

    container: str
    resource: str
    request: Request


def map_resources(classes: Iterable[Class]) -> dict[str, str]:
    """Return the class behind each extended resource: the newest of those that claim the name, then by name."""
    ordered = sorted(classes, key=lambda each: each.metadata.name, reverse=True)
    ordered.sort(key=lambda each: each.metadata.creation_timestamp or "")
    found = {f"{IMPLICIT_RESOURCE}{each.metadata.name}": each.metadata.name for each in ordered}
    return found | {
        each.spec.extended_resource_name: each.metadata.name for each in ordered if each.spec.extended_resource_name
    }


def list_served(containers: Iterable[Container], classes: Mapping[str, str]) -> list[Served]:
    """Return what the containers of a pod, those for its start first, ask of classes. Raises `InvalidInput`."""
    found: list[Served] = []
    for index, container in enumerate(containers):
        names = [name for name in sorted(container.resources.limits) if name in classes]
        for number, name in enumerate(names):
            count = quantities.parse(str(container.resources.limits[name]), name).rounded_up
            wanted = DeviceRequest(device_class_name=classes[name], count=count)
            request = Request(name=f"container-{index}-request-{number}", exactly=wanted)
            found.append(Served(container.name, name, request))
    return found


def may_ask(pod: Workload) -> bool:
    """Say whether a pod waits that may ask for an extended resource; which ones are served is not looked at."""
    if pod.spec.node_name or pod.is_done or pod.status.extended_resource_claim_status is not None:
        return False
    containers = (*pod.spec.init_containers, *pod.spec.containers)
    return any("/" in name for container in containers for name in container.resources.limits)


def imagine_claim(pod: Workload, classes: Mapping[str, str], had: Collection[str] = ()) -> Claim | None:
    """Return the claim that kube-scheduler would make for a pod that waits; None if it needs none.

    `had` are the resources that some node has by itself: there kube-scheduler makes no claim for them.
    """
    if not may_ask(pod):
        return None
    served = {name: each for name, each in classes.items() if name not in had}
    try:
        found = list_served((*pod.spec.init_containers, *pod.spec.containers), served)
    except InvalidInput:
        return None  # the API server lets no such quantity pass
    requests = tuple(each.request for each in found if each.request.exactly and each.request.exactly.count > 0)
    if not requests:
        return None
    meta = ObjectMeta(
        name=IN_MEMORY,
        namespace=pod.metadata.namespace,
        uid=f"{pod.metadata.uid}-extended",
        creation_timestamp=pod.metadata.creation_timestamp,
    )
    return Claim(metadata=meta, spec=ClaimSpec(devices=DevicesSpec(requests=requests)))


def is_imagined(claim: Claim) -> bool:
    """Say whether a claim does not exist but stands for extended resources."""
    return claim.metadata.name == IN_MEMORY
