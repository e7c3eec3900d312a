"""Devices found into the words of the API: AllocationResult with its configuration and node selector.

Called by the scheduler. Configuration is assembled as Kubernetes 1.36 does it: class configurations once a class with
the names of all its requests, claim configurations once for every request that they are for.
"""

from __future__ import annotations

from collections.abc import Sequence

from driver.simulation.access import Body, Json
from driver.simulation.resources import Claim, Configuration, Requirement, Toleration
from driver.simulation.scheduler.search import Taken
from driver.simulation.scheduler.selecting import Request


def describe(claim: Claim, taken: Sequence[Taken], node_name: str, timestamp: str) -> Body:
    """Return status.allocation of a claim; `taken` are its devices in the order of its requests."""
    allocation: dict[str, Json] = {
        "devices": {"results": [_result(each) for each in taken], "config": _config(claim, taken)}
    }
    term = _node_term(taken, node_name)
    if term:
        allocation["nodeSelector"] = {"nodeSelectorTerms": [term]}
    return {**allocation, "allocationTimestamp": timestamp}


def _node_term(taken: Sequence[Taken], node_name: str) -> Body:
    """Return the nodes on which the devices can be used: this one, or all that every device's own selector allows."""
    if any(each.candidate.is_local for each in taken):
        return {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node_name]}]}
    terms = [term for each in taken if each.candidate.selector for term in each.candidate.selector.node_selector_terms]
    merged = {
        "matchExpressions": _unique([each for term in terms for each in term.match_expressions]),
        "matchFields": _unique([each for term in terms for each in term.match_fields]),
    }
    return {name: requirements for name, requirements in merged.items() if requirements}


def _unique(requirements: Sequence[Requirement]) -> list[Json]:
    return [
        {"key": each.key, "operator": each.operator, **({"values": each.values} if each.values else {})}
        for each in dict.fromkeys(requirements)
    ]


def _result(taken: Taken) -> Body:
    wanted = taken.request.wanted
    driver, pool, device = taken.candidate.id
    result: dict[str, Json] = {"request": taken.request.name, "driver": driver, "pool": pool, "device": device}
    if wanted.admin_access:
        result["adminAccess"] = True
    if wanted.tolerations:
        result["tolerations"] = [_toleration(each) for each in wanted.tolerations]
    return result


def _toleration(toleration: Toleration) -> Body:
    seconds = toleration.toleration_seconds
    return {
        **{
            name: getattr(toleration, name)
            for name in ("key", "operator", "value", "effect")
            if getattr(toleration, name)
        },
        **({} if seconds is None else {"tolerationSeconds": seconds}),
    }


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
        for _ in range(sum(_is_for(config, request.name) for request in requests) if config.requests else 1)
    ]


def _is_for(config: Configuration, request: str) -> bool:
    return request in config.requests or request.partition("/")[0] in config.requests
