"""Defaults of pods: those of core/v1 and those that the usual admission plugins add (v1.36).

Called by the pod strategy on create, and for DaemonSet templates (without admission).
"""

from __future__ import annotations

from typing import Final

from driver.simulation.apiserver.values import Json, JsonObject, items, obj, text

FILE_MODE: Final = 0o644
_GRACE: Final = 30
_TOKEN_SECONDS: Final = 3607
_TOKEN_PATH: Final = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a mount point
_NOT_READY_SECONDS: Final = 300
_PRIORITIES: Final = {"system-node-critical": 2000001000, "system-cluster-critical": 2000000000}
_PROBE: Final[dict[str, Json]] = {
    "timeoutSeconds": 1,
    "periodSeconds": 10,
    "successThreshold": 1,
    "failureThreshold": 3,
}
_CONTAINERS: Final = ("initContainers", "containers", "ephemeralContainers")
_MODED: Final = ("secret", "configMap", "downwardAPI", "projected")


def containers_of(spec: JsonObject) -> list[JsonObject]:
    """Init containers, containers and ephemeral ones, in this order."""
    return [obj(entry) for name in _CONTAINERS for entry in items(spec.get(name))]


def default_pod_spec(spec: JsonObject) -> None:
    """The defaults of the API type itself."""
    for name, value in (
        ("restartPolicy", "Always"),
        ("dnsPolicy", "ClusterFirst"),
        ("schedulerName", "default-scheduler"),
    ):
        if not spec.get(name):
            spec[name] = value
    spec.setdefault("terminationGracePeriodSeconds", _GRACE)
    spec.setdefault("securityContext", {})
    for container in containers_of(spec):
        _default_container(container, host_network=spec.get("hostNetwork") is True)
    for volume in items(spec.get("volumes")):
        _default_volume(obj(volume))


def _default_container(container: JsonObject, *, host_network: bool) -> None:
    for field, default in (("terminationMessagePath", "/dev/termination-log"), ("terminationMessagePolicy", "File")):
        if not container.get(field):
            container[field] = default
    if not container.get("imagePullPolicy"):
        container["imagePullPolicy"] = _pull_policy(text(container.get("image")))
    for port in items(container.get("ports")):
        obj(port).setdefault("protocol", "TCP")
        if host_network and not obj(port).get("hostPort"):
            obj(port)["hostPort"] = obj(port).get("containerPort")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        _default_probe(obj(container.get(name)))
    for variable in items(container.get("env")):
        _default_field(obj(obj(variable).get("valueFrom")).get("fieldRef"))
    resources = obj(container.get("resources"))
    for name, value in obj(resources.get("limits")).items():
        obj(resources.setdefault("requests", {})).setdefault(name, value)


def _pull_policy(image: str) -> str:
    name = image.rpartition("/")[2]
    tag = name.rpartition(":")[2] if ":" in name else ""
    return "Always" if not tag or tag == "latest" else "IfNotPresent"


def _default_probe(probe: JsonObject) -> None:
    if not probe:
        return
    for name, value in _PROBE.items():
        if not probe.get(name):
            probe[name] = value
    http = obj(probe.get("httpGet"))
    if http:
        http["path"] = text(http.get("path")) or "/"
        http["scheme"] = text(http.get("scheme")) or "HTTP"
    grpc = probe.get("grpc")
    if isinstance(grpc, dict):
        grpc.setdefault("service", "")


def _default_field(reference: Json) -> None:
    if isinstance(reference, dict) and not reference.get("apiVersion"):
        reference["apiVersion"] = "v1"


def _default_volume(volume: JsonObject) -> None:
    if set(volume) == {"name"}:
        volume["emptyDir"] = {}
    if isinstance(volume.get("hostPath"), dict):
        obj(volume["hostPath"]).setdefault("type", "")
    for name in _MODED:
        if isinstance(volume.get(name), dict):
            obj(volume[name]).setdefault("defaultMode", FILE_MODE)
    for source in items(obj(volume.get("projected")).get("sources")):
        token = obj(source).get("serviceAccountToken")
        if isinstance(token, dict):
            token.setdefault("expirationSeconds", 3600)
        for file in items(obj(obj(source).get("downwardAPI")).get("items")):
            _default_field(obj(file).get("fieldRef"))
    for file in items(obj(volume.get("downwardAPI")).get("items")):
        _default_field(obj(file).get("fieldRef"))


def admit_pod_spec(spec: JsonObject, account: JsonObject | None, suffix: str) -> None:
    """What the ServiceAccount, Priority and DefaultTolerationSeconds plugins do; `suffix` ends a volume's name."""
    spec.setdefault("enableServiceLinks", True)
    name = text(spec.get("serviceAccountName")) or text(spec.get("serviceAccount")) or "default"
    spec["serviceAccountName"] = spec["serviceAccount"] = name
    spec["priority"] = _PRIORITIES.get(text(spec.get("priorityClassName")), 0)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    tolerations = items(spec.get("tolerations"))
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        if not any(_tolerates(obj(entry), key) for entry in tolerations):
            added: JsonObject = {
                "key": key,
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": _NOT_READY_SECONDS,
            }
            tolerations.append(added)
    spec["tolerations"] = tolerations
    wanted = spec.get("automountServiceAccountToken")
    if wanted is None:
        wanted = obj(account).get("automountServiceAccountToken")
    if wanted is not False:
        _mount_token(spec, suffix)


def _tolerates(toleration: JsonObject, key: str) -> bool:
    return toleration.get("key", "") in {key, ""} and toleration.get("effect", "") in {"NoExecute", ""}


def _mount_token(spec: JsonObject, suffix: str) -> None:
    lacking = [
        container
        for container in containers_of(spec)
        if not any(obj(mount).get("mountPath") == _TOKEN_PATH for mount in items(container.get("volumeMounts")))
    ]
    if not lacking:
        return
    name = f"kube-api-access-{suffix}"
    namespace_file: JsonObject = {
        "path": "namespace",
        "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
    }
    certificate: JsonObject = {"key": "ca.crt", "path": "ca.crt"}
    sources: list[Json] = [
        {"serviceAccountToken": {"expirationSeconds": _TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [certificate]}},
        {"downwardAPI": {"items": [namespace_file]}},
    ]
    volume: JsonObject = {"name": name, "projected": {"sources": sources, "defaultMode": FILE_MODE}}
    spec["volumes"] = [*items(spec.get("volumes")), volume]
    for container in lacking:
        mount: JsonObject = {"name": name, "readOnly": True, "mountPath": _TOKEN_PATH}
        container["volumeMounts"] = [*items(container.get("volumeMounts")), mount]


def quality_of_service(spec: JsonObject) -> str:
    """status.qosClass: Guaranteed, Burstable or BestEffort, from cpu and memory."""
    guaranteed, some = True, False
    for container in containers_of(spec):
        resources = obj(container.get("resources"))
        limits, requests = obj(resources.get("limits")), obj(resources.get("requests"))
        some = some or any(name in one for one in (limits, requests) for name in ("cpu", "memory"))
        for name in ("cpu", "memory"):
            if name not in limits or limits[name] != requests.get(name, limits[name]):
                guaranteed = False
    if not some:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"
