"""Pod statuses as the kubelet writes them: phase, conditions, containers. Pure. Called by the pod worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from driver.simulation.access import Body, Json
from driver.simulation.objects import Pod

Allocated = Mapping[str, list[Json]]
"""`allocatedResourcesStatus` by container."""
_NODE_IP: Final = "127.0.0.1"


def creating(pod: Pod, moment: str) -> Body:
    """Return the status of a pod that is being started."""
    state: Body = {"waiting": {"reason": "ContainerCreating"}}
    return _status(pod, "Pending", moment, {container.name: state for container in pod.spec.containers})


def blocked(pod: Pod, moment: str, reason: str, message: str) -> Body:
    """Return the status of a pod whose containers cannot be made."""
    state: Body = {"waiting": {"reason": reason, "message": message}}
    return _status(pod, "Pending", moment, {container.name: state for container in pod.spec.containers})


def running(pod: Pod, moment: str, allocated: Allocated) -> Body:
    """Return the status of a pod whose containers all run."""
    state: Body = {"running": {"startedAt": moment}}
    return _status(pod, "Running", moment, {container.name: state for container in pod.spec.containers}, allocated)


def ended(pod: Pod, moment: str, exit_code: int) -> Body:
    """Return the status of a pod whose containers have all ended."""
    reason = "Error" if exit_code else "Completed"
    state: Body = {"terminated": {"exitCode": exit_code, "reason": reason, "finishedAt": moment}}
    phase = "Failed" if exit_code else "Succeeded"
    return _status(pod, phase, moment, {container.name: state for container in pod.spec.containers})


def refreshed(containers: Sequence[Mapping[str, Json]], allocated: Allocated) -> Body:
    """Return a change of a status that is there: the health of devices alone."""
    return {
        "status": {
            "containerStatuses": [
                {**each, "allocatedResourcesStatus": allocated.get(str(each["name"]), [])} for each in containers
            ]
        }
    }


def _status(pod: Pod, phase: str, moment: str, states: Mapping[str, Body], allocated: Allocated | None = None) -> Body:
    is_ready = phase == "Running"
    containers: list[Json] = [
        {
            "name": container.name,
            "image": container.image,
            "imageID": "",
            "ready": is_ready,
            "started": is_ready,
            "restartCount": 0,
            "state": states[container.name],
            "allocatedResourcesStatus": (allocated or {}).get(container.name, []),
        }
        for container in pod.spec.containers
    ]
    conditions = {"PodScheduled": True, "Initialized": True, "PodReadyToStartContainers": phase != "Pending"}
    conditions |= {"ContainersReady": is_ready, "Ready": is_ready}
    return {
        "status": {
            "phase": phase,
            "conditions": [
                {"type": name, "status": str(value), "lastTransitionTime": moment} for name, value in conditions.items()
            ],
            "containerStatuses": containers,
            "hostIP": _NODE_IP,
            "startTime": moment,
        }
    }
