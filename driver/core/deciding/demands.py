"""Which claims are to be allocated now, and together with which; and why the others wait.

Called once a round. A claim is wanted by its first consumer: of the pods that may run, the one with the highest
priority, then the oldest. All claims of a pod that ask for our controller are one member, and members are units of
their own unless a group holds them together (`grouping`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from driver.core import extended
from driver.core.deciding.world import Member, Reason, Waiting, World
from driver.model.errors import InvalidInput, Rejected
from driver.model.policies import GROUP_LABEL, Policy, When
from driver.model.wanted import Claim
from driver.model.workloads import Workload

Ask = Callable[[Claim], Policy | None]
"""Returns the policy of a claim that asks for our controller.

Raises `InvalidInput` if it does so wrongly, `Rejected` if the API server lately refused to change the claim.
"""


@dataclass(frozen=True, slots=True)
class Demands:
    """All claims without devices, sorted out."""

    members: tuple[Member, ...]
    waiting: tuple[Waiting, ...]
    foreign: tuple[tuple[Claim, Workload], ...]
    """Claims that kube-scheduler allocates, each with the pod that waits for it."""
    idle: tuple[Waiting, ...] = ()
    """Claims that kube-scheduler would allocate if a pod that may run used them."""


@dataclass(slots=True)
class _Sorting:
    """The claims of one round while they are sorted."""

    policies: dict[str, Policy] = field(default_factory=dict)
    """Of the claims that can be allocated as far as they themselves are concerned, by UID."""
    waiting: dict[str, Waiting] = field(default_factory=dict)
    foreign: list[tuple[Claim, Workload]] = field(default_factory=list)
    idle: list[Waiting] = field(default_factory=list)


def find(world: World, ask: Ask, consumers: Mapping[str, tuple[Workload, ...]]) -> Demands:
    """Sort out all claims that are not allocated. `consumers` as `find_consumers` returns them."""
    sorting = _Sorting()
    open_claims = [each for each in world.claims.values() if _is_open(each)]
    for claim in open_claims:
        _sort(claim, consumers.get(key(claim), ()), ask, sorting)
    sorting.foreign += imagine_claims(world)
    members = _make_members(world, open_claims, consumers, sorting)
    return Demands(tuple(members), tuple(sorting.waiting.values()), tuple(sorting.foreign), tuple(sorting.idle))


def imagine_claims(world: World) -> Iterator[tuple[Claim, Workload]]:
    """Yield the claims of pods that wait for extended resources: kube-scheduler makes them when it has found a node."""
    pods = [pod for pod in world.pods.values() if extended.may_ask(pod)]
    if not pods:
        return
    classes = extended.map_resources(world.classes.values())
    had = {name for node in world.nodes.values() for name in classes.keys() & node.status.allocatable.keys()}
    for pod in pods:
        if not pod.spec.scheduling_gates and not pod.metadata.deletion_timestamp:
            claim = extended.imagine_claim(pod, classes, had)
            if claim is not None:
                yield claim, pod


def find_consumers(world: World) -> Mapping[str, tuple[Workload, ...]]:
    """Return the pods that want each claim and may run, the first in line first."""
    found: dict[str, list[Workload]] = {}
    for pod in world.pods.values():
        if not pod.is_done and not pod.metadata.deletion_timestamp:
            for claim in claims_of(pod, world)[0]:
                found.setdefault(key(claim), []).append(pod)
    return {name: tuple(sorted(pods, key=_rank)) for name, pods in found.items()}


def claims_of(pod: Workload, world: World) -> tuple[list[Claim], str]:
    """Return the claims of a pod that exist, and what is missing: empty if nothing is."""
    found: list[Claim] = []
    missing = ""
    generated = {each.name: each.resource_claim_name for each in pod.status.resource_claim_statuses}
    for entry in pod.spec.resource_claims:
        name = pod.claim_name(entry)
        if name is None:
            missing = missing or ("" if entry.name in generated else f"the claim for its entry {entry.name}")
            continue
        claim = world.claims.get(f"{pod.metadata.namespace}/{name}")
        if claim is None or (claim.owner and claim.owner != pod.metadata.uid):
            missing = missing or f"claim {name}"
        else:
            found.append(claim)
    return list({each.metadata.uid: each for each in found}.values()), missing


def key(claim: Claim) -> str:
    """Return the key of a claim in `World.claims`."""
    return f"{claim.metadata.namespace}/{claim.metadata.name}"


def group_of(claim: Claim, policy: Policy) -> str:
    """Return the name of the group that a claim belongs to, or nothing."""
    return claim.metadata.labels.get(GROUP_LABEL, "") if policy.group else ""


def _rank(pod: Workload) -> tuple[int, str, str]:
    meta = pod.metadata
    return -pod.spec.priority, meta.creation_timestamp or "", meta.name


def _is_open(claim: Claim) -> bool:
    return claim.status.allocation is None and not claim.metadata.deletion_timestamp


def _sort(claim: Claim, consumers: Sequence[Workload], ask: Ask, sorting: _Sorting) -> None:
    """Find out what a claim waits for, looking at nothing but itself and its consumers."""
    uid = claim.metadata.uid
    ready = [pod for pod in consumers if not pod.spec.scheduling_gates]
    try:
        policy = _ask(claim, ask)
    except InvalidInput as error:
        reason = Reason.REFUSED if isinstance(error, Rejected) else Reason.INVALID_POLICY
        sorting.waiting[uid] = Waiting(claim, reason, str(error), _first(consumers))
        return
    if policy is None:
        sorting.foreign.extend((claim, pod) for pod in ready[:1])
        if not ready:
            sorting.idle.append(_wait_for_consumer(claim, consumers))
    elif not ready and policy.when is When.FIRST_CONSUMER:
        sorting.waiting[uid] = _wait_for_consumer(claim, consumers)
    else:
        sorting.policies[uid] = policy


def _ask(claim: Claim, ask: Ask) -> Policy | None:
    policy = ask(claim)
    if policy is not None and policy.group and not group_of(claim, policy):
        raise InvalidInput(f"label {GROUP_LABEL}", "", "the name of the group, because the policy asks for one")
    return policy


def _wait_for_consumer(claim: Claim, consumers: Sequence[Workload]) -> Waiting:
    return Waiting(claim, Reason.NO_CONSUMER, _describe_waiting(consumers), _first(consumers))


def _describe_waiting(consumers: Sequence[Workload]) -> str:
    if not consumers:
        return "waiting for a pod that uses the claim"
    gates = ", ".join(gate.name for gate in consumers[0].spec.scheduling_gates)
    return f"waiting for pod {consumers[0].metadata.name}, which has scheduling gates: {gates}"


def _first(pods: Sequence[Workload]) -> Workload | None:
    return pods[0] if pods else None


def _make_members(
    world: World, claims: Iterable[Claim], consumers: Mapping[str, tuple[Workload, ...]], sorting: _Sorting
) -> list[Member]:
    """Put the claims of each pod together; a pod of which one claim cannot be had gets none."""
    members: list[Member] = []
    by_pod: dict[str, tuple[Workload, list[Claim]]] = {}
    for claim in claims:
        if claim.metadata.uid not in sorting.policies:
            continue
        ready = [pod for pod in consumers.get(key(claim), ()) if not pod.spec.scheduling_gates]
        if ready:
            by_pod.setdefault(ready[0].metadata.uid, (ready[0], []))[1].append(claim)
        else:
            members.append(Member((claim,), (sorting.policies[claim.metadata.uid],)))
    for pod, own in by_pod.values():
        obstacle = _find_obstacle(world, pod, own, sorting)
        if obstacle is None:
            members.append(_make_member(world, pod, own, sorting))
        for claim in own if obstacle is not None else ():
            reason, message = obstacle or (Reason.NO_CONSUMER, "")
            sorting.waiting[claim.metadata.uid] = Waiting(claim, reason, message, pod)
    return members


def _make_member(world: World, pod: Workload, own: Sequence[Claim], sorting: _Sorting) -> Member:
    others = tuple(each for each in claims_of(pod, world)[0] if each.status.allocation is not None)
    return Member(tuple(own), tuple(sorting.policies[each.metadata.uid] for each in own), pod, others)


def _find_obstacle(world: World, pod: Workload, own: Sequence[Claim], sorting: _Sorting) -> tuple[Reason, str] | None:
    """Say why a pod could not run even if these claims were allocated, as far as its other claims are concerned."""
    every, missing = claims_of(pod, world)
    leaving = [each.metadata.name for each in every if each.metadata.deletion_timestamp]
    if leaving and not pod.spec.node_name:
        missing = missing or f"claim {leaving[0]}, which is being deleted"
    if missing:
        return Reason.NO_CONSUMER, f"waiting for pod {pod.metadata.name}, which waits for {missing}"
    ours = {each.metadata.uid for each in own}
    for claim in every:
        uid = claim.metadata.uid
        if uid in sorting.waiting:
            waiting = sorting.waiting[uid]
            return waiting.reason, f"claim {claim.metadata.name} of the same pod: {waiting.text}"
        if uid in sorting.policies and uid not in ours and not claim.status.allocation:
            return Reason.NO_CONSUMER, f"claim {claim.metadata.name} of the same pod is allocated for another pod first"
    return None
