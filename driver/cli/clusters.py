"""One look at a cluster for commands that answer from it: with read rights only, from a laptop or in a pod.

Called by `explain`. Nothing is cached and nothing is written.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol, TypeVar

from driver.core import extended, soundness
from driver.core.allocator import Snapshot
from driver.core.deciding.loads import Loads
from driver.core.deciding.world import World
from driver.core.drafting import Draft
from driver.kube import access, listing, replies
from driver.kube.access import Access
from driver.kube.client import Client
from driver.model.errors import Forbidden, InvalidInput, NotFound
from driver.model.objects import ObjectMeta
from driver.model.published import PublishedSlice
from driver.model.requests import DeviceClass, ResourceClaimTemplate
from driver.model.wanted import Claim
from driver.model.workloads import ClusterNode, Workload

RESOURCE: Final = "/apis/resource.k8s.io/v1"


class _Object(Protocol):
    @property
    def metadata(self) -> ObjectMeta:
        """Its metadata."""


_T = TypeVar("_T", bound=_Object)


@dataclass(frozen=True, slots=True)
class Look:
    """Everything that decides who gets which device, at one moment."""

    world: World
    slices: tuple[PublishedSlice, ...]

    @property
    def snapshot(self) -> Snapshot:
        """The same as the allocator sees it."""
        return Snapshot(self.slices, self.world.classes, tuple(self.world.claims.values()))


def find_access(kubeconfig: str, environment: Mapping[str, str]) -> Access:
    """Return the access that kubectl would use here: the file given, $KUBECONFIG, ~/.kube/config, or the pod's own.

    Raises `InvalidInput` if there is none.
    """
    if kubeconfig:
        return access.load(kubeconfig, environment)
    named = environment.get("KUBECONFIG", "").split(os.pathsep)[0]
    if named:
        return access.load(named, environment)
    usual = Path(environment.get("HOME", "/")) / ".kube" / "config"
    if usual.is_file():
        return access.load(str(usual), environment)
    try:
        return access.in_cluster(environment)
    except InvalidInput as error:
        raise InvalidInput("kubeconfig", "", f"a file given with --kubeconfig or in $KUBECONFIG, or {usual}") from error


def look(client: Client) -> Look:
    """Read the cluster. Raises like `Client.get`; `Forbidden` names the right that is missing."""
    pods = _fetch(client, "/api/v1/pods", Workload)
    concerned = (pod for pod in pods if pod.spec.resource_claims or extended.may_ask(pod))
    loads = Loads()
    for pod in pods:
        loads.put(pod)
    world = World(
        claims=_index(_fetch(client, f"{RESOURCE}/resourceclaims", Claim)),
        pods=_index(concerned),
        nodes=_index(_fetch(client, "/api/v1/nodes", ClusterNode)),
        classes=_index(_fetch(client, f"{RESOURCE}/deviceclasses", DeviceClass)),
        loads=loads.view(),
    )
    slices = _fetch(client, f"{RESOURCE}/resourceslices", PublishedSlice)
    return Look(world, tuple(each for each in slices if _is_sound(each)))


def fetch_templates(client: Client, names: Iterable[tuple[str, str]]) -> tuple[ResourceClaimTemplate, ...]:
    """Return templates that the cluster has, by namespace and name. Raises like `Client.get`."""
    return tuple(
        listing.fetch(client, f"{RESOURCE}/namespaces/{namespace}/resourceclaimtemplates/{name}", ResourceClaimTemplate)
        for namespace, name in sorted(names)
    )


def add(seen: Look, draft: Draft) -> Look:
    """Return the cluster as it would be with what a file creates; an object of the same name is replaced by it."""
    world = replace(
        seen.world,
        claims={**seen.world.claims, **_index(draft.claims)},
        pods={**seen.world.pods, **_index(draft.pods)},
        classes={**seen.world.classes, **_index(draft.classes)},
    )
    return Look(world, seen.slices)


def _fetch(client: Client, path: str, kind: type[_T]) -> tuple[_T, ...]:
    try:
        return listing.fetch_all(client, path, kind)
    except Forbidden as error:
        resource = path.rpartition("/")[2]
        raise Forbidden(f"{error}; this command needs to list {resource} of the whole cluster") from error
    except NotFound as error:
        raise replies.name_missing_api(error) from error


def _is_sound(published: PublishedSlice) -> bool:
    try:
        soundness.check(published)
    except InvalidInput:
        return False
    return True


def _index(objects: Iterable[_T]) -> dict[str, _T]:
    return {"/".join(filter(None, (each.metadata.namespace, each.metadata.name))): each for each in objects}
