"""Pods, as far as a DRA driver and its scheduler meet them: claims, gates, binding, status, graceful deletion.

Validation covers what concerns claims, names and immutability (core validation.go, v1.36); the rest of a pod's many
rules is left out on purpose.
"""

from __future__ import annotations

from typing import Final

from driver.simulation.apiserver.checking import (
    Faults,
    check_rules,
    duplicate,
    forbidden,
    invalid,
    not_found,
    plain_label_rules,
    qualified_name_rules,
    required,
    subdomain_rules,
    unsupported,
)
from driver.simulation.apiserver.go_values import dump
from driver.simulation.apiserver.statuses import failure, object_details
from driver.simulation.apiserver.strategies.base import Strategy, keep
from driver.simulation.apiserver.strategies.pod_defaults import (
    admit_pod_spec,
    containers_of,
    default_pod_spec,
    quality_of_service,
)
from driver.simulation.apiserver.tidying import same
from driver.simulation.apiserver.values import Json, JsonObject, copy_object, items, metadata, obj, text

_IMMUTABLE: Final = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_FREE: Final = ("activeDeadlineSeconds", "tolerations", "schedulingGates")
_HEALTH: Final = ("Healthy", "Unhealthy", "Unknown")
_FINISHED: Final = frozenset({"Failed", "Succeeded"})


class PodStrategy(Strategy):
    """Pods."""

    graceful = True

    def prepare_create(self, value: JsonObject) -> None:
        """Phase Pending; a gated pod says so."""
        spec = obj(value.get("spec"))
        status: JsonObject = {"phase": "Pending", "qosClass": quality_of_service(spec)}
        if spec.get("schedulingGates"):
            gated: JsonObject = {
                "type": "PodScheduled",
                "status": "False",
                "lastTransitionTime": self.world.sources.timestamp(),
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            }
            status["conditions"] = [gated]
        value["status"] = status

    def default(self, value: JsonObject) -> None:
        """Type defaults; on create (nothing assigned yet) also what admission adds."""
        spec = obj(value.get("spec"))
        default_pod_spec(spec)
        if "priority" not in spec:
            admit_pod_spec(spec, self._account(value), self.world.sources.new_suffix())
            obj(value.get("status"))["qosClass"] = quality_of_service(spec)

    def _account(self, value: JsonObject) -> JsonObject | None:
        namespace = text(metadata(value).get("namespace"))
        name = text(obj(value.get("spec")).get("serviceAccountName")) or "default"
        account = self.world.lookup("serviceaccounts", (namespace, name))
        if account is None and name != "default":
            pod = text(metadata(value).get("name"))
            message = (
                f'pods "{pod}" is forbidden: error looking up service account {namespace}/{name}: '
                f'serviceaccount "{name}" not found'
            )
            raise failure(403, "Forbidden", message, object_details("", "pods", pod))
        return account

    def prepare_status(self, new: JsonObject, old: JsonObject) -> None:
        """The spec and owners stay; labels and annotations may change."""
        keep(new, old, "spec")
        for key in ("deletionTimestamp", "deletionGracePeriodSeconds", "generation", "ownerReferences"):
            keep(metadata(new), metadata(old), key)
        keep(obj(new.get("status")), obj(old.get("status")), "qosClass")

    def validate(self, new: JsonObject, old: JsonObject | None, subresource: str) -> Faults:
        """Claims and gates; what may change; device health."""
        spec = obj(new.get("spec"))
        if subresource == "status":
            return _check_status(obj(new.get("status")), spec)
        if subresource:
            return []
        faults = _check_spec(spec)
        if old is None:
            if spec.get("schedulingGates") and spec.get("nodeName"):
                why = "cannot be set until all schedulingGates have been cleared"
                faults.append(forbidden("spec.nodeName", why))
            return faults
        was = obj(old.get("spec"))
        return faults + _check_gates(spec, was) + _check_changes(spec, was)

    def grace_period(self, value: JsonObject, wanted: int | None) -> int:
        """Unbound and finished pods go at once."""
        spec = obj(value.get("spec"))
        if not spec.get("nodeName") or obj(value.get("status")).get("phase") in _FINISHED:
            return 0
        if wanted is not None:
            return wanted
        given = spec.get("terminationGracePeriodSeconds")
        return given if isinstance(given, int) else 30


def _check_spec(spec: JsonObject) -> Faults:
    names: list[str] = []
    faults: Faults = []
    for index, entry in enumerate(items(spec.get("resourceClaims"))):
        claim = obj(entry)
        faults += _check_claim(claim, f"spec.resourceClaims[{index}]")
        name = text(claim.get("name"))
        if name in names:
            faults.append(duplicate(f"spec.resourceClaims[{index}].name", name))
        names.append(name)
    if not items(spec.get("containers")):
        faults.append(required("spec.containers"))
    for field in ("initContainers", "containers"):
        for index, entry in enumerate(items(spec.get(field))):
            faults += _check_container(obj(entry), f"spec.{field}[{index}]", names)
    return faults


def _check_claim(claim: JsonObject, path: str) -> Faults:
    name = text(claim.get("name"))
    faults = check_rules(f"{path}.name", name, plain_label_rules) if name else [required(f"{path}.name")]
    direct, template = claim.get("resourceClaimName"), claim.get("resourceClaimTemplateName")
    shown = dump("PodResourceClaim", claim)
    if direct is not None and template is not None:
        why = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
        faults.append(invalid(path, shown, why))
    if direct is None and template is None:
        why = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
        faults.append(invalid(path, shown, why))
    for field in ("resourceClaimName", "resourceClaimTemplateName"):
        if claim.get(field) is not None:
            faults += check_rules(f"{path}.{field}", claim[field], subdomain_rules)
    return faults


def _check_container(container: JsonObject, path: str, claims: list[str]) -> Faults:
    name = text(container.get("name"))
    faults = check_rules(f"{path}.name", name, plain_label_rules) if name else [required(f"{path}.name")]
    if not container.get("image"):
        faults.append(required(f"{path}.image"))
    seen: set[tuple[str, str]] = set()
    for index, entry in enumerate(items(obj(container.get("resources")).get("claims"))):
        at = f"{path}.resources.claims[{index}]"
        wanted, request = text(obj(entry).get("name")), text(obj(entry).get("request"))
        if not wanted:
            faults.append(required(f"{at}.name"))
            continue
        if (wanted, request) in seen or (wanted, "") in seen:
            faults.append(duplicate(at, wanted))
        seen.add((wanted, request))
        if wanted not in claims:
            known = f": {', '.join(claims)}" if claims else " which is empty"
            faults.append(not_found(at, wanted, f"must be one of the names in pod.spec.resourceClaims{known}"))
    return faults


def _check_gates(spec: JsonObject, was: JsonObject) -> Faults:
    before = {text(obj(gate).get("name")) for gate in items(was.get("schedulingGates"))}
    faults: Faults = []
    for index, gate in enumerate(items(spec.get("schedulingGates"))):
        name = text(obj(gate).get("name"))
        if name not in before:
            why = f"only deletion is allowed, but found new scheduling gate '{name}'"
            faults.append(forbidden(f"spec.schedulingGates[{index}].name", why))
    return faults


def _check_changes(spec: JsonObject, was: JsonObject) -> Faults:
    new = copy_object(spec)
    for name in _FREE:
        keep(new, was, name)
    for one, other in zip(containers_of(new), containers_of(was), strict=False):
        keep(one, other, "image")
    if was.get("schedulingGates"):
        for name in ("nodeSelector", "affinity"):
            keep(new, was, name)
    if same("PodSpec", new, was) and _only_added(spec, was):
        return []
    return [forbidden("spec", _IMMUTABLE)]


def _only_added(spec: JsonObject, was: JsonObject) -> bool:
    return all(entry in items(spec.get("tolerations")) for entry in items(was.get("tolerations")))


def _check_status(status: JsonObject, spec: JsonObject) -> Faults:
    claims = {text(obj(entry).get("name")) for entry in items(spec.get("resourceClaims"))}
    faults: Faults = []
    for index, entry in enumerate(items(status.get("resourceClaimStatuses"))):
        path = f"status.resourceClaimStatuses[{index}]"
        name = text(obj(entry).get("name"))
        if name not in claims:
            faults.append(invalid(f"{path}.name", name, "must match the name of an entry in `spec.resourceClaims`"))
        generated = obj(entry).get("resourceClaimName")
        if generated is not None:
            faults += check_rules(f"{path}.resourceClaimName", generated, subdomain_rules)
    for index, entry in enumerate(items(status.get("containerStatuses"))):
        container = next((one for one in containers_of(spec) if one.get("name") == obj(entry).get("name")), {})
        faults += _check_health(obj(entry), container, f"status.containerStatuses[{index}]")
    return faults


def _check_health(status: JsonObject, container: JsonObject, path: str) -> Faults:
    allowed = {_health_name(obj(claim)) for claim in items(obj(container.get("resources")).get("claims"))}
    faults: Faults = []
    for index, entry in enumerate(items(status.get("allocatedResourcesStatus"))):
        at = f"{path}.allocatedResourcesStatus[{index}]"
        name = text(obj(entry).get("name"))
        if name.startswith("claim:"):
            if name not in allowed:
                why = (
                    "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or "
                    "'claim:<claimName>' if request is empty"
                )
                faults.append(invalid(f"{at}.name", name, why))
        else:
            faults += check_rules(f"{at}.name", name, qualified_name_rules)
        faults += _check_resources(obj(entry).get("resources"), f"{at}.resources")
    return faults


def _health_name(claim: JsonObject) -> str:
    request = text(claim.get("request"))
    return f"claim:{text(claim.get('name'))}" + (f"/{request}" if request else "")


def _check_resources(resources: Json, path: str) -> Faults:
    faults: Faults = []
    seen: set[str] = set()
    for index, entry in enumerate(items(resources)):
        identity, health = text(obj(entry).get("resourceID")), text(obj(entry).get("health"))
        if identity in seen:
            faults.append(duplicate(f"{path}[{index}].resourceID", identity))
        seen.add(identity)
        if health and health not in _HEALTH:
            faults.append(unsupported(f"{path}[{index}].health", health, _HEALTH))
    return faults
