"""What pods ask of a node beside devices, and how much of each node is taken.

Called by the controller's cache, which keeps one `Loads`, and by `placement`. Requests are added up as kube-scheduler
does (k8s.io/component-helpers/resource, PodRequests): the larger of all containers together and of each init container
at its turn, sidecars counted in both, then what the pod as a whole asks for, then its overhead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from driver.model import quantities
from driver.model.errors import InvalidInput
from driver.model.quantities import Quantity
from driver.model.workloads import PodContainer, ResourceRequirements, Workload

PODS: Final = "pods"
"""The resource of which every pod takes one."""
Requests = Mapping[str, int]
"""Amounts in units of 10^-9, by resource."""


def add_up(pod: Workload) -> dict[str, int]:
    """Return what a pod asks of its node, without the pod itself."""
    sidecars: dict[str, int] = {}
    most: dict[str, int] = {}
    for container in pod.spec.init_containers:
        own = _read(container.resources)
        if container.restart_policy == "Always":
            _add(sidecars, own)
            _raise_to(most, sidecars)
        else:
            _raise_to(most, _sum((sidecars, own)))
    total = _sum((sidecars, *(_read(container.resources) for container in pod.spec.containers)))
    _raise_to(total, most)
    total.update(_read(pod.spec.resources))
    _add(total, dict(_parse_all(pod.spec.overhead)))
    return total


def collapse(pod: Workload) -> tuple[PodContainer, ...]:
    """Return one container that asks for what the whole pod asks for: all that has to be kept of a placed pod."""
    asked = add_up(pod).items()
    total: dict[str, str | int | float] = {name: str(Quantity(amount)) for name, amount in asked if amount}
    return (PodContainer(resources=ResourceRequirements(requests=total)),) if total else ()


@dataclass(frozen=True, slots=True)
class Load:
    """What pods take of one node."""

    taken: Requests = field(default_factory=dict)
    pods: int = 0

    def plus(self, requests: Requests, *, times: int = 1) -> Load:
        """Return it with one more pod, or with `times=-1` with one less."""
        taken = dict(self.taken)
        for name, amount in requests.items():
            taken[name] = taken.get(name, 0) + times * amount
        return Load({name: amount for name, amount in taken.items() if amount}, self.pods + times)


class Loads:
    """The loads of all nodes. One writer; `view` is what others read."""

    def __init__(self) -> None:
        self._pods: dict[str, tuple[str, Requests]] = {}
        self._nodes: dict[str, Load] = {}

    def put(self, pod: Workload) -> None:
        """Take in the newest state of a pod; one that is placed nowhere or done takes nothing."""
        self.remove(pod)
        node = pod.spec.node_name
        if node and not pod.is_done:
            requests = add_up(pod)
            self._pods[pod.metadata.uid] = node, requests
            self._nodes[node] = self._nodes.get(node, Load()).plus(requests)

    def remove(self, pod: Workload) -> None:
        """Forget a pod."""
        node, requests = self._pods.pop(pod.metadata.uid, ("", {}))
        if node:
            left = self._nodes[node].plus(requests, times=-1)
            if left.pods:
                self._nodes[node] = left
            else:
                del self._nodes[node]

    def view(self) -> dict[str, Load]:
        """Return the loads by node; nodes without pods are missing."""
        return dict(self._nodes)


def _read(resources: ResourceRequirements) -> dict[str, int]:
    return dict(_parse_all(resources.requests))


def _parse_all(amounts: Mapping[str, str | int | float]) -> Iterator[tuple[str, int]]:
    """Yield the amounts; one that cannot be read asks for nothing (the API server lets none pass)."""
    for name, text in amounts.items():
        try:
            yield name, quantities.parse(str(text)).nanos
        except InvalidInput:
            continue


def _sum(parts: Iterable[Requests]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        _add(total, part)
    return total


def _add(total: dict[str, int], more: Requests) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount


def _raise_to(total: dict[str, int], least: Requests) -> None:
    for name, amount in least.items():
        total[name] = max(total.get(name, 0), amount)
