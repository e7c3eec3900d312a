"""Claims, pods and nodes in a few words, for tests of what the controller decides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from driver.core.deciding.world import World
from driver.model.claims import Allocation, ClaimStatus, ConsumerReference, OpaqueConfiguration
from driver.model.errors import InvalidInput
from driver.model.objects import ObjectMeta, OwnerReference
from driver.model.policies import GROUP_LABEL, GroupPolicy, Policy, When
from driver.model.requests import ClaimSpec, Configuration, DeviceRequest, DevicesSpec, Request
from driver.model.wanted import Claim
from driver.model.workloads import (
    ClaimReference,
    ClusterNode,
    NodeSpec,
    NodeStatus,
    NodeTaint,
    PodContainer,
    ResourceRequirements,
    SchedulingGate,
    Workload,
    WorkloadSpec,
    WorkloadStatus,
)


def make_claim(
    name: str,
    count: int = 1,
    *,
    policy: str = "ours",
    group: str = "",
    allocation: Allocation | None = None,
    reserved: str = "",
    owner: str = "",
    at: str = "2026-01-01T00:00:00Z",
) -> Claim:
    """`policy` is a word that `ask` knows; it stands in the claim's configuration."""
    text = msgspec.Raw(msgspec.json.encode(policy))
    config = (Configuration(opaque=OpaqueConfiguration(driver="gpu.accel-dra.dev", parameters=text)),)
    request = Request(name="r", exactly=DeviceRequest(device_class_name="gpu", count=count))
    owners = (OwnerReference(api_version="v1", kind="Pod", name=owner, uid=f"uid-{owner}", controller=True),)
    return Claim(
        metadata=ObjectMeta(
            name=name,
            namespace="team",
            uid=f"uid-{name}",
            resource_version="1",
            creation_timestamp=at,
            labels={GROUP_LABEL: group} if group else {},
            owner_references=owners if owner else (),
        ),
        spec=ClaimSpec(devices=DevicesSpec(requests=(request,), config=config)),
        status=ClaimStatus(
            allocation=allocation,
            reserved_for=(
                (ConsumerReference(resource="pods", name=reserved, uid=f"uid-{reserved}"),) if reserved else ()
            ),
        ),
    )


def ask(claim: Claim) -> Policy | None:
    """Return the policy that a claim's word stands for: ours, immediate, group-N, group-N@within, none or bad."""
    opaque = claim.spec.devices.config[0].opaque
    assert opaque is not None
    word = msgspec.json.decode(opaque.parameters, type=str)
    kind, _, rest = word.partition("-")
    if kind == "none":
        return None
    if kind == "bad":
        raise InvalidInput("when", "Never", "FirstConsumer or Immediate")
    size, _, within = rest.partition("@")
    when = When.IMMEDIATE if kind == "immediate" else When.FIRST_CONSUMER
    return Policy(when=when, group=GroupPolicy(int(size), within) if size else None)


def make_pod(
    name: str,
    *claims: str,
    priority: int = 0,
    at: str = "2026-01-01T00:00:00Z",
    node: str = "",
    gated: bool = False,
    phase: str = "Pending",
    requests: Mapping[str, str] | None = None,
    deleted: bool = False,
    **spec: Any,
) -> Workload:
    container = PodContainer(name="main", resources=ResourceRequirements(requests=dict(requests or {})))
    whole = WorkloadSpec(
        containers=(container,),
        node_name=node,
        priority=priority,
        resource_claims=tuple(ClaimReference(name=each, resource_claim_name=each) for each in claims),
        scheduling_gates=(SchedulingGate(name="wait"),) if gated else (),
    )
    return Workload(
        metadata=ObjectMeta(
            name=name,
            namespace="team",
            uid=f"uid-{name}",
            resource_version="1",
            creation_timestamp=at,
            deletion_timestamp=at if deleted else None,
        ),
        spec=msgspec.structs.replace(whole, **spec),
        status=WorkloadStatus(phase=phase),
    )


def make_node(
    name: str,
    *,
    labels: Mapping[str, str] | None = None,
    allocatable: Mapping[str, str] | None = None,
    taints: Iterable[NodeTaint] = (),
    cordoned: bool = False,
) -> ClusterNode:
    return ClusterNode(
        metadata=ObjectMeta(name=name, uid=f"uid-{name}", labels=dict(labels or {})),
        spec=NodeSpec(unschedulable=cordoned, taints=tuple(taints)),
        status=NodeStatus(allocatable=dict(allocatable or {})),
    )


def make_world(*objects: Claim | Workload | ClusterNode) -> World:
    claims = {f"team/{each.metadata.name}": each for each in objects if isinstance(each, Claim)}
    pods = {f"team/{each.metadata.name}": each for each in objects if isinstance(each, Workload)}
    nodes = {each.metadata.name: each for each in objects if isinstance(each, ClusterNode)}
    return World(claims, pods, nodes, {})
