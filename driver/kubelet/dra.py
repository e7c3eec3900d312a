"""The DRA service, v1 and v1beta1 on one server: messages to values, two functions given to it, values to messages.

Called by the kubelet through gRPC worker threads, several at a time. Promises an entry for every claim that was asked
for and a server that outlives any error of the functions: what they raise becomes the error of each claim. Knows
neither records nor vendors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import grpc

from driver.kubelet import methods
from driver.kubelet.pb.dra.v1 import api_pb2 as v1
from driver.kubelet.pb.dra.v1beta1 import api_pb2 as v1beta1
from driver.model.errors import DriverError
from driver.model.prepared import ClaimRef, PrepareAnswer

Prepare = Callable[[Sequence[ClaimRef]], Mapping[str, PrepareAnswer]]
"""Answers by claim UID."""
Unprepare = Callable[[Sequence[ClaimRef]], Mapping[str, str]]
"""Errors by claim UID; an empty text is success."""
OnFault = Callable[[str, Exception], None]
"""Told of an error that is no `DriverError`, with the name of the method: a defect of ours, for the log."""

_UNANSWERED: Final = "internal error: there is no answer for this claim"


@dataclass(frozen=True, slots=True)
class DraService:
    """Both versions of the service over the same two functions."""

    prepare: Prepare
    unprepare: Unprepare
    on_fault: OnFault

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """Return what a gRPC server serves."""
        return (
            methods.PREPARE_V1.serve(self._prepare_v1),
            methods.UNPREPARE_V1.serve(self._unprepare_v1),
            methods.PREPARE_V1BETA1.serve(self._prepare_v1beta1),
            methods.UNPREPARE_V1BETA1.serve(self._unprepare_v1beta1),
        )

    def _prepare_v1(
        self, request: v1.NodePrepareResourcesRequest, _context: grpc.ServicerContext
    ) -> v1.NodePrepareResourcesResponse:
        response = v1.NodePrepareResourcesResponse()
        for uid, answer in self._answers(_references(request.claims)).items():
            entry = response.claims[uid]
            entry.error = answer.error
            for device in answer.devices:
                entry.devices.add(
                    request_names=device.requests,
                    pool_name=device.pool,
                    device_name=device.device,
                    cdi_device_ids=device.cdi_device_ids,
                    share_id=device.share_id,
                )
        return response

    def _prepare_v1beta1(
        self, request: v1beta1.NodePrepareResourcesRequest, _context: grpc.ServicerContext
    ) -> v1beta1.NodePrepareResourcesResponse:
        response = v1beta1.NodePrepareResourcesResponse()
        for uid, answer in self._answers(_references(request.claims)).items():
            entry = response.claims[uid]
            entry.error = answer.error
            for device in answer.devices:
                entry.devices.add(
                    request_names=device.requests,
                    pool_name=device.pool,
                    device_name=device.device,
                    cdi_device_ids=device.cdi_device_ids,
                )
        return response

    def _unprepare_v1(
        self, request: v1.NodeUnprepareResourcesRequest, _context: grpc.ServicerContext
    ) -> v1.NodeUnprepareResourcesResponse:
        response = v1.NodeUnprepareResourcesResponse()
        for uid, error in self._errors(_references(request.claims)).items():
            response.claims[uid].error = error
        return response

    def _unprepare_v1beta1(
        self, request: v1beta1.NodeUnprepareResourcesRequest, _context: grpc.ServicerContext
    ) -> v1beta1.NodeUnprepareResourcesResponse:
        response = v1beta1.NodeUnprepareResourcesResponse()
        for uid, error in self._errors(_references(request.claims)).items():
            response.claims[uid].error = error
        return response

    def _answers(self, claims: Sequence[ClaimRef]) -> dict[str, PrepareAnswer]:
        """Return one answer per claim, whatever `prepare` does."""
        try:
            answers = self.prepare(claims)
        except Exception as error:  # noqa: BLE001 - top of a worker thread: the server must outlive any defect
            failed = PrepareAnswer(error=self._explain("NodePrepareResources", error))
            return {claim.uid: failed for claim in claims}
        return {claim.uid: answers.get(claim.uid, PrepareAnswer(error=_UNANSWERED)) for claim in claims}

    def _errors(self, claims: Sequence[ClaimRef]) -> dict[str, str]:
        """Return one error text per claim, whatever `unprepare` does."""
        try:
            errors = self.unprepare(claims)
        except Exception as error:  # noqa: BLE001 - top of a worker thread: the server must outlive any defect
            failed = self._explain("NodeUnprepareResources", error)
            return {claim.uid: failed for claim in claims}
        return {claim.uid: errors.get(claim.uid, _UNANSWERED) for claim in claims}

    def _explain(self, method: str, error: Exception) -> str:
        if isinstance(error, DriverError):
            return str(error)
        self.on_fault(method, error)
        return f"internal error: {type(error).__name__}: {error}"


def _references(claims: Iterable[v1.Claim] | Iterable[v1beta1.Claim]) -> list[ClaimRef]:
    """Read the claims of a request, each UID once, in the order of the request."""
    return list({claim.uid: ClaimRef(claim.namespace, claim.name, claim.uid) for claim in claims}.values())
