"""Checks of the API server: can it be reached, does it serve DRA, may we do what the plugin does, is our node there.

Called by `cli.doctor` through `list_checks`. Everything that would write is a dry run. The identity is the plugin's own
in a pod and the kubeconfig's elsewhere; where an answer means something else for an administrator, the text says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from driver.cli.checks import features
from driver.cli.checks.findings import Check, Finding, amount, failed, ok, warning
from driver.core import fencing
from driver.core.fencing import Authority
from driver.kube import access, listing
from driver.kube.client import Client
from driver.model.errors import DriverError, Forbidden, InvalidInput, NotFound, Unsupported
from driver.model.slices import ResourceSlice, SliceList
from driver.settings import Settings

_T = TypeVar("_T")

RESOURCE: Final = "/apis/resource.k8s.io/v1"
SUPPORTED: Final = ((1, 34), (1, 37))
"""Oldest and newest minor version of Kubernetes that this version of the driver was made for."""
NEEDED: Final = ("deviceclasses", "resourceclaims", "resourceslices")
CLASSES: Final = ("gpu.accel-dra.dev", "partition.accel-dra.dev", "topology.accel-dra.dev")
_pages: Final = msgspec.json.Decoder(SliceList)
_INSTALL: Final = "kubectl apply -k deploy/base"
_REACH: Final = "check address, network policies and firewalls"
_RENEW: Final = "the token or certificate has expired, or the pod that it was made for is gone: use a new one"


@dataclass(frozen=True, slots=True)
class Permission:
    """One right that the plugin uses; deploy/base/clusterrole.yaml grants exactly these."""

    verb: str
    group: str
    resource: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"


PERMISSIONS: Final = (
    *(Permission(verb, "", "nodes") for verb in ("get", "list", "watch")),
    *(Permission(verb, "resource.k8s.io", "resourceslices") for verb in ("list", "watch", "create", "patch", "delete")),
    Permission("get", "resource.k8s.io", "resourceclaims"),
    *(Permission(verb, "events.k8s.io", "events") for verb in ("create", "patch")),
)


class _Version(msgspec.Struct, frozen=True, rename="camel"):
    """GET /version (k8s.io/apimachinery/pkg/version)."""

    git_version: str = ""


class _Named(msgspec.Struct, frozen=True):
    name: str = ""


class _ResourceList(msgspec.Struct, frozen=True):
    """metav1.APIResourceList."""

    resources: tuple[_Named, ...] = ()


class _ReviewStatus(msgspec.Struct, frozen=True):
    allowed: bool = False


class _Review(msgspec.Struct, frozen=True):
    """SelfSubjectAccessReview."""

    status: _ReviewStatus = _ReviewStatus()


_reviews: Final = msgspec.json.Decoder(_Review)


class _NodeInfo(msgspec.Struct, frozen=True, rename="camel"):
    kubelet_version: str = ""
    container_runtime_version: str = ""


class _NodeStatus(msgspec.Struct, frozen=True, rename="camel"):
    node_info: _NodeInfo = _NodeInfo()


class _Node(msgspec.Struct, frozen=True):
    """v1.Node, as far as it says what runs there."""

    status: _NodeStatus = _NodeStatus()


class Cluster:
    """One API server. The client is made by the first check and closed by `close`."""

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self._settings = settings
        self._environment = environment
        self._client: Client | None = None

    def list_checks(self) -> list[Check]:
        """Return the checks. Those after the first find nothing if the server is not there."""
        return [
            Check("api-server", "asking the API server for its version", self.look_at_server),
            self._later("api-group", "asking for resource.k8s.io/v1", look_at_group),
            self._later("permissions", "asking the API server what we may do", look_at_permissions),
            self._later("node-object", "looking for our Node object", self._look_at_node),
            self._later("features", "trying a ResourceSlice with every feature (dry run)", self._try_features),
            self._later("slice-policy", "trying a ResourceSlice of another node (dry run)", self._try_policy),
            self._later("device-classes", "looking for the DeviceClasses", look_at_classes),
            self._later("slices", "looking at the slices that are published", self._look_at_slices),
        ]

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()

    def look_at_server(self) -> Iterator[Finding]:
        """Yield whether the server answers, and whether its version is one that we know."""
        try:
            found = access.load(self._settings.kubeconfig, self._environment)
        except (InvalidInput, Unsupported) as error:
            advice = "give --kubeconfig, or run the doctor in the plugin's pod (kubectl exec)"
            if self._settings.kubeconfig:
                yield failed(str(error), "correct the file, or give another one with --kubeconfig")
            elif self._environment.get("KUBERNETES_SERVICE_HOST"):
                yield failed(str(error), "see whether the pod's token is mounted (automountServiceAccountToken)")
            else:
                yield warning("no API server is configured, the cluster was not looked at", advice)
            return
        client = Client(found, timeout=self._settings.api_timeout)
        try:
            text = read(client, "/version", _Version).git_version
        except DriverError as error:
            client.close()
            yield failed(f"API server {found.server}: {error}", _RENEW if isinstance(error, Forbidden) else _REACH)
            return
        self._client = client
        yield judge_version(text, found.server)

    def _later(self, name: str, title: str, look: Callable[[Client], Iterator[Finding]]) -> Check:
        """Return a check that needs the server."""

        def run() -> Iterator[Finding]:
            if self._client is not None:
                yield from look(self._client)

        return Check(name, title, run)

    def _look_at_node(self, client: Client) -> Iterator[Finding]:
        """Yield whether the Node exists and what runs on it."""
        name = self._settings.node_name
        if not name:
            yield warning("no node name is set", "give --node-name (in the pod: from spec.nodeName)")
            return
        try:
            info = read(client, f"/api/v1/nodes/{name}", _Node).status.node_info
        except NotFound:
            yield failed(f"there is no Node {name}", "give the name as `kubectl get nodes` shows it with --node-name")
            return
        yield ok(f"node {name}: kubelet {info.kubelet_version}, {info.container_runtime_version}")
        yield from judge_runtime(info.container_runtime_version)

    def _try_features(self, client: Client) -> Iterator[Finding]:
        """Yield which fields of a slice the server keeps."""
        options = self._settings
        authority = Authority(options.allocation_authority)
        yield from features.try_features(client, options.driver_name, options.node_name, authority)

    def _try_policy(self, client: Client) -> Iterator[Finding]:
        """Yield whether our own identity is kept away from other nodes' slices."""
        if self._settings.kubeconfig or not self._settings.node_name:
            yield ok("not tried: it says something in the plugin's own pod only")
            return
        yield from features.try_policy(client, self._settings.driver_name, self._settings.node_name)

    def _look_at_slices(self, client: Client) -> Iterator[Finding]:
        """Yield what the scheduler sees of this node."""
        options = self._settings
        selector = f"spec.driver={options.driver_name}" + (
            f",spec.nodeName={options.node_name}" if options.node_name else ""
        )
        page = _pages.decode(client.get(f"{RESOURCE}/resourceslices", {"fieldSelector": selector, "limit": 500}))
        where = f"node {options.node_name}" if options.node_name else "the cluster"
        newest: dict[str, int] = {}
        for item in page.items:
            newest[item.spec.pool.name] = max(newest.get(item.spec.pool.name, 0), item.spec.pool.generation)
        current = [item for item in page.items if item.spec.pool.generation == newest[item.spec.pool.name]]
        if not current:
            yield warning(f"no slice is published for {where}", "start the plugin, and look at its log if it runs")
            return
        devices = sum(len(item.spec.devices) for item in current)
        who = _name_authorities(current)
        yield ok(f"{amount(devices, 'device')} in {amount(len(current), 'slice')} of {where}{who}")
        for pool in newest:
            slices = [item for item in current if item.spec.pool.name == pool]
            if len(slices) != slices[0].spec.pool.resource_slice_count:
                text = f"pool {pool} has {len(slices)} of {slices[0].spec.pool.resource_slice_count} slices"
                yield warning(f"{text}: the scheduler waits for the others", "look again in a minute, then at the log")


def _name_authorities(slices: list[ResourceSlice]) -> str:
    """Return who allocates the devices that are published, with a comma before it."""
    devices = [device for item in slices for device in item.spec.devices]
    authority = fencing.read_authority(devices)
    if authority is not None:
        return f", allocated by {authority.spoken}"
    fenced = sum(map(fencing.is_fenced, devices))
    return f", {fenced} of them allocated by {Authority.CONTROLLER.spoken} only" if fenced else ""


def read(client: Client, path: str, kind: type[_T]) -> _T:
    """Return an object of the API. Raises what the client raises, `Unavailable` for an answer that cannot be read."""
    return listing.fetch(client, path, kind)


def judge_version(text: str, server: str) -> Finding:
    """Return what a server's version (`v1.36.2`) means for the driver."""
    numbers = re.match(r"v?(\d+)\.(\d+)", text)
    oldest, newest = (".".join(map(str, version)) for version in SUPPORTED)
    if numbers is None:
        return warning(f"API server {server} has the version {text!r}", f"the driver is made for {oldest} to {newest}")
    version = (int(numbers[1]), int(numbers[2]))
    if version < SUPPORTED[0]:
        return failed(f"API server {server} is Kubernetes {text}", f"the driver needs Kubernetes {oldest} or newer")
    if version > SUPPORTED[1]:
        return warning(f"API server {server} is Kubernetes {text}", f"newer than tested ({newest}): see the changelog")
    return ok(f"API server {server}, Kubernetes {text}")


def judge_runtime(text: str) -> Iterator[Finding]:
    """Yield a warning for a container runtime (`containerd://1.7.24`) that ignores CDI unless told otherwise."""
    numbers = re.match(r"containerd://v?(\d+)\.", text)
    if numbers and int(numbers[1]) < 2:
        advice = "set enable_cdi = true in the CRI section of containerd's config.toml, or use containerd 2"
        yield warning(f"{text.replace('://', ' ')} ignores CDI specs by default", advice)


def look_at_group(client: Client) -> Iterator[Finding]:
    """Yield whether the server serves DRA's stable API."""
    try:
        names = {item.name for item in read(client, RESOURCE, _ResourceList).resources}
    except NotFound:
        yield failed("the server does not serve resource.k8s.io/v1", "DRA is on by default from Kubernetes 1.34 on")
        return
    missing = [name for name in NEEDED if name not in names]
    if missing:
        yield failed(f"resource.k8s.io/v1 lacks {', '.join(missing)}", "see --runtime-config of kube-apiserver")
    else:
        yield ok("resource.k8s.io/v1 is served")


def look_at_permissions(client: Client) -> Iterator[Finding]:
    """Yield which of the plugin's rights this identity lacks."""
    try:
        refused = [permission for permission in PERMISSIONS if not review(client, permission)]
    except DriverError as error:
        yield warning(f"the server does not say what we may do: {error}", "the plugin needs no such answer to work")
        yield from _try_reading(client)
        return
    advice = f"install role and binding ({_INSTALL}); docs/operations.md lists what each right is for"
    for permission in refused:
        yield failed(f"we may not {permission}", advice)
    if not refused:
        yield ok(f"all {len(PERMISSIONS)} rights that the plugin uses")


def review(client: Client, permission: Permission) -> bool:
    """Ask for one right with a SelfSubjectAccessReview, which every authenticated identity may create."""
    attributes = {"verb": permission.verb, "group": permission.group, "resource": permission.resource}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = client.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", msgspec.json.encode(body))
    return _reviews.decode(answer).status.allowed


def _try_reading(client: Client) -> Iterator[Finding]:
    """Yield whether what can be tried without harm works."""
    try:
        client.get(f"{RESOURCE}/resourceslices", {"limit": 1})
    except DriverError as error:
        yield failed(f"ResourceSlices cannot be listed: {error}", f"install role and binding ({_INSTALL})")
    else:
        yield ok("ResourceSlices can be listed; the other rights were not tried")


def look_at_classes(client: Client) -> Iterator[Finding]:
    """Yield whether the classes are installed that claims ask for."""
    for name in CLASSES:
        try:
            client.get(f"{RESOURCE}/deviceclasses/{name}")
        except Forbidden:
            yield ok("not visible with the plugin's own rights, as intended: `kubectl get deviceclasses` shows them")
            return
        except NotFound:
            yield warning(f"there is no DeviceClass {name}", f"claims cannot ask for it: {_INSTALL}")
        else:
            yield ok(f"DeviceClass {name}")
