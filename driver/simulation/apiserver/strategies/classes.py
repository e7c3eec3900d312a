"""DeviceClass and ResourceClaimTemplate (registry/resource/deviceclass and resourceclaimtemplate, v1.36)."""

from __future__ import annotations

import re
from typing import Final

from driver.simulation.apiserver.checking import (
    Faults,
    check_list,
    forbidden,
    invalid,
    qualified_name_rules,
)
from driver.simulation.apiserver.strategies.base import Strategy
from driver.simulation.apiserver.strategies.claims import (
    ADMIN_LABEL,
    ClaimSpecRules,
    check_admin_access,
    check_immutable_spec,
    default_spec,
    drop_disabled,
)
from driver.simulation.apiserver.strategies.configs import MAX_CONFIGS, check_opaque
from driver.simulation.apiserver.strategies.selectors import check_selectors
from driver.simulation.apiserver.values import Json, JsonObject, metadata, obj, text

_NATIVE: Final = re.compile(r"(^|\.)kubernetes\.io/")
_FORBIDDEN_METADATA: Final = (
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "ownerReferences",
    "finalizers",
    "managedFields",
)


def _is_extended(name: str) -> bool:
    """IsExtendedResourceName: a qualified name with a domain that is not Kubernetes' own."""
    if "/" not in name or _NATIVE.search(name) or name.startswith("requests."):
        return False
    return not qualified_name_rules(f"requests.{name}")


class ClassStrategy(Strategy):
    """DeviceClasses."""

    def prepare_create(self, value: JsonObject) -> None:
        """Drops the extended resource's name when the feature is off."""
        if not self.world.gates.extended_resource:
            obj(value.get("spec")).pop("extendedResourceName", None)

    def prepare_update(self, new: JsonObject, old: JsonObject) -> None:
        """The same, unless it is in use."""
        if obj(old.get("spec")).get("extendedResourceName") is None:
            self.prepare_create(new)

    def validate(self, new: JsonObject, old: JsonObject | None, subresource: str) -> Faults:
        """Selectors, configs and the extended resource's name."""
        del old, subresource
        spec = obj(new.get("spec"))
        faults = check_selectors(spec.get("selectors"), "spec.selectors", self.world.cel_fault)
        faults += check_list(
            "spec.config", spec.get("config"), lambda entry, at: check_opaque(obj(entry).get("opaque"), at), MAX_CONFIGS
        )
        name = spec.get("extendedResourceName")
        if name is not None and not _is_extended(text(name)):
            faults.append(invalid("spec.extendedResourceName", name, "must be a valid extended resource name"))
        return faults


class TemplateStrategy(Strategy):
    """ResourceClaimTemplates."""

    def prepare_create(self, value: JsonObject) -> None:
        """Drops fields of features that are off."""
        drop_disabled(obj(obj(value.get("spec")).get("spec")), self.world.gates)

    def default(self, value: JsonObject) -> None:
        """The defaults of the claim inside."""
        default_spec(obj(obj(value.get("spec")).get("spec")))

    def validate(self, new: JsonObject, old: JsonObject | None, subresource: str) -> Faults:
        """Template metadata and claim spec on create; nothing may change afterwards."""
        del subresource
        if old is not None:
            return check_immutable_spec("ResourceClaimTemplateSpec", new, old)
        spec = obj(new.get("spec"))
        faults = _check_template_metadata(spec.get("metadata"))
        faults += ClaimSpecRules(self.world.cel_fault).check(obj(spec.get("spec")), "spec.spec")
        return faults + self._check_admin(new)

    def _check_admin(self, value: JsonObject) -> Faults:
        namespace = self.world.lookup("namespaces", ("", text(metadata(value).get("namespace"))))
        if obj(metadata(namespace or {}).get("labels")).get(ADMIN_LABEL) == "true":
            return []
        return check_admin_access(obj(obj(value.get("spec")).get("spec")), "spec.spec")


def _check_template_metadata(value: Json) -> Faults:
    meta = obj(value)
    return [
        forbidden(f"spec.metadata.{name}", "cannot be set")
        for name in _FORBIDDEN_METADATA
        if meta.get(name) is not None and meta.get(name) != ""
    ]
