"""The registration service: tells the kubelet who we are and hears what came of it.

Called by the kubelet's plugin watcher, which waits one second for GetInfo and forgets a plugin whose
NotifyRegistrationStatus fails. So both answer from memory, on threads that no prepare call can occupy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import grpc

from driver.kubelet import methods
from driver.kubelet.pb.pluginregistration.v1 import api_pb2 as pb
from driver.model.occurrences import Registered

OnStatus = Callable[[Registered], None]
"""Told what the kubelet said; must return at once."""


@dataclass(frozen=True, slots=True)
class RegistrationService:
    """Registration of the DRA service at `endpoint`, an absolute path as the kubelet sees it."""

    driver: str
    endpoint: str
    on_status: OnStatus

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """Return what a gRPC server serves."""
        return (methods.GET_INFO.serve(self._get_info), methods.NOTIFY_STATUS.serve(self._notify))

    def _get_info(self, _request: pb.InfoRequest, _context: grpc.ServicerContext) -> pb.PluginInfo:
        return pb.PluginInfo(
            type=methods.PLUGIN_TYPE,
            name=self.driver,
            endpoint=self.endpoint,
            supported_versions=methods.SUPPORTED_VERSIONS,
        )

    def _notify(self, request: pb.RegistrationStatus, _context: grpc.ServicerContext) -> pb.RegistrationStatusResponse:
        self.on_status(Registered(accepted=request.plugin_registered, error=request.error))
        return pb.RegistrationStatusResponse()
