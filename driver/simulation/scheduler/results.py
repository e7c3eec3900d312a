"""Devices found into the words of the API: AllocationResult with its configuration and node selector.

Called by the scheduler. Configuration is assembled as Kubernetes 1.36 does it: class configurations once a class with
the names of all its requests, claim configurations once for every request that they are for.
"""

from __future__ import annotations

from collections.abc import Sequence

from driver.simulation.access import Body, Json
from driver.simulation.objects import Claim, Configuration
from driver.simulation.scheduler.search import Taken
from driver.simulation.scheduler.selecting import Request


def describe(claim: Claim, taken: Sequence[Taken], node_name: str, timestamp: str) -> Body:
    """Return status.allocation of a claim; `taken` are its devices in the order of its requests."""
    allocation: dict[str, Json] = {
        "devices": {"results": [_result(each) for each in taken], "config": _config(claim, taken)}
    }
    if any(each.candidate.is_local for each in taken):
        field = {"key": "metadata.name", "operator": "In", "values": [node_name]}
        allocation["nodeSelector"] = {"nodeSelectorTerms": [{"matchFields": [field]}]}
    return {**allocation, "allocationTimestamp": timestamp}


def _result(taken: Taken) -> Body:
    wanted = taken.request.wanted
    driver, pool, device = taken.candidate.id
    result: dict[str, Json] = {"request": taken.request.name, "driver": driver, "pool": pool, "device": device}
    if wanted.admin_access:
        result["adminAccess"] = True
    if wanted.tolerations:
        fields = ("key", "operator", "value", "effect")
        result["tolerations"] = [
            {name: getattr(each, name) for name in fields if getattr(each, name)} for each in wanted.tolerations
        ]
    return result


def _config(claim: Claim, taken: Sequence[Taken]) -> list[Json]:
    requests = list({each.request.name: each.request for each in taken}.values())
    return [*_class_config(requests), *_claim_config(claim, requests)]


def _class_config(requests: Sequence[Request]) -> list[Json]:
    by_class: dict[str, list[Request]] = {}
    for request in requests:
        by_class.setdefault(request.device_class.metadata.name, []).append(request)
    return [
        {"source": "FromClass", "requests": [request.name for request in same], "opaque": config.opaque}
        for same in by_class.values()
        for config in same[0].device_class.spec.config
    ]


def _claim_config(claim: Claim, requests: Sequence[Request]) -> list[Json]:
    return [
        {"source": "FromClaim", "requests": list(config.requests), "opaque": config.opaque}
        for config in claim.spec.devices.config
        for request in requests
        if _is_for(config, request.name)
    ]


def _is_for(config: Configuration, request: str) -> bool:
    return not config.requests or request in config.requests or request.partition("/")[0] in config.requests
