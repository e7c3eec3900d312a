"""The verbs of stored resources: get, list, create, update, patch, delete, deletecollection, watch.

Called by `dispatching.Api` once it is known who asks and for what. Each function takes a `Call` and answers a
`Response`; refusals are raised as `ApiError`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from driver.simulation.apiserver.bodies import check_names, check_write_options, decode_object, delete_options
from driver.simulation.apiserver.deleting import DeleteOptions
from driver.simulation.apiserver.filtering import Filter, make_filter
from driver.simulation.apiserver.kinds import Resource
from driver.simulation.apiserver.listing import Page, check_not_future, key_of, read_page
from driver.simulation.apiserver.patching import APPLY, Apply, Patch, patch_media
from driver.simulation.apiserver.registry import Registry, Write
from driver.simulation.apiserver.representing import Representation, check_form, negotiate, wants_list_form
from driver.simulation.apiserver.requests import Request, Response, Route, User, json_response
from driver.simulation.apiserver.schemas import struct_of
from driver.simulation.apiserver.statuses import success
from driver.simulation.apiserver.storage import Item, Key
from driver.simulation.apiserver.tidying import tidy
from driver.simulation.apiserver.values import JsonObject, items, metadata, obj, text
from driver.simulation.apiserver.views import View
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

    @cached_property
    def view(self) -> View:
        """The version the path asks for."""
        return View(self.resource, self.route.version)

    @property
    def filter(self) -> Filter:
        """The selection of a list, watch or deletecollection."""
        query = dict(self.request.query)
        if self.route.watch and self.route.name:
            query["fieldSelector"] = f"metadata.name={self.route.name}"
        return make_filter(self.resource, self.route.namespace, query, self.route.version)

    @property
    def representation(self) -> Representation:
        """How the answer shall look."""
        accept = self.request.headers.get("accept", "")
        return Representation(
            self.view,
            negotiate(accept),
            self.request.query,
            self.registry.world.sources.now,
            wants_list_form(accept),
        )

    def write(self) -> Write:
        """The options of a write."""
        query = self.request.query
        return Write(
            user=self.user,
            manager=query.get("fieldManager", "") or _manager_of(self.request.headers.get("user-agent", "")),
            api_version=self.view.group_version,
            dry_run=query.get("dryRun", "") == "All",
            subresource=self.route.subresource,
        )


def _manager_of(agent: str) -> str:
    """The field manager of a client that names none: its User-Agent up to the slash."""
    return agent.partition("/")[0][:128] or "unknown"


def answer(call: Call, item: Item, write: Write | None = None, status: int = 200) -> Response:
    """One object as the client wants it, with the warnings of the write."""
    response = call.representation.one(item, status)
    if write is not None:
        response.warnings += write.warnings
    if call.view.warning:
        response.warnings.append(call.view.warning)
    return response


def get(call: Call) -> Response:
    """GET of one object."""
    check_form(call.representation, is_list=False)
    version = call.request.query.get("resourceVersion", "")
    if version:
        check_not_future(call.registry.storage, version)
    return answer(call, call.registry.read(call.resource, call.key))


def list_objects(call: Call) -> Response:
    """GET of a collection."""
    representation = call.representation
    check_form(representation, is_list=True)
    response = representation.page(read_page(call.registry.storage, call.filter, call.request.query))
    if call.view.warning:
        response.warnings.append(call.view.warning)
    return response


def open_watch(call: Call) -> Watch:
    """A watch of a collection."""
    options = read_watch_options(call.request.query)
    return Watch(call.registry.storage, call.filter, options, call.representation.event)


def create(call: Call) -> Response:
    """POST of a new object."""
    check_write_options(call.request.query, "CreateOptions")
    write = call.write()
    value = decode_object(call.request, call.view, write.warnings)
    item = call.registry.create(call.resource, call.route.namespace, value, write)
    return answer(call, item, write, 201)


def update(call: Call) -> Response:
    """PUT of an object or its status; creates it where the kind allows that."""
    check_write_options(call.request.query, "UpdateOptions")
    write = call.write()
    value = decode_object(call.request, call.view, write.warnings)
    check_names(value, call.key)
    with call.registry.storage.lock:
        missing = call.registry.storage.get(call.resource.stored, call.key) is None
        if missing and call.resource.create_on_update and not call.route.subresource:
            metadata(value).pop("resourceVersion", None)
            return answer(call, call.registry.create(call.resource, call.route.namespace, value, write), write, 201)
        uid = text(metadata(value).get("uid"))
        item = call.registry.update(call.resource, call.key, lambda _old: value, write, uid=uid)
    return answer(call, item, write)


def patch(call: Call) -> Response:
    """PATCH of an object or its status; apply creates what is missing."""
    media = patch_media(call.request)
    check_write_options(call.request.query, "PatchOptions")
    write = call.write()
    write.guarded = False
    write.verb = "patch"
    if media == APPLY:
        return _apply(call, write)
    change = Patch(call.view, call.request, media, write.warnings).change
    return answer(call, call.registry.update(call.resource, call.key, change, write), write)


def _apply(call: Call, write: Write) -> Response:
    write.applied = True
    now = call.registry.world.sources.timestamp()
    apply = Apply(call.view, call.request, call.key, call.route.subresource, now)
    with call.registry.storage.lock:
        stored = call.resource.stored
        if call.route.subresource or call.registry.storage.get(stored, call.key) is not None:
            return answer(call, call.registry.update(call.resource, call.key, apply.change, write), write)
        blank = tidy(struct_of(stored.group, stored.kind), {})
        blank |= {"kind": stored.kind, "apiVersion": stored.group_version}
        value = apply.change(blank)
        return answer(call, call.registry.create(call.resource, call.route.namespace, value, write), write, 201)


def _read_delete_options(call: Call) -> tuple[DeleteOptions, Write]:
    options = delete_options(call.request)
    conditions = obj(options.get("preconditions"))
    grace = options.get("gracePeriodSeconds")
    write = call.write()
    write.dry_run = bool(items(options.get("dryRun")))
    read = DeleteOptions(
        text(conditions.get("uid")),
        text(conditions.get("resourceVersion")),
        grace if isinstance(grace, int) else None,
        text(options.get("propagationPolicy")),
    )
    return read, write


def delete(call: Call) -> Response:
    """DELETE of one object: the object, or a Status for the kinds that answer so."""
    options, write = _read_delete_options(call)
    value, gone = call.registry.delete(call.resource, call.key, options, write)
    return deleted(call, value, gone=gone)


def deleted(call: Call, value: JsonObject, *, gone: bool) -> Response:
    """The answer to a deletion."""
    if not gone or call.resource.shows_deleted:
        version = text(metadata(value).get("resourceVersion"))
        renderer = call.registry.storage.renderer(call.resource.stored)
        return answer(call, Item(value, int(version or 0), renderer))
    details: JsonObject = {"name": call.route.name}
    if call.resource.group:
        details["group"] = call.resource.group
    details |= {"kind": call.resource.plural, "uid": metadata(value).get("uid")}
    return json_response(success(details))


def delete_collection(call: Call) -> Response:
    """DELETE of everything selected; answers the list as it was."""
    options, write = _read_delete_options(call)
    with call.registry.storage.lock:
        query = {key: item for key, item in call.request.query.items() if key in {"labelSelector", "fieldSelector"}}
        page = read_page(call.registry.storage, call.filter, query)
        for item in page.items:
            call.registry.delete(call.resource, key_of(item), options, write)
        return call.representation.page(Page(page.items, call.registry.storage.version))


def allowed(verb: str, call: Call) -> bool:
    """Whether the resource (or its subresource) has the verb."""
    if call.route.subresource:
        found = call.resource.subresource(call.route.subresource)
        return found is not None and verb in found.verbs
    return verb in call.resource.verbs


VERBS: Final[dict[str, Callable[[Call], Response]]] = {
    "get": get,
    "list": list_objects,
    "create": create,
    "update": update,
    "patch": patch,
    "delete": delete,
    "deletecollection": delete_collection,
}
