"""What the API server keeps of a ResourceSlice: tried with dry runs, because it drops silently what it does not know.

Called by `checks.cluster`. Stores nothing (`dryRun=All`). Kubernetes has no other way to see the feature gates of a
server (KEP-4815, KEP-5055 and KEP-5075: fields of disabled features are dropped on create).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from driver.cli.checks.findings import Finding, ok, warning
from driver.core.fencing import Authority
from driver.kube.client import Client
from driver.model.errors import Forbidden, Rejected, Unavailable

Json = Mapping[str, "str | int | bool | Json | list[Json]"]

_SLICES: Final = "/apis/resource.k8s.io/v1/resourceslices"
_NAME: Final = "accel-dra-doctor"
_COUNTERS: Final[Json] = {"memory": {"value": "1Gi"}}

_DEVICES: Final[Json] = {
    "devices": [
        {
            "name": "probe",
            "taints": [{"key": "accel-dra.dev/probe", "effect": "NoSchedule"}],
            "consumesCounters": [{"counterSet": "probe", "counters": _COUNTERS}],
            "allowMultipleAllocations": True,
            "capacity": {"accel-dra.dev/memory": {"value": "1Gi"}},
        }
    ]
}
_SETS: Final[Json] = {"sharedCounters": [{"name": "probe", "counters": _COUNTERS}]}

_COUNTING: Final = "DRAPartitionableDevices"
_FIELDS: Final = (
    ("taints", "DRADeviceTaints", "a device that turns unhealthy is withdrawn instead of tainted"),
    ("consumesCounters", _COUNTING, "partitions cannot be offered before they exist, nor devices to virtual machines"),
    ("allowMultipleAllocations", "DRAConsumableCapacity", "a device cannot be shared between claims"),
)
"""Field of a device, the feature gate that it belongs to, and what is missing without it."""


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    devices: tuple[dict[str, msgspec.Raw], ...] = ()
    shared_counters: tuple[msgspec.Raw, ...] = ()


class _Slice(msgspec.Struct, frozen=True):
    spec: _Spec = _Spec()


_slices: Final = msgspec.json.Decoder(_Slice)


def try_features(
    client: Client, driver: str, node: str, authority: Authority = Authority.SCHEDULER
) -> Iterator[Finding]:
    """Yield which features the server has, and whether a pool can have the authority that is set."""
    try:
        devices = _try(client, driver, node, _DEVICES).spec.devices
        sets = _try(client, driver, node, _SETS).spec.shared_counters
        is_old = bool(sets) and _takes_old_layout(client, driver, node)
    except Forbidden as error:
        yield warning(f"features were not tried: {error}", "see permissions above")
        return
    except Rejected as error:
        advice = "plain devices are not concerned; health taints and partitions may be refused in the same way"
        yield warning(f"the server refuses a slice that has every feature: {error}", advice)
        return
    kept = devices[0] if devices else {}
    if not sets or is_old:
        kept = {name: value for name, value in kept.items() if name != "consumesCounters"}
    lost = [(gate, effect) for field, gate, effect in _FIELDS if field not in kept]
    for gate, effect in lost:
        advice = f"on by default from Kubernetes 1.36 on; before, set the feature gate {gate} of kube-apiserver"
        if is_old and gate == _COUNTING:
            yield warning(
                f"{gate} is that of Kubernetes 1.34, with another layout: {effect}", "upgrade to 1.35 or later"
            )
        else:
            yield warning(f"{gate} is off: {effect}", advice)
    if authority is Authority.CONTROLLER and "taints" not in kept:
        text = "allocation-authority controller has no effect: without taints kube-scheduler allocates these devices"
        yield warning(text, "turn on DRADeviceTaints, or set allocation-authority to scheduler")
    if len(lost) < len(_FIELDS):
        yield ok(f"the server keeps {', '.join(field for field, _, _ in _FIELDS if field in kept)}")


def _takes_old_layout(client: Client, driver: str, node: str) -> bool:
    """Say whether the server takes counters beside devices, as 1.34 alone does (KEP-4815)."""
    try:
        _try(client, driver, node, {**_DEVICES, **_SETS})
    except Rejected:
        return False
    return True


def try_policy(client: Client, driver: str, node: str) -> Iterator[Finding]:
    """Yield whether slices of another node are refused."""
    try:
        _try(client, driver, f"{node}-not-this-one", {"devices": []})
    except (Rejected, Forbidden):
        yield ok("slices of other nodes are refused, as they should be")
    else:
        advice = "install the ValidatingAdmissionPolicy of deploy/base, with the service account accel-dra-node"
        yield warning("this identity may write the slices of every node", advice)


def _try(client: Client, driver: str, node: str, content: Json) -> _Slice:
    """Return a slice as the server would store it."""
    where: Json = {"nodeName": node} if node else {"allNodes": True}
    spec: Json = {
        "driver": driver,
        "pool": {"name": _NAME, "generation": 1, "resourceSliceCount": 1},
        **where,
        **content,
    }
    body = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": _NAME}, "spec": spec}
    try:
        answer = client.create(_SLICES, msgspec.json.encode(body), {"dryRun": "All"})
        return _slices.decode(answer)
    except msgspec.DecodeError as error:
        raise Unavailable(f"{_SLICES}: the API server's answer cannot be read: {error}") from error
