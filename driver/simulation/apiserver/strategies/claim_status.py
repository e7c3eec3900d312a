"""ResourceClaim status: allocation, reservations and the devices' own status (validation.go and strategy.go, v1.36)."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from driver.simulation.apiserver.checking import (
    Faults,
    Literal,
    check_list,
    check_rules,
    check_set,
    duplicate,
    forbidden,
    invalid,
    plain_label_rules,
    qualified_name_rules,
    required,
    too_long,
    too_many,
    unsupported,
)
from driver.simulation.apiserver.go_values import dump
from driver.simulation.apiserver.strategies.base import World
from driver.simulation.apiserver.strategies.conditions import check_conditions
from driver.simulation.apiserver.strategies.configs import check_opaque, check_raw
from driver.simulation.apiserver.strategies.request_names import (
    check_request_name,
    check_request_names,
    request_names,
)
from driver.simulation.apiserver.strategies.selectors import check_node_selector
from driver.simulation.apiserver.strategies.slices import check_driver, check_pool_name
from driver.simulation.apiserver.strategies.tolerations import check_toleration
from driver.simulation.apiserver.tidying import same
from driver.simulation.apiserver.values import Json, JsonObject, encode, items, metadata, obj, text

MAX_RESULTS: Final = 32
MAX_ALLOCATED_CONFIGS: Final = 64
MAX_RESERVED: Final = 256
MAX_CONDITIONS: Final = 8
MAX_IPS: Final = 16
MAX_INTERFACE: Final = 256
MAX_HARDWARE: Final = 128
_UUID_LENGTH: Final = 36
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_KEYS: Final = ("driver", "pool", "device", "shareID")

DeviceKey = tuple[str, str, str, str]


def device_key(value: Json) -> DeviceKey:
    """Driver, pool, device and share of a result or status entry."""
    entry = obj(value)
    driver, pool, device, share = (text(entry.get(name)) for name in _KEYS)
    return driver, pool, device, share


class ClaimStatusRules:
    """Preparation and validation of a write to resourceclaims/status."""

    def __init__(self, world: World) -> None:
        self._world = world

    def prepare(self, new: JsonObject, old: JsonObject) -> None:
        """Drops device status when the feature is off, and entries whose device was deallocated."""
        status, was = obj(new.get("status")), obj(old.get("status"))
        if not self._world.gates.device_status and not was.get("devices"):
            status.pop("devices", None)
        allocated, before = _allocated(status), _allocated(was)
        gone = before - allocated
        if gone and isinstance(status.get("devices"), list):
            status["devices"] = [entry for entry in items(status["devices"]) if device_key(entry) not in gone]
        if not self._world.gates.consumable_capacity:
            for result in items(obj(obj(status.get("allocation")).get("devices")).get("results")):
                obj(result).pop("shareID", None)
                obj(result).pop("consumedCapacity", None)

    def check(self, new: JsonObject, old: JsonObject) -> Faults:
        """The faults of the new status."""
        status, was = obj(new.get("status")), obj(old.get("status"))
        faults = self._check_reserved(new, status, was)
        faults += _check_devices(status)
        if was.get("allocation") is not None and status.get("allocation") is not None:
            if not same("AllocationResult", status["allocation"], was["allocation"]):
                shown = dump("AllocationResult", status["allocation"])
                faults.append(invalid("status.allocation", shown, "field is immutable"))
        elif status.get("allocation") is not None:
            faults += _check_allocation(obj(status["allocation"]), request_names(obj(new.get("spec"))))
        return faults

    @staticmethod
    def _check_reserved(new: JsonObject, status: JsonObject, was: JsonObject) -> Faults:
        path = "status.reservedFor"
        reserved = items(status.get("reservedFor"))
        faults = check_set(path, reserved, _check_consumer, lambda entry: text(obj(entry).get("uid")), MAX_RESERVED)
        if not reserved:
            return faults
        if status.get("allocation") is None:
            faults.append(forbidden(path, "may not be specified when `allocated` is not set"))
        elif metadata(new).get("deletionTimestamp"):
            known = {text(obj(entry).get("uid")) for entry in items(was.get("reservedFor"))}
            if any(text(obj(entry).get("uid")) not in known for entry in reserved):
                why = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"
                faults.append(forbidden(path, why))
        return faults


def _allocated(status: JsonObject) -> set[DeviceKey]:
    return {device_key(result) for result in items(obj(obj(status.get("allocation")).get("devices")).get("results"))}


def _check_consumer(value: Json, path: str) -> Faults:
    consumer = obj(value)
    return [required(f"{path}.{name}") for name in ("resource", "name", "uid") if not consumer.get(name)]


def _check_allocation(allocation: JsonObject, names: set[str]) -> Faults:
    devices = obj(allocation.get("devices"))
    path = "status.allocation"
    faults = check_list(
        f"{path}.devices.results",
        devices.get("results"),
        lambda entry, at: _check_result(obj(entry), at, names),
        MAX_RESULTS,
    )
    faults += check_list(
        f"{path}.devices.config",
        devices.get("config"),
        lambda entry, at: _check_config(obj(entry), at, names),
        MAX_ALLOCATED_CONFIGS,
    )
    if allocation.get("nodeSelector") is not None:
        faults += check_node_selector(allocation["nodeSelector"], f"{path}.nodeSelector")
    return faults


def _check_result(result: JsonObject, path: str, names: set[str]) -> Faults:
    faults = check_request_name(names, text(result.get("request")), f"{path}.request")
    faults += check_driver(result.get("driver"), f"{path}.driver")
    faults += check_pool_name(result.get("pool"), f"{path}.pool")
    faults += check_rules(f"{path}.device", text(result.get("device")), plain_label_rules)
    faults += check_list(f"{path}.tolerations", result.get("tolerations"), check_toleration)
    for name in ("bindingConditions", "bindingFailureConditions"):
        faults += check_list(
            f"{path}.{name}", result.get(name), lambda entry, at: check_rules(at, entry, qualified_name_rules), 4
        )
    if result.get("shareID") is not None:
        faults += check_share(text(result["shareID"]), f"{path}.shareID")
    return faults


def check_share(share: str, path: str) -> Faults:
    """A share id: an RFC 4122 UUID in lower case."""
    if len(share) != _UUID_LENGTH:
        return [invalid(path, share, f"error validating uid: invalid UUID length: {len(share)}")]
    if not _UUID.fullmatch(share.lower()):
        return [invalid(path, share, "error validating uid: invalid UUID format")]
    if share != share.lower():
        return [invalid(path, share, "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`")]
    return []


def _check_config(config: JsonObject, path: str, names: set[str]) -> Faults:
    source = text(config.get("source"))
    faults: Faults = []
    if not source:
        faults.append(required(f"{path}.source"))
    elif source not in {"FromClaim", "FromClass"}:
        faults.append(unsupported(f"{path}.source", source, ("FromClaim", "FromClass")))
    faults += check_request_names(names, config.get("requests"), f"{path}.requests")
    return faults + check_opaque(config.get("opaque"), path)


def _check_devices(status: JsonObject) -> Faults:
    allocated = _allocated(status)
    faults: Faults = []
    seen: set[DeviceKey] = set()
    for index, entry in enumerate(items(status.get("devices"))):
        path = f"status.devices[{index}]"
        key = device_key(entry)
        faults += _check_device_status(obj(entry), path)
        if key in seen:
            faults.append(duplicate(path, _shown(key)))
        seen.add(key)
        if key not in allocated:
            faults.append(invalid(path, _shown(key), "must be an allocated device in the claim"))
    return faults


def _shown(key: DeviceKey) -> Json:
    return Literal(encode(dict(zip(("Driver", "Pool", "Device", "ShareID"), key, strict=True))).decode())


def _check_device_status(entry: JsonObject, path: str) -> Faults:
    faults = check_driver(entry.get("driver"), f"{path}.driver")
    faults += check_pool_name(entry.get("pool"), f"{path}.pool")
    faults += check_rules(f"{path}.device", text(entry.get("device")), plain_label_rules)
    if entry.get("shareID") is not None:
        faults += check_share(text(entry["shareID"]), f"{path}.shareID")
    conditions = items(entry.get("conditions"))
    if len(conditions) > MAX_CONDITIONS:
        faults.append(too_many(f"{path}.conditions", len(conditions), MAX_CONDITIONS))
    else:
        faults += check_conditions(conditions, f"{path}.conditions")
    faults += check_raw(entry.get("data"), f"{path}.data", needed=False)
    return faults + _check_network(obj(entry.get("networkData")), f"{path}.networkData")


def _check_network(network: JsonObject, path: str) -> Faults:
    faults: Faults = []
    if len(text(network.get("interfaceName")).encode()) > MAX_INTERFACE:
        faults.append(too_long(f"{path}.interfaceName", MAX_INTERFACE))
    if len(text(network.get("hardwareAddress")).encode()) > MAX_HARDWARE:
        faults.append(too_long(f"{path}.hardwareAddress", MAX_HARDWARE))
    ips = items(network.get("ips"))
    faults += check_list(f"{path}.ips", ips, _check_address, MAX_IPS)
    if len(ips) <= MAX_IPS:
        faults += [duplicate(f"{path}.ips[{i}]", ip) for i, ip in enumerate(ips) if ip in ips[:i]]
    return faults


def _check_address(value: Json, path: str) -> Faults:
    canonical = _canonical_address(text(value))
    if canonical is None:
        return [invalid(path, value, "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)")]
    if canonical != value:
        return [invalid(path, value, f'must be in canonical form ("{canonical}")')]
    return []


def _canonical_address(given: str) -> str | None:
    """The address and prefix length as the API wants them written; None if it is none."""
    address, slash, length = given.partition("/")
    plain = ".".join(part.lstrip("0") or "0" for part in address.split(".")) if ":" not in address else address
    try:
        canonical = f"{ipaddress.ip_address(plain)}/{int(length)}"
        ipaddress.ip_interface(canonical)
    except ValueError:
        return None
    return canonical if slash else None
