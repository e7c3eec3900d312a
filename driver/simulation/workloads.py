"""Example workloads on the embedded cluster: run one, look at what it got and why, judge it. For demo and tests.

What an example must lead to is written here, beside the examples' own words: the demo ends with success only if every
workload behaved as promised, and the tests run every folder there is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from driver.core import common_traits
from driver.core.configuring.documents import ALLOCATION_POLICY
from driver.model import quantities, vocabulary
from driver.model.published import Attribute, PublishedDevice
from driver.model.requests import Constraint, DeviceRequest, Request
from driver.simulation import manifests
from driver.simulation.access import CLAIMS, CLASSES, EVENTS
from driver.simulation.cluster import Cluster
from driver.simulation.objects import Pod
from driver.simulation.resources import Claim
from driver.simulation.runtime.injection import Contents

TIMEOUT: Final = 30.0
_PATIENCE: Final = 1.0
"""Seconds a pod that nobody can serve has to be unschedulable before that is taken for the answer."""
_HOPELESS: Final = ("unsatisfiable",)
"""Examples that are about waiting; a pod of another one may wait for the controller."""
_CONTROLLER: Final = "accel-dra.dev/controller"
"""Who writes Events about claims that wait."""


@dataclass(frozen=True, slots=True)
class Got:
    """One device of a container, with what is published about it."""

    request: str
    node: str
    driver: str
    device: PublishedDevice

    def text(self, name: str) -> str:
        """Return an attribute as text, empty if the device does not have it."""
        attribute = self.device.attributes.get(name)
        return "" if attribute is None else _show(attribute)

    @property
    def memory(self) -> str:
        """Its memory in GiB, as people say it; empty if unknown."""
        capacity = self.device.capacity.get(vocabulary.MEMORY)
        return f"{float(quantities.parse(capacity.value)) / 2**30:.4g} GiB" if capacity else ""


@dataclass(frozen=True, slots=True)
class View:
    """One container: the devices it was given and what it would find."""

    name: str
    got: tuple[Got, ...]
    contents: Contents

    @property
    def names(self) -> frozenset[tuple[str, str]]:
        """Its devices by node and name."""
        return frozenset((each.node, each.device.name) for each in self.got)


@dataclass(frozen=True, slots=True)
class Report:
    """What became of one example."""

    name: str
    title: str
    phase: str
    seconds: float
    message: str = ""
    """Why the pod waits, if it does."""
    views: tuple[View, ...] = ()
    reasons: tuple[str, ...] = ()
    """Which class, selectors, constraints and policy led to these devices, one sentence each."""
    explanation: str = ""
    """What the controller's Event says about a claim that waits."""
    problem: str = ""
    """In what it differs from what was promised; empty if it does not."""

    def view(self, container: str) -> View:
        """Return what a container of this name sees; nothing if there is none."""
        none = View(container, (), Contents({}))
        return next((view for view in self.views if view.name == container), none)


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
    requests = {
        (result.pool, result.device): (result.request, result.driver)
        for claim in claims
        if claim.status.allocation
        for result in claim.status.allocation.devices.results
    }
    views: list[View] = []
    for container in pod.spec.containers:
        prepared = cluster.nodes[pod.spec.node_name].kubelet.claims.devices(pod, container)
        got: dict[tuple[str, str], Got] = {}
        for each in prepared:
            request, driver = requests[each.pool_name, each.device_name]
            device = devices[each.pool_name, driver, each.device_name]
            got[each.pool_name, each.device_name] = Got(request, each.pool_name, driver, device)
        views.append(View(container.name, tuple(got.values()), sandbox.containers[container.name].contents))
    return tuple(views)


def _explain(cluster: Cluster, claim: Claim, devices: Published) -> list[str]:
    results = claim.status.allocation.devices.results if claim.status.allocation else ()
    chosen = [result.request for result in results]
    reasons = [reason for each in claim.spec.devices.requests for reason in _explain_request(cluster, each, chosen)]
    reasons += [_explain_constraint(claim, each, devices) for each in claim.spec.devices.constraints]
    return reasons + _explain_policy(claim, devices)


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
    return " ".join(f"{key} {each}" for key, each in value.items()) if isinstance(value, dict) else str(value)


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
    return f"{name}: {count} of class {device_class.metadata.name}{own}"


def _explain_constraint(claim: Claim, constraint: Constraint, devices: Published) -> str:
    name = constraint.match_attribute or constraint.distinct_attribute
    word = "equal" if constraint.match_attribute else "distinct"
    results = claim.status.allocation.devices.results if claim.status.allocation else ()
    found = [devices[each.pool, each.driver, each.device].attributes.get(name) for each in results]
    values = sorted({_show(each) for each in found if each is not None})
    requests = " and ".join(constraint.requests) or "all requests"
    shown = f" ({', '.join(values)})" if values else ""
    return f"{requests}: {word} {name}{shown}"


def _show(attribute: Attribute) -> str:
    for value in (attribute.string, attribute.version, attribute.int_):
        if value is not None:
            return str(value)
    return str(attribute.bool_).lower()


Check = Callable[[Report], str]


def _running(report: Report, **counts: int) -> str:
    """Return what is wrong about a pod that must run with so many devices in each container."""
    if report.phase != "Running":
        return f"the pod is {report.phase}: {report.message}"
    for name, count in counts.items():
        view = report.view(name)
        if len(view.got) != count:
            return f"container {name} has {len(view.got)} devices instead of {count}"
        if bool(view.contents.device_nodes) != bool(count):
            return f"container {name} has {len(view.contents.device_nodes)} device nodes for {count} devices"
    return ""


def _same(report: Report, attribute: str) -> str:
    values = {got.text(attribute) for view in report.views for got in view.got}
    return "" if len(values) == 1 and values != {""} else f"{attribute} differs: {sorted(values)}"


def _check_shared(report: Report) -> str:
    if problem := _running(report, server=1, profiler=1, logger=0):
        return problem
    return "" if report.view("server").names == report.view("profiler").names else "the containers have different GPUs"


def _check_two_requests(report: Report) -> str:
    if problem := _running(report, prefill=1, decode=1) or _same(report, vocabulary.INTERCONNECT_DOMAIN):
        return problem
    return "both containers have the same GPU" if report.view("prefill").names == report.view("decode").names else ""


def _check_partition(report: Report) -> str:
    if problem := _running(report, main=1):
        return problem
    profile = report.view("main").got[0].text(vocabulary.PROFILE)
    return "" if profile == "1g.10gb" else f"the profile is {profile!r}"


def _check_profiles(report: Report) -> str:
    if problem := _running(report, model=1, helper=1) or _same(report, vocabulary.PARENT_UUID):
        return problem
    profiles = [report.view(name).got[0].text(vocabulary.PROFILE) for name in ("model", "helper")]
    return "" if profiles == ["3g.40gb", "1g.10gb"] else f"the profiles are {' and '.join(profiles)}"


def _check_memory(report: Report) -> str:
    if problem := _running(report, main=1):
        return problem
    got = report.view("main").got[0]
    return "" if 15 <= float(got.memory.partition(" ")[0]) <= 24 else f"the partition has {got.memory}"


def _check_mixed(report: Report) -> str:
    if problem := _running(report, train=1, evaluate=1, notebook=1):
        return problem
    views = [report.view(name) for name in ("train", "evaluate", "notebook")]
    kinds = [view.got[0].text(vocabulary.TYPE) for view in views]
    if kinds != [vocabulary.TYPE_GPU, vocabulary.TYPE_PARTITION, vocabulary.TYPE_GPU]:
        return f"the devices are of type {', '.join(kinds)}"
    if len({view.got[0].text(vocabulary.PCI_BUS_ID) for view in views}) != len(views):
        return "two containers are on one GPU"
    limited = [view.name for view in views if "ACCEL_DRA_SHARE_ENFORCED" in view.contents.env]
    return "" if limited == ["notebook"] else f"limited to a share: {', '.join(limited) or 'nobody'}"


def _check_nearby(report: Report) -> str:
    if problem := _running(report, main=2) or _same(report, vocabulary.NUMA_NODE):
        return problem
    drivers = {got.driver for got in report.view("main").got}
    return _same(report, vocabulary.PCIE_ROOT) if len(drivers) == 2 else f"the devices are of {drivers}"


def _check_group(report: Report) -> str:
    counts = {view.name: 4 for view in report.views}
    if problem := _running(report, **counts) or _same(report, vocabulary.FABRIC_DOMAIN):
        return problem
    nodes = {got.node for view in report.views for got in view.got}
    return "" if len(nodes) == 4 else f"the group is on {len(nodes)} nodes"


def _check_unsatisfiable(report: Report) -> str:
    if report.phase != "Pending":
        return f"the pod is {report.phase}, though no device can satisfy its claim"
    if "no node can give request" not in report.message:
        return f"nothing says why: {report.message!r}"
    return "" if "500Gi" in report.explanation else f"the controller does not say why: {report.explanation!r}"


CHECKS: Final[Mapping[str, Check]] = {
    "single-gpu": lambda report: _running(report, main=1),
    "nvlink-pair": lambda report: _running(report, main=2) or _same(report, vocabulary.INTERCONNECT_DOMAIN),
    "partition": _check_partition,
    "mig-by-profile": _check_profiles,
    "mig-by-memory": _check_memory,
    "mixed-pod": _check_mixed,
    "first-available": lambda report: _running(report, main=1),
    "shared-gpu": _check_shared,
    "two-requests": _check_two_requests,
    "extended-resource": lambda report: _running(report, main=1),
    "same-numa-node": lambda report: _running(report, main=2) or _same(report, vocabulary.NUMA_NODE),
    "topology-pair": lambda report: _running(report, main=2) or _same(report, vocabulary.INTERCONNECT_DOMAIN),
    "gpu-with-nic": _check_nearby,
    "node-group": _check_group,
    "unsatisfiable": _check_unsatisfiable,
}
