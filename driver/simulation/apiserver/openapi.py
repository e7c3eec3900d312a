"""/openapi/v3: enough for kubectl to know that the server validates fields, and for `kubectl explain` to list them.

Called by the dispatcher. Made from the schemas; there are no descriptions and no strategic merge patch in it, so
that kubectl uses its built-in types for client-side merging. /openapi/v2 does not exist (404), kubectl copes.
"""

from __future__ import annotations

import functools
import hashlib
from typing import Final

from driver.simulation.apiserver.discovery import GROUPS, entries_of
from driver.simulation.apiserver.gates import FeatureGates
from driver.simulation.apiserver.kinds import Resource
from driver.simulation.apiserver.requests import Request, Response, json_response
from driver.simulation.apiserver.schemas import Field, ListOf, MapOf, Scalar, Struct, Type, struct_of
from driver.simulation.apiserver.values import Json, JsonObject, encode

_SCALARS: Final[dict[str, JsonObject]] = {
    "string": {"type": "string"},
    "int32": {"type": "integer", "format": "int32"},
    "int64": {"type": "integer", "format": "int64"},
    "bool": {"type": "boolean"},
    "time": {"type": "string", "format": "date-time"},
    "microtime": {"type": "string", "format": "date-time"},
    "quantity": {"type": "string"},
    "bytes": {"type": "string", "format": "byte"},
    "intstr": {"type": "string", "format": "int-or-string"},
    "raw": {"type": "object"},
    "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
}
_PREFIX: Final = "#/components/schemas/"
_PATCH_TYPES: Final = ("application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json")
_META: Final = frozenset(
    {"ObjectMeta", "OwnerReference", "ManagedFieldsEntry", "LabelSelector", "LabelSelectorRequirement", "Condition"}
)
_QUERY: Final = ("dryRun", "fieldManager", "fieldValidation", "force", "pretty")


def answer(request: Request, gates: FeatureGates) -> Response | None:
    """The document of a path below /openapi; None for unknown ones."""
    if request.path.rstrip("/") == "/openapi/v3":
        paths: JsonObject = {path: {"serverRelativeURL": _url(path)} for path in _documents()}
        index = json_response({"paths": paths})
        index.content_type = "text/plain; charset=utf-8"
        return index
    path = request.path.removeprefix("/openapi/v3/")
    if path == request.path or path not in _documents():
        return None
    document = json_response(_document(path, gates.minor))
    document.headers["Vary"] = "Accept"
    return document


def _documents() -> dict[str, tuple[str, str]]:
    found = {
        (f"apis/{group}/{version}" if group else f"api/{version}"): (group, version)
        for group, versions in GROUPS.items()
        for version in versions
    }
    return {**found, "version": ("", "")}


def _url(path: str) -> str:
    digest = hashlib.sha256(encode(_document(path, 0))).hexdigest()
    return f"/openapi/v3/{path}?hash={digest[:32].upper()}"


@functools.cache
def _document(path: str, minor: int) -> JsonObject:
    info: JsonObject = {"title": "Kubernetes", "version": f"1.{minor}"}
    schemas: JsonObject = {}
    paths: JsonObject = {}
    if path != "version":
        group, version = _documents()[path]
        for entry in entries_of(group, version):
            if isinstance(entry, Resource):
                _describe_resource(entry, version, paths, schemas)
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def _describe_resource(resource: Resource, version: str, paths: JsonObject, schemas: JsonObject) -> None:
    struct = struct_of(resource.group, resource.kind)
    name = _schema_name(resource.group, version, struct)
    _describe(struct, resource.group, version, schemas)
    shown = schemas[name]
    if isinstance(shown, dict):
        properties = shown["properties"]
        if isinstance(properties, dict):
            properties |= {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
        shown["x-kubernetes-group-version-kind"] = [_gvk(resource, version)]
    base = f"/apis/{resource.group}/{version}" if resource.group else f"/api/{version}"
    where = "/namespaces/{namespace}" if resource.namespaced else ""
    paths[f"{base}{where}/{resource.plural}/{{name}}"] = _operations(resource, version, name)


def _gvk(resource: Resource, version: str) -> JsonObject:
    return {"group": resource.group, "version": version, "kind": resource.kind}


def _operations(resource: Resource, version: str, schema: str) -> JsonObject:
    parameters: list[Json] = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in _QUERY]
    content: JsonObject = {media: {"schema": {"type": "object"}} for media in _PATCH_TYPES}
    ok: JsonObject = {"200": {"description": "OK", "content": {"application/json": {"schema": _reference(schema)}}}}
    common: JsonObject = {"x-kubernetes-group-version-kind": _gvk(resource, version), "responses": ok}
    return {
        "get": {**common, "x-kubernetes-action": "get"},
        "patch": {
            **common,
            "x-kubernetes-action": "patch",
            "parameters": parameters,
            "requestBody": {"content": content},
        },
    }


def _schema_name(group: str, version: str, struct: Struct) -> str:
    if struct.name in _META:
        return f"io.k8s.apimachinery.pkg.apis.meta.v1.{struct.name}"
    folder = group.removesuffix(".k8s.io").partition(".")[0] or "core"
    return f"io.k8s.api.{folder}.{version}.{struct.go_name}"


def _reference(name: str) -> JsonObject:
    return {"$ref": _PREFIX + name}


def _describe(struct: Struct, group: str, version: str, schemas: JsonObject) -> str:
    """Adds a struct and everything below to the schemas; returns its name."""
    name = _schema_name(group, version, struct)
    if name not in schemas:
        schemas[name] = {}
        properties: JsonObject = {}
        for field in struct.fields.values():
            properties[field.name] = _field(field, group, version, schemas)
        shown: JsonObject = {"type": "object", "properties": properties}
        required: list[Json] = [field.name for field in struct.fields.values() if field.required and not field.pointer]
        if required:
            shown["required"] = required
        schemas[name] = shown
    return name


def _field(field: Field, group: str, version: str, schemas: JsonObject) -> JsonObject:
    shown = _type(field.type, group, version, schemas)
    if isinstance(field.type, Struct):
        shown = {"allOf": [shown]} if field.pointer else {"default": {}, "allOf": [shown]}
    if isinstance(field.type, ListOf):
        shown["x-kubernetes-list-type"] = "map" if field.keys else "set" if field.is_set else "atomic"
        if field.keys:
            shown["x-kubernetes-list-map-keys"] = list(field.keys)
    return shown


def _type(of: Type, group: str, version: str, schemas: JsonObject) -> JsonObject:
    if isinstance(of, Scalar):
        return dict(_SCALARS[of.name])
    if isinstance(of, ListOf):
        return {"type": "array", "items": _type(of.item, group, version, schemas)}
    if isinstance(of, MapOf):
        return {"type": "object", "additionalProperties": _type(of.value, group, version, schemas)}
    return _reference(_describe(of, group, version, schemas))
