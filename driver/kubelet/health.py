"""The health stream (KEP-4680), v1 and v1alpha1 on one server: lists of devices for the status of pods.

Called by the kubelet, which keeps one stream open and takes what it is told for unknown again when the stream ends or
nothing comes for `TIMEOUT_SECONDS`. So each stream gets the complete list at once, at each change (`notify`) and every
`RESEND_SECONDS`. A stream holds a worker thread as long as it lives: there are at most `MAX_STREAMS`, and a new one
ends the oldest, because a kubelet that comes back has given up what it had.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import grpc

from driver.kubelet import methods
from driver.kubelet.pb.dra_health.v1 import api_pb2 as v1
from driver.kubelet.pb.dra_health.v1alpha1 import api_pb2 as v1alpha1
from driver.model.health import DeviceHealth, Severity

MAX_STREAMS: Final = 8
"""Two would do: one a kubelet, and one that it has just lost."""
RESEND_SECONDS: Final = 10.0
TIMEOUT_SECONDS: Final = 30
"""As sent with each device: three lists have to be missed before it is called unknown."""

Report = Callable[[], Sequence[DeviceHealth]]
"""All devices of the node, as they are now."""
OnFault = Callable[[str, Exception], None]
"""Told of an error of `Report`: a defect of ours, for the log. The stream ends, and the kubelet opens another."""


class HealthService:
    """Both versions of the service over one function. `close` ends all streams and refuses new ones."""

    def __init__(self, pool: str, report: Report, on_fault: OnFault, *, resend: float = RESEND_SECONDS) -> None:
        self._pool = pool
        self._report = report
        self._on_fault = on_fault
        self._resend = resend
        self._changed = threading.Condition()
        self._changes = 0
        self._streams: list[object] = []
        """Those that are alive, the oldest first."""
        self._closed = False

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """Return what a gRPC server serves."""
        return (
            methods.WATCH_HEALTH_V1.serve(self._watch_v1),
            methods.WATCH_HEALTH_V1ALPHA1.serve(self._watch_v1alpha1),
        )

    def notify(self) -> None:
        """Have every stream send the list again, soon; returns at once."""
        with self._changed:
            self._changes += 1
            self._changed.notify_all()

    def close(self) -> None:
        """End all streams now. Safe to repeat."""
        with self._changed:
            self._closed = True
            self._streams.clear()
            self._changed.notify_all()

    def _watch_v1(
        self, _request: v1.NodeWatchResourcesRequest, context: grpc.ServicerContext
    ) -> Iterator[v1.NodeWatchResourcesResponse]:
        for devices in self._lists(context):
            response = v1.NodeWatchResourcesResponse()
            now = int(time.time())
            for each in devices:
                response.devices.add(
                    device=v1.DeviceIdentifier(pool_name=self._pool, device_name=each.device),
                    health=_health(each),
                    last_updated_time=now,
                    health_check_timeout_seconds=TIMEOUT_SECONDS,
                    message=each.message,
                )
            yield response

    def _watch_v1alpha1(
        self, _request: v1alpha1.NodeWatchResourcesRequest, context: grpc.ServicerContext
    ) -> Iterator[v1alpha1.NodeWatchResourcesResponse]:
        for response in self._watch_v1(v1.NodeWatchResourcesRequest(), context):
            # The versions are the same on the wire.
            yield v1alpha1.NodeWatchResourcesResponse.FromString(response.SerializeToString())

    def _lists(self, context: grpc.ServicerContext) -> Iterator[Sequence[DeviceHealth]]:
        stream = object()
        seen = self._begin(stream)
        if not context.add_callback(lambda: self._end(stream)):
            self._end(stream)
        try:
            while self._is_alive(stream):
                yield self._report()
                seen = self._wait(stream, seen)
        except Exception as error:
            self._on_fault("NodeWatchResources", error)
            raise
        finally:
            self._end(stream)

    def _begin(self, stream: object) -> int:
        """Take a stream in, and end the oldest if there are too many. Return the changes that its first list knows."""
        with self._changed:
            if not self._closed:
                self._streams.append(stream)
            if len(self._streams) > MAX_STREAMS:
                del self._streams[0]
                self._changed.notify_all()
            return self._changes

    def _end(self, stream: object) -> None:
        """Called by the stream itself, and by gRPC as soon as the kubelet is gone."""
        with self._changed:
            if stream in self._streams:
                self._streams.remove(stream)
            self._changed.notify_all()

    def _is_alive(self, stream: object) -> bool:
        with self._changed:
            return stream in self._streams

    def _wait(self, stream: object, seen: int) -> int:
        """Wait for a change, the time to send again, or the end of the stream; return the changes there were."""
        with self._changed:
            self._changed.wait_for(lambda: self._changes != seen or stream not in self._streams, self._resend)
            return self._changes


def _health(device: DeviceHealth) -> v1.HealthStatus.ValueType:
    """A degraded device works; what is wrong with it is in its message."""
    if device.severity is None:
        return v1.UNKNOWN
    return v1.UNHEALTHY if device.severity is Severity.UNHEALTHY else v1.HEALTHY
