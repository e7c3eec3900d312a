"""Claims of pods on one node: prepared before a pod's sandbox is made, unprepared after its containers ended.

Called by the pod worker. Follows pkg/kubelet/cm/dra/manager.go step by step: validation without changes, then the
cache and its checkpoint, then one call a driver with all claims that are not prepared, then the checkpoint again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from driver.model.errors import DriverError
from driver.model.prepared import ClaimRef
from driver.simulation.access import CLAIMS, Objects
from driver.simulation.kubelet import checkpoint
from driver.simulation.kubelet.checkpoint import ClaimInfo
from driver.simulation.kubelet.health import Users
from driver.simulation.kubelet.plugins import Plugin, Plugins
from driver.simulation.kubelet.timings import Timings
from driver.simulation.kubelet.wire import CallError, Device, Prepared
from driver.simulation.objects import Container, Pod
from driver.simulation.resources import Claim


class PrepareError(Exception):
    """Claims of a pod could not be prepared or unprepared (now); the text is the kubelet's."""


class Claims:
    """All claims that this kubelet knows. Safe for several threads."""

    def __init__(self, folder: Path, objects: Objects, plugins: Plugins, timings: Timings) -> None:
        """Remember what an earlier kubelet wrote into `folder`. Raises `Corrupt`."""
        self._folder = folder
        self._objects = objects
        self._plugins = plugins
        self._timings = timings
        self._lock = threading.Lock()
        self._infos = {(info.claim.namespace, info.claim.name): info for info in checkpoint.read(folder)}

    def prepare(self, pod: Pod) -> None:
        """Prepare all claims of a pod. Raises `PrepareError`."""
        try:
            claims = self._validate(pod)
        except DriverError as error:
            raise PrepareError(f"prepare dynamic resources: {error}") from error
        batches = self._admit(pod, claims)
        for driver, batch in batches.items():
            self._prepare_batch(driver, batch)
        with self._lock:
            for claim in claims:
                self._infos[claim.key].prepared = True
            self._write()

    def _validate(self, pod: Pod) -> list[Claim]:
        claims: dict[str, Claim] = {}
        for name in self._claim_names(pod):
            claim = self._objects.get(CLAIMS, name, pod.metadata.namespace)
            _check_claim(pod, claim)
            for driver in _drivers(claim):
                self._find_plugin(driver)
            claims[claim.metadata.uid] = claim
        return list(claims.values())

    @staticmethod
    def _claim_names(pod: Pod) -> list[str]:
        names: list[str] = []
        for entry in pod.spec.resource_claims:
            name = pod.claim_name(entry)
            if name is None:
                raise PrepareError(
                    f"prepare dynamic resources: pod claim name {entry.name!r} of pod {pod}: "
                    "ResourceClaim not created yet"
                )
            names.append(name)
        special = pod.status.extended_resource_claim_status
        return names if special is None else [*names, special.resource_claim_name]

    def _find_plugin(self, driver: str) -> Plugin:
        plugin = self._plugins.find(driver)
        if plugin is None:
            raise PrepareError(f"prepare dynamic resources: DRA driver {driver} is not registered")
        return plugin

    def _admit(self, pod: Pod, claims: Sequence[Claim]) -> dict[str, list[ClaimInfo]]:
        """Note that the pod uses the claims; return those that are not prepared, by driver."""
        batches: dict[str, list[ClaimInfo]] = {}
        with self._lock:
            for claim in claims:
                info = self._infos.get(claim.key)
                if info is not None and info.claim.uid != claim.metadata.uid:
                    raise PrepareError(
                        f"prepare dynamic resources: old ResourceClaim with same name {claim.metadata.name} and "
                        f"different UID {info.claim.uid} still exists (previous pod force-deleted?!)"
                    )
                if info is None:
                    info = self._infos[claim.key] = ClaimInfo(ClaimRef(*claim.key, claim.metadata.uid))
                info.pod_uids.add(pod.metadata.uid)
                if not info.prepared:
                    for driver in _drivers(claim):
                        info.drivers.setdefault(driver, [])
                        batches.setdefault(driver, []).append(info)
            self._write()
        return batches

    def _prepare_batch(self, driver: str, batch: list[ClaimInfo]) -> None:
        connection = self._find_plugin(driver).connection
        try:
            answers = connection.prepare([info.claim for info in batch], self._timings.call_limit)
        except CallError as error:
            raise PrepareError(f"NodePrepareResources: {error}") from error
        by_uid = {info.claim.uid: info for info in batch}
        for uid, answer in answers.items():
            self._take_answer(driver, uid, by_uid.get(uid), answer)
        skipped = len(by_uid) - len(answers)
        if skipped:
            raise PrepareError(f"NodePrepareResources skipped {skipped} ResourceClaims")

    def _take_answer(self, driver: str, uid: str, info: ClaimInfo | None, answer: Prepared) -> None:
        if info is None:
            raise PrepareError(f"NodePrepareResources returned result for unknown claim UID {uid}")
        if answer.error:
            raise PrepareError(f"NodePrepareResources failed for ResourceClaim {info.claim.name}: {answer.error}")
        with self._lock:
            # Appended, not replaced, as the real one does: what is prepared twice is listed twice.
            info.drivers[driver].extend(answer.devices)

    def devices(self, pod: Pod, container: Container) -> list[Device]:
        """Return the devices that a container references, in order, of prepared claims only."""
        wanted = [
            (name, reference.request)
            for reference in container.resources.claims
            for entry in pod.spec.resource_claims
            if entry.name == reference.name and (name := pod.claim_name(entry))
        ]
        special = pod.status.extended_resource_claim_status
        if special is not None:
            mappings = [each for each in special.request_mappings if each.container_name == container.name]
            wanted += [(special.resource_claim_name, each.request_name) for each in mappings]
        with self._lock:
            return [
                device
                for name, request in wanted
                for devices in self._infos[pod.metadata.namespace, name].drivers.values()
                for device in devices
                if not request or not device.request_names or request in device.request_names
            ]

    def users(self, pod: Pod, container: Container) -> Users:
        """Return what a container references, as `allocatedResourcesStatus` names it, and the devices behind it."""
        references = [
            (reference, name)
            for reference in container.resources.claims
            for entry in pod.spec.resource_claims
            if entry.name == reference.name and (name := pod.claim_name(entry))
        ]
        with self._lock:
            return [
                (
                    f"claim:{reference.name}/{reference.request}" if reference.request else f"claim:{reference.name}",
                    _choose(self._infos.get((pod.metadata.namespace, name)), reference.request),
                )
                for reference, name in references
            ]

    def unprepare(self, pod_uid: str) -> None:
        """Drop a pod's use of its claims and unprepare those that nobody else uses. Raises `PrepareError`."""
        batches: dict[str, list[ClaimInfo]] = {}
        with self._lock:
            used = [info for info in self._infos.values() if pod_uid in info.pod_uids]
            for info in used:
                if len(info.pod_uids) > 1:
                    info.pod_uids.discard(pod_uid)
                    continue
                info.prepared = False
                for driver in info.drivers:
                    batches.setdefault(driver, []).append(info)
            self._write()
        for driver, batch in batches.items():
            self._unprepare_batch(driver, batch)
        with self._lock:
            self._infos = {key: info for key, info in self._infos.items() if info.pod_uids != {pod_uid}}
            self._write()

    def _unprepare_batch(self, driver: str, batch: list[ClaimInfo]) -> None:
        plugin = self._plugins.find(driver)
        if plugin is None:
            raise PrepareError(f"unprepare dynamic resources: DRA driver {driver} is not registered")
        try:
            errors = plugin.connection.unprepare([info.claim for info in batch], self._timings.call_limit)
        except CallError as error:
            raise PrepareError(f"NodeUnprepareResources: {error}") from error
        names = {info.claim.uid: info.claim.name for info in batch}
        for uid, error_text in errors.items():
            if uid not in names:
                raise PrepareError(f"NodeUnprepareResources returned result for unknown claim UID {uid}")
            if error_text:
                raise PrepareError(f"NodeUnprepareResources failed for ResourceClaim {names[uid]}: {error_text}")
        if len(errors) < len(names):
            raise PrepareError(f"NodeUnprepareResources skipped {len(names) - len(errors)} ResourceClaims")

    def pod_uids(self) -> set[str]:
        """Return the UIDs of all pods that use claims."""
        with self._lock:
            return {uid for info in self._infos.values() for uid in info.pod_uids}

    def list_infos(self) -> list[ClaimInfo]:
        """Return what is known, for tests."""
        with self._lock:
            return list(self._infos.values())

    def _write(self) -> None:
        checkpoint.write(self._folder, list(self._infos.values()))


def _check_claim(pod: Pod, claim: Claim) -> None:
    name = f"{claim.metadata.name}({claim.metadata.uid})"
    if claim.owner and claim.owner != pod.metadata.uid:
        raise PrepareError(
            f"prepare dynamic resources: ResourceClaim {claim} was not created for pod {pod} (pod is not owner)"
        )
    if not claim.is_reserved_for(pod.metadata.uid):
        raise PrepareError(
            f"prepare dynamic resources: pod {pod.metadata.name}({pod.metadata.uid}) is not allowed to use "
            f"ResourceClaim {name}"
        )
    if claim.status.allocation is None:
        raise PrepareError(f"prepare dynamic resources: ResourceClaim {name} is not allocated")


def _choose(info: ClaimInfo | None, request: str) -> list[tuple[str, Device]]:
    """Return the devices of a claim that are for a request, with their drivers; no request means all."""
    return [
        (driver, device)
        for driver, devices in (info.drivers.items() if info else ())
        for device in devices
        if not request or not device.request_names or request in device.request_names
    ]


def _drivers(claim: Claim) -> Iterable[str]:
    results = claim.status.allocation.devices.results if claim.status.allocation else ()
    return dict.fromkeys(result.driver for result in results)
