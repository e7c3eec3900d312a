"""ResourceSlice: validation, dropped fields and immutable ones (registry/resource/resourceslice, v1.36)."""

from __future__ import annotations

from typing import Final

from driver.model.slices import (
    MAX_COUNTER_SETS,
    MAX_COUNTERS_PER_SET,
    MAX_DEVICES,
    MAX_DEVICES_WITH_TAINTS_OR_COUNTERS,
)
from driver.simulation.apiserver.checking import (
    MAX_SUBDOMAIN,
    Faults,
    check_map,
    check_rules,
    check_set,
    invalid,
    name_key,
    nothing,
    plain_label_rules,
    required,
    subdomain_rules,
    too_long,
)
from driver.simulation.apiserver.strategies.base import Strategy
from driver.simulation.apiserver.strategies.devices import check_counter_key, check_device, set_of
from driver.simulation.apiserver.strategies.selectors import check_single_term
from driver.simulation.apiserver.values import Json, JsonObject, items, obj, text

MAX_DRIVER: Final = 63
_SELECTIONS: Final = ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection")
_ONE_SELECTION: Final = f"exactly one of {', '.join(f'`{name}`' for name in _SELECTIONS)} is required"


class SliceStrategy(Strategy):
    """ResourceSlices."""

    def prepare_create(self, value: JsonObject) -> None:
        """Drops fields of features that are off."""
        self._drop(value, {})

    def prepare_update(self, new: JsonObject, old: JsonObject) -> None:
        """The same, but a field that is in use already stays usable."""
        self._drop(new, old)

    def default(self, value: JsonObject) -> None:
        """A taint without a time gets the current one."""
        for device in items(obj(value.get("spec")).get("devices")):
            for taint in items(obj(device).get("taints")):
                obj(taint).setdefault("timeAdded", self.world.sources.timestamp())

    def _drop(self, new: JsonObject, old: JsonObject) -> None:
        gates = self.world.gates
        spec, was = obj(new.get("spec")), obj(old.get("spec"))
        if not gates.partitionable_devices and not _uses(was, ("consumesCounters",), ("sharedCounters",)):
            spec.pop("sharedCounters", None)
            spec.pop("perDeviceNodeSelection", None)
            _drop_fields(spec, ("consumesCounters", "nodeName", "nodeSelector", "allNodes"))
        if not gates.device_taints and not _uses(was, ("taints",)):
            _drop_fields(spec, ("taints",))
        if not gates.binding_conditions and not _uses(was, ("bindingConditions",)):
            _drop_fields(spec, ("bindsToNode", "bindingConditions", "bindingFailureConditions"))
        if not gates.consumable_capacity and not _uses(was, ("allowMultipleAllocations",)):
            _drop_fields(spec, ("allowMultipleAllocations",))
            for device in items(spec.get("devices")):
                for capacity in obj(obj(device).get("capacity")).values():
                    obj(capacity).pop("requestPolicy", None)
        if not gates.node_allocatable and not _uses(was, ("nodeAllocatableResourceMappings",)):
            _drop_fields(spec, ("nodeAllocatableResourceMappings",))
        if not gates.list_attributes:
            _drop_lists(spec)

    def validate(self, new: JsonObject, old: JsonObject | None, subresource: str) -> Faults:
        """The whole spec; on update also what may not change."""
        del subresource
        spec = obj(new.get("spec"))
        faults = self._check_spec(spec)
        if old is None:
            return faults
        was = obj(old.get("spec"))
        for path, now, before in (
            ("spec.driver", spec.get("driver"), was.get("driver")),
            ("spec.pool.name", obj(spec.get("pool")).get("name"), obj(was.get("pool")).get("name")),
            ("spec.nodeName", spec.get("nodeName"), was.get("nodeName")),
        ):
            if now != before:
                faults.append(invalid(path, now, "field is immutable"))
        return faults

    def _check_spec(self, spec: JsonObject) -> Faults:
        faults = check_driver(spec.get("driver"), "spec.driver")
        faults += _check_pool(obj(spec.get("pool")), "spec.pool")
        faults += _check_selection(spec)
        gates = self.world.gates
        both = spec.get("sharedCounters") is not None and spec.get("devices") is not None
        if both and gates.small_slices:
            faults.append(invalid("spec", "", "only one of `sharedCounters` or `devices` is allowed"))
        per_device = spec.get("perDeviceNodeSelection") is True
        faults += check_set(
            "spec.devices",
            spec.get("devices"),
            lambda device, path: check_device(device, path, per_device=per_device),
            name_key,
            _device_limit(spec) if gates.small_slices else MAX_DEVICES,
        )
        return faults + check_set(
            "spec.sharedCounters", spec.get("sharedCounters"), _check_counter_set, name_key, MAX_COUNTER_SETS
        )

    def warnings(self, new: JsonObject, old: JsonObject | None) -> list[str]:
        """Driver names should be lower case."""
        del old
        return driver_warning(obj(new.get("spec")).get("driver"), "spec.driver")


def driver_warning(value: Json, path: str) -> list[str]:
    """The Warning about upper case in a driver's name."""
    driver = text(value)
    if driver == driver.lower():
        return []
    return [f'{path}: driver names should be lowercase; "{driver}" contains uppercase characters']


def check_driver(value: Json, path: str) -> Faults:
    """A driver's name: a subdomain of 63 bytes, upper case allowed."""
    driver = text(value)
    if not driver:
        return [required(path)]
    if len(driver.encode()) > MAX_DRIVER:
        return [too_long(path, MAX_DRIVER)]
    return [invalid(path, driver, why) for why in subdomain_rules(driver.lower())]


def check_pool_name(value: Json, path: str) -> Faults:
    """A pool's name: subdomains separated by slashes."""
    name = text(value)
    if not name:
        return [required(path)]
    faults: Faults = [too_long(path, MAX_SUBDOMAIN)] if len(name.encode()) > MAX_SUBDOMAIN else []
    for part in name.split("/"):
        faults += check_rules(path, part, subdomain_rules)
    return faults


def _check_pool(pool: JsonObject, path: str) -> Faults:
    faults = check_pool_name(pool.get("name"), f"{path}.name")
    count, generation = pool.get("resourceSliceCount", 0), pool.get("generation", 0)
    if not isinstance(count, int) or count <= 0:
        faults.append(invalid(f"{path}.resourceSliceCount", count, "must be greater than zero"))
    if not isinstance(generation, int) or generation < 0:
        faults.append(invalid(f"{path}.generation", generation, "must be greater than or equal to zero"))
    return faults


def _check_selection(spec: JsonObject) -> Faults:
    faults: Faults = []
    if spec.get("nodeName") is not None:
        faults += check_rules("spec.nodeName", spec["nodeName"], subdomain_rules)
    if spec.get("nodeSelector") is not None:
        faults += check_single_term(spec["nodeSelector"], "spec.nodeSelector")
    for name in ("allNodes", "perDeviceNodeSelection"):
        if spec.get(name) is False:
            faults.append(invalid(f"spec.{name}", False, "must be either unset or set to true"))
    given = [name for name in _SELECTIONS if spec.get(name)]
    if not given:
        faults.append(required("spec", _ONE_SELECTION))
    elif len(given) > 1:
        faults.append(invalid("spec", set_of(given), f"{_ONE_SELECTION}, but multiple fields are set"))
    return faults


def _device_limit(spec: JsonObject) -> int:
    for device in items(spec.get("devices")):
        lists = any(
            name in obj(attribute)
            for attribute in obj(obj(device).get("attributes")).values()
            for name in ("ints", "bools", "strings", "versions")
        )
        if obj(device).get("taints") or obj(device).get("consumesCounters") or lists:
            return MAX_DEVICES_WITH_TAINTS_OR_COUNTERS
    return MAX_DEVICES


def _check_counter_set(value: Json, path: str) -> Faults:
    counter_set = obj(value)
    name = text(counter_set.get("name"))
    faults = check_rules(f"{path}.name", name, plain_label_rules) if name else [required(f"{path}.name")]
    counters = obj(counter_set.get("counters"))
    if not counters:
        return [*faults, required(f"{path}.counters")]
    return faults + check_map(f"{path}.counters", counters, MAX_COUNTERS_PER_SET, check_counter_key, nothing)


def _uses(spec: JsonObject, device_fields: tuple[str, ...], spec_fields: tuple[str, ...] = ()) -> bool:
    return any(spec.get(name) for name in spec_fields) or any(
        name in obj(device) for device in items(spec.get("devices")) for name in device_fields
    )


def _drop_fields(spec: JsonObject, names: tuple[str, ...]) -> None:
    for device in items(spec.get("devices")):
        for name in names:
            obj(device).pop(name, None)


def _drop_lists(spec: JsonObject) -> None:
    for device in items(spec.get("devices")):
        for attribute in obj(obj(device).get("attributes")).values():
            for name in ("ints", "bools", "strings", "versions"):
                obj(attribute).pop(name, None)
