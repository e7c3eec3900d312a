"""The kubelet's gRPC methods as a table: path, request and reply. Used by the servers here and by whoever dials them.

The generated files hold messages only: grpc's own generated services demand the very version of grpcio that made
them. One `Method` or `Stream` serves both sides of a call, typed by its messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import grpc
from google.protobuf.message import Message

from driver.kubelet.pb.dra.v1 import api_pb2 as dra_v1
from driver.kubelet.pb.dra.v1beta1 import api_pb2 as dra_v1beta1
from driver.kubelet.pb.dra_health.v1 import api_pb2 as health_v1
from driver.kubelet.pb.dra_health.v1alpha1 import api_pb2 as health_v1alpha1
from driver.kubelet.pb.pluginregistration.v1 import api_pb2 as registration_v1

PLUGIN_TYPE: Final = "DRAPlugin"
"""PluginInfo.type of a DRA driver."""
SUPPORTED_VERSIONS: Final = (
    "v1.DRAPlugin",
    "v1beta1.DRAPlugin",
    "v1.DRAResourceHealth",
    "v1alpha1.DRAResourceHealth",
)
"""PluginInfo.supported_versions, in the order of k8s.io/dynamic-resource-allocation/kubeletplugin.

The kubelet prepares with the first that it knows (1.34 and later: v1). Up to 1.36 it tries health v1alpha1 without
looking here; from 1.37 on it takes v1 if it is named.
"""

RequestT = TypeVar("RequestT", bound=Message)
ReplyT = TypeVar("ReplyT", bound=Message)


@dataclass(frozen=True, slots=True)
class Method(Generic[RequestT, ReplyT]):
    """One unary method of a service."""

    service: str
    """Full name with its protobuf package."""
    name: str
    request: type[RequestT]
    reply: type[ReplyT]

    def dial(self, channel: grpc.Channel) -> grpc.UnaryUnaryMultiCallable[RequestT, ReplyT]:
        """Return a function that calls this method over `channel`."""
        return channel.unary_unary(
            f"/{self.service}/{self.name}",
            request_serializer=_encode,
            response_deserializer=self.reply.FromString,
        )

    def serve(self, function: Callable[[RequestT, grpc.ServicerContext], ReplyT]) -> grpc.GenericRpcHandler:
        """Return a handler for a server that answers this method with `function`."""
        handler = grpc.unary_unary_rpc_method_handler(
            function, request_deserializer=self.request.FromString, response_serializer=_encode
        )
        return grpc.method_handlers_generic_handler(self.service, {self.name: handler})


@dataclass(frozen=True, slots=True)
class Stream(Generic[RequestT, ReplyT]):
    """One method of a service that answers a request with many replies."""

    service: str
    name: str
    request: type[RequestT]
    reply: type[ReplyT]

    def dial(self, channel: grpc.Channel) -> grpc.UnaryStreamMultiCallable[RequestT, ReplyT]:
        """Return a function that opens this stream over `channel`."""
        return channel.unary_stream(
            f"/{self.service}/{self.name}",
            request_serializer=_encode,
            response_deserializer=self.reply.FromString,
        )

    def serve(self, function: Callable[[RequestT, grpc.ServicerContext], Iterator[ReplyT]]) -> grpc.GenericRpcHandler:
        """Return a handler for a server whose replies are those that `function` yields, each on the stream's thread."""
        handler = grpc.unary_stream_rpc_method_handler(
            function, request_deserializer=self.request.FromString, response_serializer=_encode
        )
        return grpc.method_handlers_generic_handler(self.service, {self.name: handler})


def _encode(message: Message) -> bytes:
    """Serialize with map entries in a fixed order, so that the same answer is the same bytes."""
    return message.SerializeToString(deterministic=True)


_REGISTRATION: Final = "pluginregistration.Registration"
_DRA_V1: Final = "k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin"
_DRA_V1BETA1: Final = "k8s.io.kubelet.pkg.apis.dra.v1beta1.DRAPlugin"

GET_INFO: Final = Method(_REGISTRATION, "GetInfo", registration_v1.InfoRequest, registration_v1.PluginInfo)
NOTIFY_STATUS: Final = Method(
    _REGISTRATION,
    "NotifyRegistrationStatus",
    registration_v1.RegistrationStatus,
    registration_v1.RegistrationStatusResponse,
)
PREPARE_V1: Final = Method(
    _DRA_V1, "NodePrepareResources", dra_v1.NodePrepareResourcesRequest, dra_v1.NodePrepareResourcesResponse
)
UNPREPARE_V1: Final = Method(
    _DRA_V1, "NodeUnprepareResources", dra_v1.NodeUnprepareResourcesRequest, dra_v1.NodeUnprepareResourcesResponse
)
PREPARE_V1BETA1: Final = Method(
    _DRA_V1BETA1,
    "NodePrepareResources",
    dra_v1beta1.NodePrepareResourcesRequest,
    dra_v1beta1.NodePrepareResourcesResponse,
)
UNPREPARE_V1BETA1: Final = Method(
    _DRA_V1BETA1,
    "NodeUnprepareResources",
    dra_v1beta1.NodeUnprepareResourcesRequest,
    dra_v1beta1.NodeUnprepareResourcesResponse,
)
WATCH_HEALTH_V1: Final = Stream(
    "v1.DRAResourceHealth",
    "NodeWatchResources",
    health_v1.NodeWatchResourcesRequest,
    health_v1.NodeWatchResourcesResponse,
)
WATCH_HEALTH_V1ALPHA1: Final = Stream(
    "v1alpha1.DRAResourceHealth",
    "NodeWatchResources",
    health_v1alpha1.NodeWatchResourcesRequest,
    health_v1alpha1.NodeWatchResourcesResponse,
)
