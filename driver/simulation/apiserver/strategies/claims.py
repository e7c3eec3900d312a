"""ResourceClaim, ResourceClaimTemplate and DeviceClass: defaults, dropped fields, validation of specs (v1.36).

The status of a claim has its own module, claim_status.py.
"""

from __future__ import annotations

from typing import Final

from driver.simulation.apiserver.checking import (
    Faults,
    check_list,
    check_rules,
    check_set,
    forbidden,
    invalid,
    name_key,
    plain_label_rules,
    required,
    subdomain_rules,
    unsupported,
)
from driver.simulation.apiserver.gates import FeatureGates
from driver.simulation.apiserver.go_values import dump
from driver.simulation.apiserver.strategies.base import CelFault, Strategy
from driver.simulation.apiserver.strategies.claim_status import ClaimStatusRules
from driver.simulation.apiserver.strategies.configs import MAX_CONFIGS, check_opaque
from driver.simulation.apiserver.strategies.devices import check_full_name
from driver.simulation.apiserver.strategies.request_names import MAX_REQUESTS, check_request_names, request_names
from driver.simulation.apiserver.strategies.selectors import check_selectors
from driver.simulation.apiserver.strategies.tolerations import check_toleration
from driver.simulation.apiserver.tidying import same
from driver.simulation.apiserver.values import Json, JsonObject, items, metadata, obj, text

MAX_SUBREQUESTS: Final = 8
MAX_CONSTRAINTS: Final = 32
ADMIN_LABEL: Final = "resource.kubernetes.io/admin-access"


def default_spec(spec: JsonObject) -> None:
    """Fills in allocationMode ExactCount, count 1, toleration operator Equal."""
    for entry in items(obj(spec.get("devices")).get("requests")):
        request = obj(entry)
        details = [obj(request.get("exactly"))] if request.get("exactly") is not None else []
        for one in details + [obj(sub) for sub in items(request.get("firstAvailable"))]:
            if not one.get("allocationMode"):
                one["allocationMode"] = "ExactCount"
            if one["allocationMode"] == "ExactCount" and not one.get("count"):
                one["count"] = 1
            for toleration in items(one.get("tolerations")):
                if not obj(toleration).get("operator"):
                    obj(toleration)["operator"] = "Equal"


class ClaimSpecRules:
    """Validation of a ResourceClaimSpec below `path`."""

    def __init__(self, cel_fault: CelFault) -> None:
        self._cel_fault = cel_fault

    def check(self, spec: JsonObject, path: str) -> Faults:
        """Requests, constraints and configs."""
        devices = obj(spec.get("devices"))
        names = request_names(spec)
        at = f"{path}.devices"
        faults = check_set(f"{at}.requests", devices.get("requests"), self._check_request, name_key, MAX_REQUESTS)
        faults += check_list(
            f"{at}.constraints",
            devices.get("constraints"),
            lambda entry, where: _check_constraint(names, obj(entry), where),
            MAX_CONSTRAINTS,
        )
        return faults + check_list(
            f"{at}.config",
            devices.get("config"),
            lambda entry, where: (
                check_request_names(names, obj(entry).get("requests"), f"{where}.requests")
                + check_opaque(obj(entry).get("opaque"), where)
            ),
            MAX_CONFIGS,
        )

    def _check_request(self, value: Json, path: str) -> Faults:
        request = obj(value)
        faults = check_rules(f"{path}.name", text(request.get("name")), plain_label_rules)
        exactly, subrequests = request.get("exactly"), items(request.get("firstAvailable"))
        if exactly is not None and subrequests:
            why = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set"
            return [*faults, invalid(path, None, why)]
        if exactly is None and not subrequests:
            return [*faults, required(path, "exactly one of `exactly` or `firstAvailable` is required")]
        if exactly is not None:
            return faults + self._check_exact(obj(exactly), f"{path}.exactly")
        return faults + check_set(
            f"{path}.firstAvailable", subrequests, self._check_subrequest, name_key, MAX_SUBREQUESTS
        )

    def _check_subrequest(self, value: Json, path: str) -> Faults:
        faults = check_rules(f"{path}.name", name_key(value), plain_label_rules)
        return faults + self._check_exact(obj(value), path)

    def _check_exact(self, exact: JsonObject, path: str) -> Faults:
        faults = check_class_name(exact.get("deviceClassName"), f"{path}.deviceClassName")
        faults += check_selectors(exact.get("selectors"), f"{path}.selectors", self._cel_fault)
        faults += _check_mode(exact, path)
        return faults + check_list(f"{path}.tolerations", exact.get("tolerations"), check_toleration)


def check_class_name(value: Json, path: str) -> Faults:
    """The name of a DeviceClass."""
    return check_rules(path, value, subdomain_rules) if text(value) else [required(path)]


def _check_mode(exact: JsonObject, path: str) -> Faults:
    mode, count = text(exact.get("allocationMode")), exact.get("count", 0)
    if mode == "All":
        if count:
            return [invalid(f"{path}.count", count, "must not be specified when allocationMode is 'All'")]
        return []
    if mode != "ExactCount":
        return [unsupported(f"{path}.allocationMode", mode, ("All", "ExactCount"))]
    if not isinstance(count, int) or count <= 0:
        return [invalid(f"{path}.count", count, "must be greater than zero")]
    return []


def _check_constraint(names: set[str], constraint: JsonObject, path: str) -> Faults:
    faults = check_request_names(names, constraint.get("requests"), f"{path}.requests")
    if constraint.get("matchAttribute") is not None:
        return faults + check_full_name(constraint["matchAttribute"], f"{path}.matchAttribute")
    if constraint.get("distinctAttribute") is not None:
        return faults + check_full_name(constraint["distinctAttribute"], f"{path}.distinctAttribute")
    why = 'exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set'
    return [*faults, required(path, why)]


class ClaimStrategy(Strategy):
    """ResourceClaims."""

    def prepare_create(self, value: JsonObject) -> None:
        """No status; fields of features that are off are dropped."""
        super().prepare_create(value)
        drop_disabled(obj(value.get("spec")), self.world.gates)

    def prepare_status(self, new: JsonObject, old: JsonObject) -> None:
        """The spec stays; the status of devices that are no longer allocated goes."""
        super().prepare_status(new, old)
        ClaimStatusRules(self.world).prepare(new, old)

    def default(self, value: JsonObject) -> None:
        """Requests and the tolerations copied into results."""
        default_spec(obj(value.get("spec")))

    def validate(self, new: JsonObject, old: JsonObject | None, subresource: str) -> Faults:
        """The spec on create, its immutability afterwards, the status on its subresource."""
        if old is None:
            faults = ClaimSpecRules(self.world.cel_fault).check(obj(new.get("spec")), "spec")
            return faults + self._check_admin(new)
        if subresource == "status":
            return ClaimStatusRules(self.world).check(new, old)
        return check_immutable_spec("ResourceClaimSpec", new, old)

    def _check_admin(self, value: JsonObject) -> Faults:
        namespace = self.world.lookup("namespaces", ("", text(metadata(value).get("namespace"))))
        labels = obj(metadata(namespace or {}).get("labels"))
        if labels.get(ADMIN_LABEL) == "true":
            return []
        return check_admin_access(obj(value.get("spec")), "spec")


def check_admin_access(spec: JsonObject, path: str) -> Faults:
    """Refuses adminAccess: it is for namespaces with the label."""
    why = f"admin access to devices requires the `{ADMIN_LABEL}: true` label on the containing namespace"
    return [
        forbidden(f"{path}.devices.requests[{index}].adminAccess", why)
        for index, entry in enumerate(items(obj(spec.get("devices")).get("requests")))
        if obj(obj(entry).get("exactly")).get("adminAccess") is True
    ]


def check_immutable_spec(struct: str, new: JsonObject, old: JsonObject) -> Faults:
    """Refuses changes: spec may not change; the message shows the whole new one."""
    if same(struct, new.get("spec"), old.get("spec")):
        return []
    return [invalid("spec", dump(struct, new.get("spec")), "field is immutable")]


def drop_disabled(spec: JsonObject, gates: FeatureGates) -> None:
    """Drops request fields of features that are off."""
    for entry in items(obj(spec.get("devices")).get("requests")):
        request = obj(entry)
        if not gates.prioritized_list:
            request.pop("firstAvailable", None)
        exact = obj(request.get("exactly"))
        if not gates.admin_access:
            exact.pop("adminAccess", None)
        for one in [exact, *(obj(sub) for sub in items(request.get("firstAvailable")))]:
            if not gates.device_taints:
                one.pop("tolerations", None)
            if not gates.consumable_capacity:
                one.pop("capacity", None)
    if not gates.consumable_capacity:
        for constraint in items(obj(spec.get("devices")).get("constraints")):
            obj(constraint).pop("distinctAttribute", None)
