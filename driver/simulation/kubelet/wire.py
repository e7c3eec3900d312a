"""The kubelet's end of the gRPC contracts: dial a socket, call, get plain values. Called by plugins and watcher.

The paths are written out here and not shared with the driver, so that a wrong one there cannot go unnoticed.
Source: k8s.io/kubelet pkg/apis/pluginregistration/v1 and pkg/apis/dra/{v1,v1beta1}.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import quote

import grpc
from google.protobuf.message import Message

from driver.kubelet.pb.dra.v1 import api_pb2 as v1
from driver.kubelet.pb.pluginregistration.v1 import api_pb2 as registration
from driver.model.prepared import ClaimRef

V1: Final = "v1.DRAPlugin"
V1BETA1: Final = "v1beta1.DRAPlugin"
_REGISTRATION: Final = "/pluginregistration.Registration"
_DRA: Final = {
    V1: "/k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin",
    V1BETA1: "/k8s.io.kubelet.pkg.apis.dra.v1beta1.DRAPlugin",
}
_RECONNECT: Final = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_http_proxy", 0),
)


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
class Prepared:
    """NodePrepareResourceResponse of one claim."""

    devices: tuple[Device, ...]
    error: str


class RegistrationSocket:
    """One registration socket, dialled; close it."""

    def __init__(self, path: str, limit: float) -> None:
        """Dial as the kubelet does: the plain path, which makes its escaped form the authority. Raises `CallError`."""
        options = (*_RECONNECT, ("grpc.default_authority", quote(path, safe="")))
        self._channel = grpc.insecure_channel(f"unix:{path}", options)
        try:
            grpc.channel_ready_future(self._channel).result(limit)
        except grpc.FutureTimeoutError as error:
            self._channel.close()
            raise CallError(f"failed to dial socket {path}, err: context deadline exceeded") from error

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
    """The lasting connection to one endpoint of a driver; reconnects by itself when it is poked."""

    def __init__(self, endpoint: str, version: str, on_change: Callable[[], None]) -> None:
        self.version = version
        self._on_change = on_change
        self._state = grpc.ChannelConnectivity.IDLE
        self._channel = grpc.insecure_channel(f"unix:{endpoint}", _RECONNECT)
        self._channel.subscribe(self._note, try_to_connect=True)

    def _note(self, state: grpc.ChannelConnectivity) -> None:
        self._state = state
        self._on_change()

    @property
    def is_connected(self) -> bool:
        """True while the connection stands."""
        return self._state is grpc.ChannelConnectivity.READY

    def poke(self) -> None:
        """Connect again if the connection was lost."""
        if self._state is grpc.ChannelConnectivity.IDLE:
            self._channel.subscribe(_ignore, try_to_connect=True)
            self._channel.unsubscribe(_ignore)

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
        self._channel.unsubscribe(self._note)
        self._channel.close()


def _ignore(_: grpc.ChannelConnectivity) -> None:
    return


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
