"""References to requests inside a claim: in constraints, configs and allocation results."""

from __future__ import annotations

from typing import Final

from driver.simulation.apiserver.checking import Faults, check_set, invalid, name_key, same_key
from driver.simulation.apiserver.values import Json, JsonObject, items, obj, text

MAX_REQUESTS: Final = 32
_BAD_REQUEST_NAME: Final = (
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
)


def request_names(spec: JsonObject) -> set[str]:
    """Every name a config, constraint or result may refer to: requests and request/subrequest."""
    names: set[str] = set()
    for entry in items(obj(spec.get("devices")).get("requests")):
        name = name_key(entry)
        names.add(name)
        names |= {f"{name}/{name_key(sub)}" for sub in items(obj(entry).get("firstAvailable"))}
    return names


def check_request_name(names: set[str], value: Json, path: str) -> Faults:
    """One reference to a request."""
    return [] if text(value) in names else [invalid(path, value, _BAD_REQUEST_NAME)]


def check_request_names(names: set[str], value: Json, path: str) -> Faults:
    """A list of references to requests."""
    return check_set(path, value, lambda name, at: check_request_name(names, name, at), same_key, MAX_REQUESTS)
