"""Extended resources that DeviceClasses serve: `limits: {accel-dra.dev/gpu: 1}` becomes a claim (KEP-5004).

Called by the scheduler. The claim exists in memory while nodes are tried and is created only when one was found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from driver.core import extended
from driver.model.requests import ClaimSpec, DevicesSpec
from driver.simulation.access import Body, Json
from driver.simulation.objects import Meta, Pod
from driver.simulation.resources import (
    EXTENDED_CLAIM_ANNOTATION,
    Claim,
)


def make_claim(pod: Pod, classes: Mapping[str, str]) -> tuple[Claim | None, list[Json]]:
    """Return the claim that a pod's limits stand for, not created yet, and the mapping for its status.

    None if the pod asks for no extended resource that a DeviceClass serves.
    """
    served = extended.list_served((*pod.spec.init_containers, *pod.spec.containers), classes)
    if not served:
        return None, []
    mappings: list[Json] = [
        {"containerName": each.container, "resourceName": each.resource, "requestName": each.request.name}
        for each in served
    ]
    meta = Meta(name=extended.IN_MEMORY, namespace=pod.metadata.namespace, uid=f"{pod.metadata.uid}-extended")
    requests = tuple(each.request for each in served)
    return Claim(metadata=meta, spec=ClaimSpec(devices=DevicesSpec(requests=requests))), mappings


def find_unserved(pod: Pod, classes: Mapping[str, str]) -> list[str]:
    """Return the extended resources of a pod that no DeviceClass serves: a node must have them itself."""
    containers = (*pod.spec.init_containers, *pod.spec.containers)
    names = {name for container in containers for name in container.resources.limits}
    return sorted(name for name in names if "/" in name and name not in classes)


def find_claim(pod: Pod, claims: Iterable[Claim]) -> Claim | None:
    """Return the claim that was created for a pod's extended resources, if it was."""
    own = (claim for claim in claims if claim.owner == pod.metadata.uid)
    return next((claim for claim in own if EXTENDED_CLAIM_ANNOTATION in claim.metadata.annotations), None)


def describe(pod: Pod, claim: Claim) -> Body:
    """Return the claim as it is created."""
    owner: Body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": pod.metadata.name,
        "uid": pod.metadata.uid,
        "controller": True,
    }
    requests: list[Json] = [
        {
            "name": request.name,
            "exactly": {"deviceClassName": request.exactly.device_class_name, "count": request.exactly.count},
        }
        for request in claim.spec.devices.requests
        if request.exactly is not None
    ]
    return {
        "metadata": {
            "generateName": f"{pod.metadata.name}-extended-resources-",
            "annotations": {EXTENDED_CLAIM_ANNOTATION: "true"},
            "ownerReferences": [owner],
        },
        "spec": {"devices": {"requests": requests}},
    }
