"""Subresources that do something of their own: pods/binding, pods/eviction, namespaces/finalize.

Called by the dispatcher. Tokens (serviceaccounts/token) live with authentication.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from driver.simulation.apiserver.bodies import decode_object, decode_plain, json_body
from driver.simulation.apiserver.deleting import DeleteOptions
from driver.simulation.apiserver.registry import uid_mismatch
from driver.simulation.apiserver.requests import Response, json_response
from driver.simulation.apiserver.statuses import conflict, success
from driver.simulation.apiserver.values import Json, JsonObject, items, metadata, obj, text
from driver.simulation.apiserver.verbs import Call, answer


def bind(call: Call) -> Response:
    """POST pods/NAME/binding: what a scheduler does at the end."""
    tree: Json = msgspec.json.decode(json_body(call.request, "Binding"))
    binding = decode_plain("Binding", {key: item for key, item in obj(tree).items() if key not in _TYPE})
    pod = call.registry.read(call.resource, call.key)
    uid, current = text(metadata(binding).get("uid")), text(metadata(pod.value).get("uid"))
    if uid and uid != current:
        raise conflict("", "pods", call.route.name, uid_mismatch(call.resource, call.key, uid, current))
    spec = obj(pod.value.get("spec"))
    why = ""
    if metadata(pod.value).get("deletionTimestamp"):
        why = f"pod {call.route.name} is being deleted, cannot be assigned to a host"
    elif spec.get("schedulingGates"):
        why = f"pod {call.route.name} has non-empty .spec.schedulingGates"
    elif spec.get("nodeName"):
        why = f'pod {call.route.name} is already assigned to node "{text(spec["nodeName"])}"'
    if why:
        raise conflict("", "pods/binding", call.route.name, why)
    node = text(obj(binding.get("target")).get("name"))
    now = call.registry.world.sources.timestamp()
    call.registry.update(call.resource, call.key, lambda old: _bound(old, binding, node, now), call.write())
    return json_response({**success(), "code": 201}, 201)


_TYPE: Final = frozenset({"kind", "apiVersion"})


def _bound(pod: JsonObject, binding: JsonObject, node: str, now: str) -> JsonObject:
    obj(pod.get("spec"))["nodeName"] = node
    annotations = obj(metadata(binding).get("annotations"))
    if annotations:
        metadata(pod)["annotations"] = {**obj(metadata(pod).get("annotations")), **annotations}
    status = obj(pod.get("status"))
    scheduled: JsonObject = {"type": "PodScheduled", "status": "True", "lastTransitionTime": now}
    others: list[Json] = [one for one in items(status.get("conditions")) if obj(one).get("type") != "PodScheduled"]
    status["conditions"] = [*others, scheduled]
    return pod


def evict(call: Call) -> Response:
    """POST pods/NAME/eviction: a deletion (there are no disruption budgets here)."""
    tree: Json = msgspec.json.decode(json_body(call.request, "Eviction"))
    eviction = decode_plain("Eviction", {key: item for key, item in obj(tree).items() if key not in _TYPE})
    options = obj(eviction.get("deleteOptions"))
    grace = options.get("gracePeriodSeconds")
    uid = text(obj(options.get("preconditions")).get("uid"))
    read = DeleteOptions(uid, grace=grace if isinstance(grace, int) else None)
    call.registry.delete(call.resource, call.key, read, call.write())
    return json_response({**success(), "code": 201}, 201)


def finalize(call: Call) -> Response:
    """PUT namespaces/NAME/finalize: the last finalizer gone removes the namespace."""
    write = call.write()
    value = decode_object(call.request, call.view, write.warnings)
    return answer(call, call.registry.update(call.resource, call.key, lambda _old: value, write), write)


SPECIAL: Final[dict[tuple[str, str], Callable[[Call], Response]]] = {
    ("pods", "binding"): bind,
    ("pods", "eviction"): evict,
    ("namespaces", "finalize"): finalize,
}
