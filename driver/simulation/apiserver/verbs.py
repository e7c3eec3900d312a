"""The verbs of stored resources: get, list, create, update, patch, delete, deletecollection, watch.

Called by `dispatching.Api` once it is known who asks and for what. Each function takes a `Call` and answers a
`Response`; refusals are raised as `ApiError`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import yaml

from driver.simulation.apiserver.filtering import Filter, make_filter
from driver.simulation.apiserver.kinds import Resource
from driver.simulation.apiserver.listing import Page, check_not_future, key_of, read_page
from driver.simulation.apiserver.patches import apply_json_patch, merge
from driver.simulation.apiserver.registry import DeleteOptions, Registry, Write
from driver.simulation.apiserver.requests import TRUE, Request, Response, Route, User, json_response
from driver.simulation.apiserver.statuses import bad_request, failure, success
from driver.simulation.apiserver.storage import Item, Key
from driver.simulation.apiserver.values import Json, JsonObject, encode, items, metadata, obj, plain, text
from driver.simulation.apiserver.watching import Watch, read_watch_options


@dataclass
class Call:
    """One request for a stored resource."""

    request: Request
    route: Route
    resource: Resource
    user: User
    registry: Registry

    @property
    def key(self) -> Key:
        """The key of the object in the path."""
        return (self.route.namespace if self.resource.namespaced else "", self.route.name)

    @property
    def filter(self) -> Filter:
        """The selection of a list, watch or deletecollection."""
        return make_filter(self.resource, self.route.namespace, self.request.query)

    def write(self) -> Write:
        """The options of a write."""
        query = self.request.query
        return Write(
            user=self.user,
            manager=query.get("fieldManager", ""),
            dry_run=query.get("dryRun", "") == "All",
            subresource=self.route.subresource,
        )


def get(call: Call) -> Response:
    """GET of one object."""
    version = call.request.query.get("resourceVersion", "")
    if version:
        check_not_future(call.registry.storage, version)
    return Response(200, call.registry.read(call.resource, call.key).json)


def list_objects(call: Call) -> Response:
    """GET of a collection."""
    return _list_response(call, read_page(call.registry.storage, call.filter, call.request.query))


def _list_response(call: Call, page: Page) -> Response:
    resource = call.resource
    meta: JsonObject = {"resourceVersion": str(page.version)}
    if page.continue_token:
        meta["continue"] = page.continue_token
    if page.remaining is not None:
        meta["remainingItemCount"] = page.remaining
    head = encode({"kind": f"{resource.kind}List", "apiVersion": resource.group_version, "metadata": meta})
    prefix = _prefix_length(resource)
    body = b",".join([b"{" + item.json[prefix:] for item in page.items])
    return Response(200, head[:-1] + b',"items":[' + body + b"]}\n")


def _prefix_length(resource: Resource) -> int:
    """How much of an encoded object is kind and apiVersion, which list items leave out."""
    return len(encode({"kind": resource.kind, "apiVersion": resource.group_version}))


def open_watch(call: Call) -> Watch:
    """A watch of a collection."""
    return Watch(call.registry.storage, call.filter, read_watch_options(call.request.query), _render_json)


def _render_json(item: Item) -> bytes:
    return item.json


def _decode(call: Call, body: bytes) -> JsonObject:
    kind = call.resource.kind
    try:
        if "yaml" in call.request.headers.get("content-type", ""):
            value: Json = yaml.safe_load(body)
        else:
            value = msgspec.json.decode(body)
    except (msgspec.DecodeError, yaml.YAMLError) as error:
        raise bad_request(
            f"the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; "
            f"json parse error: {error}"
        ) from None
    if not isinstance(value, dict):
        raise bad_request(f"the object provided is unrecognized (must be of type {kind}): not an object")
    return _typed(call.resource, value)


def _typed(resource: Resource, value: JsonObject) -> JsonObject:
    """The object with kind and apiVersion first; they must fit the endpoint where given."""
    version = text(value.get("apiVersion")) or resource.group_version
    if version != resource.group_version:
        raise bad_request(
            f"the API version in the data ({version}) does not match the expected API version "
            f"({resource.group_version})"
        )
    typed: JsonObject = {"kind": resource.kind, "apiVersion": resource.group_version, "metadata": {}}
    typed.update({key: item for key, item in value.items() if key not in {"kind", "apiVersion"}})
    typed["metadata"] = dict(obj(typed["metadata"]))
    return typed


def create(call: Call) -> Response:
    """POST of a new object."""
    value = _decode(call, call.request.body)
    item = call.registry.create(call.resource, call.route.namespace, value, call.write())
    return Response(201, item.json)


def update(call: Call) -> Response:
    """PUT of an object or its status."""
    value = _decode(call, call.request.body)
    meta = metadata(value)
    name = text(meta.get("name"))
    if name != call.route.name:
        raise bad_request(
            f"the name of the object ({name}) does not match the name on the URL ({call.route.name})"
            if name
            else "name must be provided"
        )
    item = call.registry.update(call.resource, call.key, lambda _old: value, call.write(), uid=text(meta.get("uid")))
    return Response(200, item.json)


def patch(call: Call) -> Response:
    """PATCH of an object or its status."""
    media = call.request.headers.get("content-type", "").partition(";")[0].strip()
    change = _change_of(call, media)
    item = call.registry.update(
        call.resource, call.key, lambda old: _typed(call.resource, change(obj(plain(old)))), call.write()
    )
    return Response(200, item.json)


def _change_of(call: Call, media: str) -> Callable[[JsonObject], JsonObject]:
    if media not in {
        "application/merge-patch+json",
        "application/json-patch+json",
        "application/strategic-merge-patch+json",
    }:
        raise failure(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})
    try:
        document: Json = msgspec.json.decode(call.request.body)
    except msgspec.DecodeError as error:
        raise bad_request(f"error decoding patch: {error}") from None
    if media == "application/json-patch+json":
        return lambda old: obj(apply_json_patch(old, items(document)))
    return lambda old: obj(merge(old, document))


def _delete_options(call: Call) -> tuple[DeleteOptions, bool]:
    query: JsonObject = {
        "propagationPolicy": call.request.query.get("propagationPolicy"),
        "dryRun": [call.request.query["dryRun"]] if "dryRun" in call.request.query else [],
    }
    if call.request.query.get("gracePeriodSeconds"):
        query["gracePeriodSeconds"] = int(call.request.query["gracePeriodSeconds"])
    body: Json = msgspec.json.decode(call.request.body) if call.request.body else query
    options = obj(body)
    conditions = obj(options.get("preconditions"))
    grace = options.get("gracePeriodSeconds")
    return (
        DeleteOptions(
            text(conditions.get("uid")),
            text(conditions.get("resourceVersion")),
            grace if isinstance(grace, int) else None,
            text(options.get("propagationPolicy")) or "Background",
        ),
        bool(items(options.get("dryRun"))),
    )


def delete(call: Call) -> Response:
    """DELETE of one object."""
    options, dry_run = _delete_options(call)
    write = call.write()
    write.dry_run = dry_run
    value, _gone = call.registry.delete(call.resource, call.key, options, write)
    return json_response(value)


def delete_collection(call: Call) -> Response:
    """DELETE of everything selected."""
    options, dry_run = _delete_options(call)
    write = call.write()
    write.dry_run = dry_run
    with call.registry.storage.lock:
        page = read_page(call.registry.storage, call.filter, {})
        for item in page.items:
            call.registry.delete(call.resource, key_of(item), options, write)
        return _list_response(call, Page(page.items, call.registry.storage.version))


def allowed(verb: str, call: Call) -> bool:
    """Whether the resource (or its subresource) has the verb, and the path fits it."""
    sub = call.route.subresource
    if sub:
        found = call.resource.subresource(sub)
        return found is not None and verb in found.verbs
    return verb in call.resource.verbs


VERBS = {
    "get": get,
    "list": list_objects,
    "create": create,
    "update": update,
    "patch": patch,
    "delete": delete,
    "deletecollection": delete_collection,
}

__all__ = ["TRUE", "VERBS", "Call", "allowed", "open_watch", "success"]
