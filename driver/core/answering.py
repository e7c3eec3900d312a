"""What becomes of each claim and why: what it has, what it would get, or what it waits for. In words for people.

Called by `accel-dra explain` with one look at the cluster, and by the controller for claims that kube-scheduler
allocates; both therefore say the same. Claims that ask for our controller are decided by the controller's own round, in
its order, so that a claim that is behind others is told so. The rest is kube-scheduler's: the devices are those of its
first-fit search on the first node where the pod can run; it may prefer another node for reasons that have nothing to do
with devices.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from driver.core import allocator, common_traits, remainders
from driver.core.allocator import Allocated, InvalidClaim, NodeView, Snapshot
from driver.core.deciding import demands, loads, placing, rounds
from driver.core.deciding.demands import Ask
from driver.core.deciding.loads import Load
from driver.core.deciding.memory import Memory, Patience
from driver.core.deciding.placing import Needs
from driver.core.deciding.world import Decision, Reason, Stock, Waiting, World
from driver.core.fencing import Authority
from driver.model.claims import Allocation
from driver.model.errors import InvalidInput
from driver.model.wanted import Claim
from driver.model.workloads import ClusterNode, Workload

_FIRST_FIT: Final = "first fit, it may prefer another node"
_BEST_FIT: Final = "best fit"


class State(Enum):
    """Where a claim stands."""

    ALLOCATED = "Allocated"
    WOULD_BE_ALLOCATED = "WouldBeAllocated"
    WAITING = "Waiting"


@dataclass(frozen=True, slots=True)
class Answer:
    """What becomes of one claim."""

    claim: Claim
    state: State
    message: str
    """One sentence, without the name of the claim."""
    by: Authority | None = None
    """Who allocates it; None if it is allocated already."""
    reason: str = ""
    """Of a claim that waits: one word, as its Event has it."""
    node: str = ""
    """Where it would be allocated."""
    allocation: Allocation | None = None
    pod: Workload | None = None
    """The pod that waits for it, if there is one."""
    common: Mapping[str, str] = field(default_factory=dict)
    """What its devices have in common, see `common_traits`."""
    left: Mapping[str, str] = field(default_factory=dict)
    """What is left of devices of which it has shares, see `remainders`."""
    refusals: tuple[str, ...] = ()
    """Why its node prepares it for no pod, as far as the configuration tells, see `foreseeing`."""


@dataclass(frozen=True, slots=True)
class Found:
    """What kube-scheduler would do with the claims of a pod."""

    node: str
    allocations: tuple[Allocation, ...]


@dataclass(frozen=True, slots=True)
class Cluster:
    """One look at a cluster."""

    world: World
    snapshot: Snapshot
    """All devices, as kube-scheduler sees them."""
    stock: Stock
    """The devices of our controller, as in a round; it holds what the answers grant afterwards."""


def answer(cluster: Cluster, claims: Sequence[Claim], ask: Ask) -> list[Answer]:
    """Return the answer for each of these claims of the world, in order.

    The others are looked at as far as they are served before them, or hold devices.
    """
    world = cluster.world
    decision = rounds.decide(world, cluster.stock, Memory(Patience()), ask, 0.0)
    about = {claim.metadata.uid for claim in claims}
    found = dict(_answer_allocated(claims))
    found.update(_answer_granted(decision))
    found.update(_answer_waiting(cluster, [each for each in decision.waiting if each.claim.metadata.uid in about]))
    found.update(_answer_foreign(cluster, about, decision.foreign))
    consumers = demands.find_consumers(world)
    for claim in claims:
        if claim.metadata.uid not in found:
            found[claim.metadata.uid] = _answer_idle(claim, consumers.get(demands.key(claim), ()))
    return [_complete(found[claim.metadata.uid], cluster.snapshot) for claim in claims]


def _complete(given: Answer, snapshot: Snapshot) -> Answer:
    if given.allocation is None:
        return given
    attributes = common_traits.list_attributes(given.allocation, snapshot.slices)
    left = remainders.find_left(given.allocation, snapshot, is_counted=given.state is State.ALLOCATED)
    return replace(given, common=common_traits.find_common(attributes), left=left)


def find_first_fit(world: World, snapshot: Snapshot, pod: Workload, claims: Sequence[Claim]) -> Found | str:
    """Return what kube-scheduler would give these claims of a pod, or in one sentence why it gives nothing."""
    obstacles: list[str] = []
    refusing: list[ClusterNode] = []
    for node in _in_order(world):
        obstacle = placing.find_obstacle(_need(world, pod), node, world.loads.get(node.metadata.name, Load()))
        if obstacle:
            obstacles.append(obstacle)
            continue
        try:
            outcome = allocator.allocate(snapshot, _view(node), claims)
        except InvalidClaim as error:
            return allocator.explain(snapshot, [_view(node)], claims).text or str(error)
        except InvalidInput as error:
            return str(error)
        if isinstance(outcome, Allocated):
            return Found(node.metadata.name, outcome.allocations)
        refusing.append(node)
    return _explain(snapshot, claims, refusing, obstacles)


def describe_devices(allocation: Allocation) -> str:
    """Return what an allocation gives, by request: `gpus: gpu-… and gpu-… of node-a`, or `nothing`.

    Of a share it also says how much it has: `gpu-… (memory 20Gi, share 25)`.
    """
    by_request: dict[str, dict[str, list[str]]] = {}
    for result in allocation.devices.results:
        share = remainders.describe_share(result)
        name = f"{result.device} ({share})" if share else result.device
        by_request.setdefault(result.request, {}).setdefault(result.pool, []).append(name)
    parts = (
        f"{request}: " + ", ".join(f"{_join(devices)} of {pool}" for pool, devices in pools.items())
        for request, pools in by_request.items()
    )
    return "; ".join(parts) or "nothing"


def _join(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def _view(node: ClusterNode) -> NodeView:
    return NodeView(node.metadata.name, node.metadata.labels)


def _in_order(world: World) -> list[ClusterNode]:
    return [world.nodes[name] for name in sorted(world.nodes)]


def _need(world: World, pod: Workload) -> Needs:
    served = frozenset(each.spec.extended_resource_name for each in world.classes.values())
    others = tuple(each.status.allocation for each in demands.claims_of(pod, world)[0] if each.status.allocation)
    return Needs(pod, placing.leave_out(loads.add_up(pod)), others, served - {""})


def _answer_allocated(claims: Sequence[Claim]) -> Iterator[tuple[str, Answer]]:
    for claim in claims:
        allocation = claim.status.allocation
        if allocation is not None:
            users = [each.name for each in claim.status.reserved_for]
            used = f"used by {', '.join(users)}" if users else "nobody uses it now"
            message = f"has {describe_devices(allocation)}; {used}"
            node = _name_node(allocation)
            yield claim.metadata.uid, Answer(claim, State.ALLOCATED, message, node=node, allocation=allocation)


def _name_node(allocation: Allocation) -> str:
    names = placing.name_nodes([allocation]) or frozenset()
    return next(iter(names)) if len(names) == 1 else ""


def _answer_granted(decision: Decision) -> Iterator[tuple[str, Answer]]:
    for bundle in decision.bundles:
        for grant in bundle.grants:
            found = Found(grant.node, (grant.allocation,))
            yield grant.claim.metadata.uid, _would_get(grant.claim, found, 0, Authority.CONTROLLER, grant.pod)


def _would_get(claim: Claim, found: Found, position: int, by: Authority, pod: Workload | None) -> Answer:
    allocation = found.allocations[position]
    how = _BEST_FIT if by is Authority.CONTROLLER else _FIRST_FIT
    message = f"would get {describe_devices(allocation)} on node {found.node} from {by.spoken} ({how})"
    return Answer(claim, State.WOULD_BE_ALLOCATED, message, by, node=found.node, allocation=allocation, pod=pod)


def _answer_waiting(cluster: Cluster, waits: Sequence[Waiting]) -> Iterator[tuple[str, Answer]]:
    """Answer for claims that our controller would not allocate; kube-scheduler may, where pools are its own."""
    for waiting in waits:
        claim, pod = waiting.claim, waiting.pod
        if waiting.reason is Reason.NO_DEVICES and pod is not None and not pod.spec.scheduling_gates:
            found = find_first_fit(cluster.world, cluster.snapshot, pod, [claim])
            if isinstance(found, Found):
                answer = _would_get(claim, found, 0, Authority.SCHEDULER, pod)
                message = f"{answer.message}, which does not look at its AllocationPolicy"
                yield (
                    claim.metadata.uid,
                    Answer(
                        claim, answer.state, message, answer.by, node=answer.node, allocation=answer.allocation, pod=pod
                    ),
                )
                continue
        yield claim.metadata.uid, _wait(claim, waiting.reason, waiting.text, Authority.CONTROLLER, pod)


def _wait(claim: Claim, reason: Reason, message: str, by: Authority | None, pod: Workload | None) -> Answer:
    return Answer(claim, State.WAITING, message, by, reason=reason.value, pod=pod)


def _answer_foreign(
    cluster: Cluster, about: AbstractSet[str], foreign: Iterable[tuple[Claim, Workload]]
) -> Iterator[tuple[str, Answer]]:
    """Answer for the claims that nobody but kube-scheduler allocates, those of one pod together."""
    by_pod: dict[str, tuple[Workload, list[Claim]]] = {}
    for claim, pod in foreign:
        by_pod.setdefault(pod.metadata.uid, (pod, []))[1].append(claim)
    for pod, claims in by_pod.values():
        if about.isdisjoint(claim.metadata.uid for claim in claims):
            continue
        missing = demands.claims_of(pod, cluster.world)[1]
        found = find_first_fit(cluster.world, cluster.snapshot, pod, claims)
        for position, claim in enumerate(claims):
            if missing:
                text = f"waiting for pod {pod.metadata.name}, which waits for {missing}"
                yield claim.metadata.uid, _wait(claim, Reason.NO_CONSUMER, text, Authority.SCHEDULER, pod)
            elif isinstance(found, str):
                yield claim.metadata.uid, _wait(claim, Reason.NO_DEVICES, found, Authority.SCHEDULER, pod)
            else:
                yield claim.metadata.uid, _would_get(claim, found, position, Authority.SCHEDULER, pod)


def _answer_idle(claim: Claim, consumers: Sequence[Workload]) -> Answer:
    """Answer for claims that kube-scheduler does not look at yet."""
    if claim.metadata.deletion_timestamp:
        return _wait(claim, Reason.NO_CONSUMER, "it is being deleted", None, None)
    if consumers:
        gates = ", ".join(gate.name for gate in consumers[0].spec.scheduling_gates)
        text = f"waiting for pod {consumers[0].metadata.name}, which has scheduling gates: {gates}"
        return _wait(claim, Reason.NO_CONSUMER, text, Authority.SCHEDULER, consumers[0])
    text = "waiting for a pod that uses the claim: kube-scheduler allocates it for one"
    return _wait(claim, Reason.NO_CONSUMER, text, Authority.SCHEDULER, None)


def _explain(
    snapshot: Snapshot, claims: Sequence[Claim], refusing: Sequence[ClusterNode], obstacles: Sequence[str]
) -> str:
    """Say why no node has the devices, and what kept the pod from nodes that were not even asked."""
    why = allocator.explain(snapshot, [_view(node) for node in refusing], claims).text if refusing else ""
    return "; ".join(filter(None, (why, placing.summarize(obstacles)))) or "there are no nodes"
