"""Devices of a ResourceSlice: what the API server checks about each (validation.go of resource.k8s.io, v1.36).

Called by the slice strategy. Limits are those of the shared model where it names them.
"""

from __future__ import annotations

import re
from typing import Final

from driver.model import quantities
from driver.model.slices import (
    MAX_ATTRIBUTES_AND_CAPACITIES,
    MAX_COUNTER_CONSUMPTIONS,
    MAX_COUNTERS_PER_SET,
    MAX_TAINTS,
    MAX_TEXT,
)
from driver.simulation.apiserver.checking import (
    Faults,
    check_list,
    check_map,
    check_rules,
    check_set,
    duplicate,
    forbidden,
    identifier_rules,
    invalid,
    label_rules,
    label_value_rules,
    nothing,
    plain_label_rules,
    qualified_name_rules,
    required,
    subdomain_rules,
    too_long,
    unsupported,
)
from driver.simulation.apiserver.go_values import dump
from driver.simulation.apiserver.strategies.capacities import check_policy
from driver.simulation.apiserver.strategies.selectors import check_node_selector
from driver.simulation.apiserver.values import Json, items, obj, text

MAX_DOMAIN: Final = 63
MAX_IDENTIFIER: Final = 32
MAX_BINDING_CONDITIONS: Final = 4
EFFECTS: Final = ("NoExecute", "NoSchedule", "None")
_SEMVER: Final = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-((0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(\+([0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*))?",
    re.ASCII,
)
_VALUES: Final = ("int", "bool", "string", "version", "ints", "bools", "strings", "versions")


def check_device(value: Json, path: str, *, per_device: bool) -> Faults:
    """Everything about one device. `per_device`: the slice leaves node selection to its devices."""
    device = obj(value)
    attributes, capacity = obj(device.get("attributes")), obj(device.get("capacity"))
    faults = check_rules(f"{path}.name", text(device.get("name")), label_rules)
    total = len(attributes) + len(capacity)
    if total > MAX_ATTRIBUTES_AND_CAPACITIES:
        why = f"the total number of attributes and capacities must not exceed {MAX_ATTRIBUTES_AND_CAPACITIES}"
        faults.append(invalid(path, total, why))
    shared = device.get("allowMultipleAllocations") is True
    faults += check_map(f"{path}.attributes", attributes, -1, check_qualified_key, _check_attribute)
    faults += check_map(
        f"{path}.capacity",
        capacity,
        -1,
        check_qualified_key,
        lambda entry, at: _check_capacity(entry, at, shared=shared),
    )
    faults += check_list(f"{path}.taints", device.get("taints"), _check_taint, MAX_TAINTS)
    faults += check_set(
        f"{path}.consumesCounters",
        device.get("consumesCounters"),
        _check_consumption,
        lambda entry: text(obj(entry).get("counterSet")),
        MAX_COUNTER_CONSUMPTIONS,
    )
    faults += _check_node_selection(device, path, per_device=per_device)
    return faults + _check_binding(device, path)


def check_qualified_key(key: Json, path: str) -> Faults:
    """A QualifiedName: an optional domain and a C identifier. Names with two slashes pass, as upstream."""
    parts = text(key).split("/")
    if len(parts) == 1:
        return _check_identifier(parts[0], path)
    if len(parts) > 2:
        return []
    faults = _check_domain(parts[0], path) if parts[0] else [invalid(path, "", "the domain must not be empty")]
    return faults + (
        _check_identifier(parts[1], path) if parts[1] else [invalid(path, "", "the name must not be empty")]
    )


def _check_identifier(name: str, path: str) -> Faults:
    if len(name.encode()) > MAX_IDENTIFIER:
        return [too_long(path, MAX_IDENTIFIER)]
    return check_rules(path, name, identifier_rules)


def _check_domain(name: str, path: str) -> Faults:
    if len(name.encode()) > MAX_DOMAIN:
        return [too_long(path, MAX_DOMAIN)]
    return check_rules(path, name, subdomain_rules)


def check_full_name(value: Json, path: str) -> Faults:
    """A FullyQualifiedName: domain and identifier, both there."""
    if not text(value):
        return [required(path, "name required")]
    if "/" not in text(value):
        return [invalid(path, value, "a fully qualified name must be a domain and a name separated by a slash")]
    return check_qualified_key(value, path)


def _check_attribute(value: Json, path: str) -> Faults:
    attribute = obj(value)
    given = [name for name in _VALUES if attribute.get(name) is not None]
    if not given:
        return [invalid(path, "", "exactly one value must be specified")]
    faults = _check_texts(attribute, path)
    if len(given) > 1:
        faults.append(invalid(path, dump("DeviceAttribute", value), "exactly one value must be specified"))
    return faults


def _check_texts(attribute: dict[str, Json], path: str) -> Faults:
    faults: Faults = []
    for name in ("string", "version"):
        if attribute.get(name) is not None:
            faults += _check_text(name, attribute[name], f"{path}.{name}")
        for index, entry in enumerate(items(attribute.get(f"{name}s"))):
            faults += _check_text(name, entry, f"{path}.{name}s[{index}]")
    return faults


def _check_text(kind: str, value: Json, path: str) -> Faults:
    if len(text(value).encode()) > MAX_TEXT:
        return [too_long(path, MAX_TEXT)]
    if kind == "version" and not _SEMVER.fullmatch(text(value)):
        return [invalid(path, value, "must be a string compatible with semver.org spec 2.0.0")]
    return []


def _check_capacity(value: Json, path: str, *, shared: bool) -> Faults:
    capacity = obj(value)
    policy = capacity.get("requestPolicy")
    if policy is None:
        return []
    if not shared:
        return [forbidden(f"{path}.requestPolicy", "allowMultipleAllocations must be true")]
    return check_policy(obj(policy), quantities.parse(text(capacity.get("value")) or "0"), f"{path}.requestPolicy")


def _check_taint(value: Json, path: str) -> Faults:
    taint = obj(value)
    faults = check_rules(f"{path}.key", text(taint.get("key")), qualified_name_rules)
    if taint.get("value"):
        faults += check_rules(f"{path}.value", taint["value"], label_value_rules)
    effect = text(taint.get("effect"))
    if not effect:
        faults.append(required(f"{path}.effect"))
    elif effect not in EFFECTS:
        faults.append(unsupported(f"{path}.effect", effect, EFFECTS))
    return faults


def check_counter_key(key: Json, path: str) -> Faults:
    """A counter's name: a DNS label, reported at the map."""
    return check_rules(path, key, plain_label_rules)


def _check_consumption(value: Json, path: str) -> Faults:
    consumption = obj(value)
    faults: Faults = []
    if not consumption.get("counterSet"):
        faults.append(required(f"{path}.counterSet"))
    counters = obj(consumption.get("counters"))
    if not counters:
        return [*faults, required(f"{path}.counters")]
    return faults + check_map(f"{path}.counters", counters, MAX_COUNTERS_PER_SET, check_counter_key, nothing)


def _check_node_selection(device: dict[str, Json], path: str, *, per_device: bool) -> Faults:
    given = [name for name in ("nodeName", "nodeSelector", "allNodes") if device.get(name) is not None]
    if not per_device:
        if not given:
            return []
        why = (
            "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true "
            "in the ResourceSlice spec"
        )
        return [invalid(path, None, why)]
    faults: Faults = []
    if "nodeName" in given:
        faults += check_rules(f"{path}.nodeName", device["nodeName"], subdomain_rules)
    if "nodeSelector" in given:
        faults += check_node_selector(device["nodeSelector"], f"{path}.nodeSelector")
    if device.get("allNodes") is False:
        faults.append(invalid(f"{path}.allNodes", False, "must be either unset or set to true"))
    return faults + _check_one_selection(given, path)


def _check_one_selection(given: list[str], path: str) -> Faults:
    why = (
        "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to "
        "true in the ResourceSlice spec"
    )
    if not given:
        return [required(path, why)]
    if len(given) > 1:
        return [invalid(path, set_of(given), why)]
    return []


def set_of(names: list[str]) -> str:
    """Field names as upstream lists those that are set."""
    return "{" + ", ".join(f"`{name}`" for name in names) + "}"


def _check_binding(device: dict[str, Json], path: str) -> Faults:
    ready, failed = items(device.get("bindingConditions")), items(device.get("bindingFailureConditions"))
    faults = _check_conditions(ready, f"{path}.bindingConditions")
    faults += _check_conditions(failed, f"{path}.bindingFailureConditions")
    if ready and not failed:
        why = "bindingFailureConditions are required to use bindingConditions"
        faults.append(invalid(f"{path}.bindingFailureConditions", None, why))
    if failed and not ready:
        why = "bindingConditions are required to use bindingFailureConditions"
        faults.append(invalid(f"{path}.bindingConditions", None, why))
    for index, name in enumerate(failed):
        if name in ready:
            why = "bindingFailureConditions must not overlap with bindingConditions"
            faults.append(invalid(f"{path}.bindingFailureConditions[{index}]", name, why))
    return faults


def _check_conditions(names: list[Json], path: str) -> Faults:
    faults = check_list(
        path, names, lambda name, at: check_rules(at, name, qualified_name_rules), MAX_BINDING_CONDITIONS
    )
    if len(names) > MAX_BINDING_CONDITIONS:
        return faults
    faults += [duplicate(f"{path}[{i}]", name) for i, name in enumerate(names) if name in names[:i]]
    return faults
