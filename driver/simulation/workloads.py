"""Example workloads on the embedded cluster: run one, look at what it got and why, judge it. For demo and tests.

What an example must lead to is written in `promises`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from driver.core import common_traits, remainders
from driver.core.configuring.documents import ALLOCATION_POLICY, GPU_CONFIG, PARTITION_CONFIG
from driver.model.published import PublishedDevice
from driver.model.requests import Constraint, DeviceRequest, Request
from driver.simulation import manifests
from driver.simulation.access import CLAIMS, CLASSES, EVENTS
from driver.simulation.cluster import Cluster
from driver.simulation.objects import Pod
from driver.simulation.promises import CHECKS
from driver.simulation.reports import Got, Report, View, show
from driver.simulation.resources import Claim

TIMEOUT: Final = 30.0
_PATIENCE: Final = 1.0
"""Seconds a pod that nobody can serve has to be unschedulable before that is taken for the answer."""
_HOPELESS: Final = ("unsatisfiable",)
"""Examples that are about waiting; a pod of another one may wait for the controller."""
_CONTROLLER: Final = "accel-dra.dev/controller"
"""Who writes Events about claims that wait."""


def run(cluster: Cluster, folder: Path, namespace: str) -> Report:
    """Create the objects of an example and wait until its pods run or cannot be scheduled."""
    documents = manifests.read(folder)
    manifests.apply(cluster.objects, documents, namespace)
    names = [str(_metadata(each)["name"]) for each in documents if each.get("kind") == "Pod"]
    started = time.monotonic()
    is_hopeless = folder.name in _HOPELESS

    def settle(name: str) -> Pod:
        patience = _PATIENCE if is_hopeless else TIMEOUT / 2
        return cluster.wait(lambda: _settled(cluster, name, namespace, started + patience), f"pod {name}", TIMEOUT)

    pods = [settle(name) for name in names]
    report = _describe(cluster, folder, pods, time.monotonic() - started)
    if is_hopeless:
        report = replace(report, explanation=_find_explanation(cluster, pods[0]))
    check = CHECKS.get(folder.name)
    return replace(report, problem=check(report) if check else "nothing is promised for this example")


def _metadata(document: Mapping[str, object]) -> Mapping[str, object]:
    metadata = document.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def _settled(cluster: Cluster, name: str, namespace: str, until: float) -> Pod | None:
    pod = cluster.pod(name, namespace)
    scheduled = pod.condition("PodScheduled")
    is_refused = scheduled is not None and scheduled.status == "False" and time.monotonic() > until
    return pod if pod.status.phase == "Running" or is_refused else None


def _describe(cluster: Cluster, folder: Path, pods: Sequence[Pod], seconds: float) -> Report:
    """Return what became of all pods; those that do not run come first."""
    views: list[View] = []
    reasons: list[str] = []
    for pod in pods:
        claims = _find_claims(cluster, pod)
        devices = {
            (each.spec.node_name, each.spec.driver, device.name): device
            for each in cluster.slices(pod.spec.node_name)
            for device in each.spec.devices
        }
        prefix = f"{pod.metadata.name}/" if len(pods) > 1 else ""
        views += (replace(view, name=f"{prefix}{view.name}") for view in _look(cluster, pod, claims, devices))
        reasons += (reason for claim in claims for reason in _explain(cluster, claim, devices))
    first = min(pods, key=lambda each: each.status.phase == "Running")
    scheduled = first.condition("PodScheduled")
    return Report(
        name=folder.name,
        title=(folder / "README.md").read_text().splitlines()[0].lstrip("# "),
        phase=first.status.phase or "Pending",
        seconds=seconds,
        message=scheduled.message if scheduled else "",
        views=tuple(views),
        reasons=tuple(dict.fromkeys(reasons)),
    )


def _find_explanation(cluster: Cluster, pod: Pod) -> str:
    """Wait for the Event that says why a claim of a pod waits, and return what it says."""
    names = {claim.metadata.name for claim in _find_claims(cluster, pod)}

    def look() -> str:
        items = json.loads(cluster.objects.client.get(EVENTS.path(pod.metadata.namespace)))["items"]
        told = (each for each in items if each["reportingComponent"] == _CONTROLLER)
        return next((str(each["message"]) for each in told if each["involvedObject"]["name"] in names), "")

    return cluster.wait(look, f"an Event about the claims of {pod.metadata.name}", TIMEOUT)


def _find_claims(cluster: Cluster, pod: Pod) -> list[Claim]:
    names = [pod.claim_name(entry) for entry in pod.spec.resource_claims]
    special = pod.status.extended_resource_claim_status
    names += [special.resource_claim_name] if special else []
    return [cluster.objects.get(CLAIMS, name, pod.metadata.namespace) for name in names if name]


Published = Mapping[tuple[str, str, str], PublishedDevice]
"""Devices by pool, driver and name."""


def _look(cluster: Cluster, pod: Pod, claims: list[Claim], devices: Published) -> tuple[View, ...]:
    sandbox = cluster.sandbox(pod)
    if sandbox is None:
        return ()
    results = {
        (result.pool, result.device, result.share_id): result
        for claim in claims
        if claim.status.allocation
        for result in claim.status.allocation.devices.results
    }
    views: list[View] = []
    for container in pod.spec.containers:
        prepared = cluster.nodes[pod.spec.node_name].kubelet.claims.devices(pod, container)
        got: dict[tuple[str, str, str | None], Got] = {}
        for each in prepared:
            key = (each.pool_name, each.device_name, each.share_id)
            result = results[key]
            device = devices[each.pool_name, result.driver, each.device_name]
            share = remainders.describe_share(result)
            got[key] = Got(result.request, each.pool_name, result.driver, device, share)
        views.append(View(container.name, tuple(got.values()), sandbox.containers[container.name].contents))
    return tuple(views)


def _explain(cluster: Cluster, claim: Claim, devices: Published) -> list[str]:
    results = claim.status.allocation.devices.results if claim.status.allocation else ()
    chosen = [result.request for result in results]
    reasons = [reason for each in claim.spec.devices.requests for reason in _explain_request(cluster, each, chosen)]
    reasons += [_explain_constraint(claim, each, devices) for each in claim.spec.devices.constraints]
    return reasons + _explain_sharing(claim) + _explain_policy(claim, devices)


def _explain_sharing(claim: Claim) -> list[str]:
    """Say what configuration asked for besides a policy."""
    texts = [json.loads(bytes(each.opaque.parameters)) for each in claim.spec.devices.config if each.opaque]
    asked = [text for text in texts if text.get("kind") in (GPU_CONFIG, PARTITION_CONFIG)]
    return [f"{text['kind']}: {_spell(text['sharing'])}" for text in asked]


def _explain_policy(claim: Claim, devices: Published) -> list[str]:
    """Say what an AllocationPolicy asked for, and what the devices have in common."""
    allocation = claim.status.allocation
    entries = allocation.devices.config if allocation else ()
    texts = [json.loads(bytes(each.opaque.parameters)) for each in entries if each.opaque]
    asked = next((text for text in reversed(texts) if text.get("kind") == ALLOCATION_POLICY), None)
    if asked is None or allocation is None:
        return []
    fields = ", ".join(f"{name} {_spell(value)}" for name, value in asked.items() if name not in ("apiVersion", "kind"))
    found = [devices[each.pool, each.driver, each.device].attributes for each in allocation.devices.results]
    common = common_traits.describe_common(common_traits.find_common(found))
    return [f"AllocationPolicy: {fields or 'defaults'}", *([f"in common: {common}"] if common else [])]


def _spell(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key} {_spell(each)}" for key, each in value.items())
    return str(value)


def _explain_request(cluster: Cluster, request: Request, chosen: list[str]) -> list[str]:
    if request.exactly is not None:
        return [_say(cluster, request.name, request.exactly)]
    lines: list[str] = []
    for sub in request.first_available:
        name = f"{request.name}/{sub.name}"
        verdict = "chosen" if name in chosen else "not available"
        lines.append(f"{_say(cluster, name, sub)}: {verdict}")
        if name in chosen:
            break
    return lines


def _say(cluster: Cluster, name: str, wanted: DeviceRequest) -> str:
    device_class = cluster.objects.get(CLASSES, wanted.device_class_name)
    count = "all" if wanted.allocation_mode == "All" else str(wanted.count)
    selectors = [each.cel.expression.strip() for each in wanted.selectors if each.cel]
    own = f" where {' and '.join(selectors)}" if selectors else ""
    asked = wanted.capacity.requests if wanted.capacity else {}
    amounts = ", ".join(f"{key.rpartition('/')[2]} {amount}" for key, amount in asked.items())
    return f"{name}: {count} of class {device_class.metadata.name}{own}{f' with {amounts}' if amounts else ''}"


def _explain_constraint(claim: Claim, constraint: Constraint, devices: Published) -> str:
    name = constraint.match_attribute or constraint.distinct_attribute
    word = "equal" if constraint.match_attribute else "distinct"
    results = claim.status.allocation.devices.results if claim.status.allocation else ()
    found = [devices[each.pool, each.driver, each.device].attributes.get(name) for each in results]
    values = sorted({show(each) for each in found if each is not None})
    requests = " and ".join(constraint.requests) or "all requests"
    shown = f" ({', '.join(values)})" if values else ""
    return f"{requests}: {word} {name}{shown}"
