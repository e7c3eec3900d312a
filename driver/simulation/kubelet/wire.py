"""The kubelet's end of the gRPC contracts: dial a socket, call, get plain values. Called by plugins and watcher.

The paths are written out here and not shared with the driver, so that a wrong one there cannot go unnoticed.
Source: k8s.io/kubelet pkg/apis/pluginregistration/v1, pkg/apis/dra/{v1,v1beta1}, pkg/apis/dra-health/{v1,v1alpha1}.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import quote

import grpc
from google.protobuf.message import Message

from driver.kubelet.pb.dra.v1 import api_pb2 as v1
from driver.kubelet.pb.dra_health.v1 import api_pb2 as health
from driver.kubelet.pb.pluginregistration.v1 import api_pb2 as registration
from driver.model.prepared import ClaimRef

V1: Final = "v1.DRAPlugin"
V1BETA1: Final = "v1beta1.DRAPlugin"
HEALTH_V1: Final = "v1.DRAResourceHealth"
HEALTH_V1ALPHA1: Final = "v1alpha1.DRAResourceHealth"
_REGISTRATION: Final = "/pluginregistration.Registration"
_DRA: Final = {
    V1: "/k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin",
    V1BETA1: "/k8s.io.kubelet.pkg.apis.dra.v1beta1.DRAPlugin",
}
_HEALTH: Final = {health.UNKNOWN: "Unknown", health.HEALTHY: "Healthy", health.UNHEALTHY: "Unhealthy"}
_OPTIONS: Final = (("grpc.enable_http_proxy", 0),)
_HTTP2_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""What a client says first (RFC 9113): the preface and empty SETTINGS, so that a server treats us as connected."""
_LOOK_SECONDS: Final = 0.1
ReplyT = TypeVar("ReplyT", bound=Message)


class CallError(Exception):
    """A call failed or was not answered in time; the text is what the kubelet would log."""


@dataclass(frozen=True, slots=True)
class Info:
    """PluginInfo."""

    type: str
    name: str
    endpoint: str
    versions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Device:
    """One device of a prepared claim, as the plugin answered."""

    request_names: tuple[str, ...]
    pool_name: str
    device_name: str
    cdi_device_ids: tuple[str, ...]
    share_id: str | None = None


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """DeviceHealth, its health in the words of pod statuses."""

    pool: str
    device: str
    health: str
    message: str
    timeout: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """NodePrepareResourceResponse of one claim."""

    devices: tuple[Device, ...]
    error: str


class RegistrationSocket:
    """One registration socket, dialled; close it."""

    def __init__(self, path: str, limit: float, is_closing: Callable[[], bool] = lambda: False) -> None:
        """Dial as the kubelet does: the plain path, which makes its escaped form the authority.

        Raises `CallError` after `limit` seconds, or soon after `is_closing` says so.
        """
        for _ in range(max(1, int(limit / _LOOK_SECONDS))):
            if _can_connect(path):
                break
            if is_closing():
                raise CallError(f"failed to dial socket {path}, err: context canceled")
            time.sleep(_LOOK_SECONDS)
        else:
            raise CallError(f"failed to dial socket {path}, err: context deadline exceeded")
        options = (*_OPTIONS, ("grpc.default_authority", quote(path, safe="")))
        self._channel = grpc.insecure_channel(f"unix:{path}", options)

    def get_info(self, limit: float) -> Info:
        """Ask who is there. Raises `CallError`."""
        path = f"{_REGISTRATION}/GetInfo"
        reply = _call(self._channel, path, registration.InfoRequest(), registration.PluginInfo, limit)
        return Info(reply.type, reply.name, reply.endpoint, tuple(reply.supported_versions))

    def notify(self, *, registered: bool, error: str, limit: float) -> None:
        """Tell the plugin what came of it. Raises `CallError`."""
        path = f"{_REGISTRATION}/NotifyRegistrationStatus"
        status = registration.RegistrationStatus(plugin_registered=registered, error=error)
        _call(self._channel, path, status, registration.RegistrationStatusResponse, limit)

    def close(self) -> None:
        """Hang up."""
        self._channel.close()


class DraConnection:
    """The lasting connection to one endpoint of a driver. `look` notices its loss and makes it anew."""

    def __init__(self, endpoint: str, version: str) -> None:
        self.version = version
        self._endpoint = endpoint
        self._probe: socket.socket | None = None
        self._lock = threading.Lock()
        self._channel = grpc.insecure_channel(f"unix:{endpoint}", _OPTIONS)
        self._is_closed = False
        self.look()

    @property
    def is_connected(self) -> bool:
        """True if the connection stood at the last look."""
        return self._probe is not None

    def look(self) -> None:
        """See whether the connection still stands; if it does not, try to connect, once."""
        with self._lock:
            if self._is_closed or (self._probe is not None and _is_open(self._probe)):
                return
            if self._probe is not None:
                self._probe.close()
            self._probe = _connect(self._endpoint)
            if self._probe is not None:
                # A new channel: the old one may sit out a pause after its failures, which Go's does not.
                self._channel.close()
                self._channel = grpc.insecure_channel(f"unix:{self._endpoint}", _OPTIONS)

    def prepare(self, claims: Sequence[ClaimRef], limit: float) -> Mapping[str, Prepared]:
        """NodePrepareResources; answers by claim UID. Raises `CallError`."""
        request = v1.NodePrepareResourcesRequest(claims=[_claim(each) for each in claims])
        path = f"{_DRA[self.version]}/NodePrepareResources"
        reply = _call(self._channel, path, request, v1.NodePrepareResourcesResponse, limit)
        return {
            uid: Prepared(tuple(self._device(device) for device in each.devices), each.error)
            for uid, each in reply.claims.items()
        }

    def unprepare(self, claims: Sequence[ClaimRef], limit: float) -> Mapping[str, str]:
        """NodeUnprepareResources; errors by claim UID, empty on success. Raises `CallError`."""
        request = v1.NodeUnprepareResourcesRequest(claims=[_claim(each) for each in claims])
        path = f"{_DRA[self.version]}/NodeUnprepareResources"
        reply = _call(self._channel, path, request, v1.NodeUnprepareResourcesResponse, limit)
        return {uid: each.error for uid, each in reply.claims.items()}

    def watch_health(self, version: str) -> Iterator[list[DeviceReport]]:
        """Yield the lists of one NodeWatchResources stream until it ends. Raises `CallError`."""
        method = self._channel.unary_stream(
            f"/{version}/NodeWatchResources",
            request_serializer=health.NodeWatchResourcesRequest.SerializeToString,
            response_deserializer=health.NodeWatchResourcesResponse.FromString,
        )
        try:
            for reply in method(health.NodeWatchResourcesRequest()):
                yield [_report(device) for device in reply.devices]
        except grpc.RpcError as error:
            raise CallError(f"rpc error: code = {error.code().name} desc = {error.details()}") from error
        except ValueError as error:
            raise CallError(f"the connection is closed: {error}") from error

    def _device(self, device: v1.Device) -> Device:
        """Read a device; v1beta1 has the same numbers and no share_id."""
        has_share = self.version == V1 and device.HasField("share_id")
        return Device(
            tuple(device.request_names),
            device.pool_name,
            device.device_name,
            tuple(device.cdi_device_ids),
            device.share_id if has_share else None,
        )

    def close(self) -> None:
        """Hang up for good."""
        with self._lock:
            self._is_closed = True
            self._channel.close()
            if self._probe is not None:
                self._probe.close()
            self._probe = None


def _connect(path: str) -> socket.socket | None:
    probe = socket.socket(socket.AF_UNIX)
    try:
        probe.connect(path)
        probe.sendall(_HTTP2_PREFACE)
    except OSError:
        probe.close()
        return None
    return probe


def _can_connect(path: str) -> bool:
    probe = _connect(path)
    if probe is not None:
        probe.close()
    return probe is not None


def _is_open(probe: socket.socket) -> bool:
    """Read and forget what the server says; the end of it is the end of the connection."""
    try:
        while probe.recv(4096, socket.MSG_DONTWAIT):
            pass
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _report(device: health.DeviceHealth) -> DeviceReport:
    return DeviceReport(
        device.device.pool_name,
        device.device.device_name,
        _HEALTH[device.health],
        device.message,
        device.health_check_timeout_seconds,
    )


def _claim(claim: ClaimRef) -> v1.Claim:
    return v1.Claim(namespace=claim.namespace, uid=claim.uid, name=claim.name)


def _call(channel: grpc.Channel, path: str, request: Message, reply: type[ReplyT], limit: float) -> ReplyT:
    method = channel.unary_unary(
        path, request_serializer=type(request).SerializeToString, response_deserializer=reply.FromString
    )
    try:
        answer: ReplyT = method(request, timeout=limit)
    except grpc.RpcError as error:
        raise CallError(f"rpc error: code = {error.code().name} desc = {error.details()}") from error
    except ValueError as error:
        raise CallError(f"the connection is closed: {error}") from error
    return answer
