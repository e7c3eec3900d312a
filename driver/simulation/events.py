"""Events as scheduler, controllers and kubelet write them, so that `kubectl describe` tells what happened."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from driver.model.errors import DriverError
from driver.simulation.access import EVENTS, Body, Objects
from driver.simulation.objects import Pod

Clock = Callable[[], datetime]


def format_time(moment: datetime) -> str:
    """Return metav1.Time: whole seconds, UTC."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Recorder:
    """Writes events about pods in the name of one component. An event that cannot be written is no error."""

    objects: Objects
    component: str
    now: Clock
    host: str = ""

    def record(self, pod: Pod, reason: str, message: str, *, warning: bool = False) -> None:
        """Write one event."""
        moment = format_time(self.now())
        source = {"component": self.component, **({"host": self.host} if self.host else {})}
        body: Body = {
            "metadata": {"generateName": f"{pod.metadata.name}."},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": pod.metadata.namespace,
                "name": pod.metadata.name,
                "uid": pod.metadata.uid,
            },
            "reason": reason,
            "message": message,
            "type": "Warning" if warning else "Normal",
            "source": source,
            "reportingComponent": self.component,
            "firstTimestamp": moment,
            "lastTimestamp": moment,
            "count": 1,
        }
        with suppress(DriverError):
            self.objects.create(EVENTS, body, pod.metadata.namespace)
