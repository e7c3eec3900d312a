"""A DRA plugin for tests of the simulated kubelet: real gRPC on real sockets, answers as a test wants them.

It is everything that our own plugin is not: late, of another version, wrong about its endpoint, forgetful.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from driver.kubelet import methods
from driver.kubelet.pb.dra.v1 import api_pb2 as v1
from driver.kubelet.pb.dra.v1beta1 import api_pb2 as v1beta1
from driver.kubelet.pb.pluginregistration.v1 import api_pb2 as registration


@contextmanager
def short_folder() -> Iterator[Path]:
    """Yield a temporary folder whose path leaves room for sockets."""
    with tempfile.TemporaryDirectory(prefix="kt", dir="/tmp") as name:
        yield Path(name)


def answer(request: v1.NodePrepareResourcesRequest) -> Mapping[str, v1.NodePrepareResourceResponse]:
    """Return what the plugin answers unless told otherwise: one device a claim."""
    return {
        claim.uid: v1.NodePrepareResourceResponse(
            devices=[
                v1.Device(
                    request_names=["gpu"],
                    pool_name="node-1",
                    device_name="gpu-0",
                    cdi_device_ids=[f"example.com/claim={claim.uid}"],
                )
            ]
        )
        for claim in request.claims
    }


@dataclass
class Script:
    """What the plugin does; change it while it runs."""

    info: dict[str, object] = field(default_factory=dict)
    """Fields of PluginInfo that differ from what is right."""
    before_info: Callable[[], None] = lambda: None
    fail_notify: bool = False
    prepare: Callable[[v1.NodePrepareResourcesRequest], Mapping[str, v1.NodePrepareResourceResponse]] | None = None
    unprepare: Callable[[v1.NodeUnprepareResourcesRequest], Mapping[str, str]] | None = None


class FakePlugin:
    """A plugin on two sockets below a kubelet's root folder."""

    def __init__(
        self, root: Path, driver: str = "gpu.example.com", *, instance: str = "", script: Script | None = None
    ) -> None:
        self.driver = driver
        self.script = script or Script()
        self.statuses: list[registration.RegistrationStatus] = []
        self.prepared: list[list[str]] = []
        """Claim UIDs of each NodePrepareResources call, in order."""
        self.unprepared: list[list[str]] = []
        self.versions_called: list[str] = []
        suffix = f"-{instance}" if instance else ""
        self.endpoint = root / "plugins" / driver / f"dra{suffix}.sock"
        self.socket = root / "plugins_registry" / f"{driver}{suffix}-reg.sock"
        for path in (self.endpoint, self.socket):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._dra: grpc.Server | None = None
        self._registration: grpc.Server | None = None

    def __enter__(self) -> FakePlugin:
        self.serve()
        self.register()
        return self

    def __exit__(self, *_: object) -> None:
        self.withdraw()
        self.hang_up()

    def serve(self) -> None:
        """Serve the DRA service."""
        self._dra = serve(
            self.endpoint,
            methods.PREPARE_V1.serve(self._prepare),
            methods.UNPREPARE_V1.serve(self._unprepare),
            methods.PREPARE_V1BETA1.serve(self._prepare_beta),
            methods.UNPREPARE_V1BETA1.serve(self._unprepare_beta),
        )

    def hang_up(self) -> None:
        """Stop the DRA service, so that the kubelet loses the connection."""
        if self._dra is not None:
            self._dra.stop(0).wait()
            self._dra = None

    def register(self) -> None:
        """Serve the registration service."""
        self._registration = serve(
            self.socket, methods.GET_INFO.serve(self._get_info), methods.NOTIFY_STATUS.serve(self._notify)
        )

    def withdraw(self) -> None:
        """Remove the registration socket."""
        if self._registration is not None:
            self._registration.stop(0).wait()
            self._registration = None
        self.socket.unlink(missing_ok=True)

    def _get_info(self, _: registration.InfoRequest, context: grpc.ServicerContext) -> registration.PluginInfo:
        del context
        self.script.before_info()
        right: dict[str, object] = {
            "type": "DRAPlugin",
            "name": self.driver,
            "endpoint": str(self.endpoint),
            "supported_versions": ["v1.DRAPlugin", "v1beta1.DRAPlugin"],
        }
        return registration.PluginInfo(**(right | self.script.info))  # type: ignore[arg-type]  # fields by name

    def _notify(
        self, status: registration.RegistrationStatus, context: grpc.ServicerContext
    ) -> registration.RegistrationStatusResponse:
        self.statuses.append(status)
        if self.script.fail_notify:
            context.abort(grpc.StatusCode.INTERNAL, "notify is broken")
        return registration.RegistrationStatusResponse()

    def _prepare(
        self, request: v1.NodePrepareResourcesRequest, context: grpc.ServicerContext
    ) -> v1.NodePrepareResourcesResponse:
        del context
        self.versions_called.append("v1")
        self.prepared.append([claim.uid for claim in request.claims])
        return v1.NodePrepareResourcesResponse(claims=(self.script.prepare or answer)(request))

    def _unprepare(
        self, request: v1.NodeUnprepareResourcesRequest, context: grpc.ServicerContext
    ) -> v1.NodeUnprepareResourcesResponse:
        del context
        self.unprepared.append([claim.uid for claim in request.claims])
        errors = self.script.unprepare(request) if self.script.unprepare else {each.uid: "" for each in request.claims}
        return v1.NodeUnprepareResourcesResponse(
            claims={uid: v1.NodeUnprepareResourceResponse(error=error) for uid, error in errors.items()}
        )

    def _prepare_beta(
        self, request: v1beta1.NodePrepareResourcesRequest, context: grpc.ServicerContext
    ) -> v1beta1.NodePrepareResourcesResponse:
        del context
        self.versions_called.append("v1beta1")
        same = answer(v1.NodePrepareResourcesRequest.FromString(request.SerializeToString()))
        reply = v1.NodePrepareResourcesResponse(claims=same)
        return v1beta1.NodePrepareResourcesResponse.FromString(reply.SerializeToString())

    def _unprepare_beta(
        self, request: v1beta1.NodeUnprepareResourcesRequest, context: grpc.ServicerContext
    ) -> v1beta1.NodeUnprepareResourcesResponse:
        del context
        return v1beta1.NodeUnprepareResourcesResponse(
            claims={claim.uid: v1beta1.NodeUnprepareResourceResponse() for claim in request.claims}
        )


def serve(path: Path, *handlers: grpc.GenericRpcHandler) -> grpc.Server:
    """Serve these methods on a socket; stop the server at the end."""
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=list(handlers))
    server.add_insecure_port(f"unix:{path}")
    server.start()
    return server
