"""What the server has, as clients ask for it: /api, /apis, group versions, both in the old and the aggregated form.

Called by the dispatcher for paths that name no resource. Documents follow Kubernetes v1.36.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

from driver.simulation.apiserver.gates import FeatureGates
from driver.simulation.apiserver.kinds import RESOURCES, REVIEWS, Resource, Review, Subresource
from driver.simulation.apiserver.requests import Request, Response, json_response
from driver.simulation.apiserver.statuses import failure, no_such_path
from driver.simulation.apiserver.values import Json, JsonObject

_AGGREGATED: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_REVIEW_VERBS: Final = ("create",)
_NOT_FOUND: Final = b"404 page not found\n"

Entry: TypeAlias = Resource | Review


def _groups() -> dict[str, list[str]]:
    """Versions of each group, newest first, in the order of /apis."""
    groups: dict[str, list[str]] = {}
    entries: tuple[Entry, ...] = (*RESOURCES, *REVIEWS)
    for entry in entries:
        also = entry.also if isinstance(entry, Resource) else ()
        for version in (entry.version, *also):
            versions = groups.setdefault(entry.group, [])
            if version not in versions:
                versions.append(version)
    return groups


GROUPS: Final = _groups()


def entries_of(group: str, version: str) -> list[Entry]:
    """Resources and reviews of a group version, by name."""
    found: list[Entry] = [one for one in RESOURCES if one.group == group and version in (one.version, *one.also)]
    found += [one for one in REVIEWS if (one.group, one.version) == (group, version)]
    return sorted(found, key=lambda entry: entry.plural)


def not_found_text() -> Response:
    """404 outside of any API."""
    return Response(404, _NOT_FOUND, "text/plain; charset=utf-8")


def version_info(gates: FeatureGates) -> JsonObject:
    """/version."""
    minor = str(gates.minor)
    return {
        "major": "1",
        "minor": minor,
        "emulationMajor": "1",
        "emulationMinor": minor,
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": str(gates.minor - 1),
        "gitVersion": gates.version,
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": "linux/amd64",
    }


def discover(request: Request) -> Response | None:
    """The discovery document of a path; None for paths that are none of discovery's."""
    parts = [part for part in request.path.split("/") if part]
    if parts == ["api"]:
        return _root(request, [""], {"kind": "APIVersions", "versions": ["v1"]})
    if parts == ["apis"]:
        groups: list[Json] = [_group(name) for name in GROUPS if name]
        plain: JsonObject = {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        return _root(request, [name for name in GROUPS if name], plain)
    if parts[:1] == ["apis"] and len(parts) == 3:
        return _resources(parts[1], parts[2])
    if parts[:1] == ["api"] and len(parts) == 2:
        return _resources("", parts[1])
    if parts[:1] != ["apis"] or len(parts) != 2:
        return None
    known = parts[1] in GROUPS
    return json_response({"kind": "APIGroup", "apiVersion": "v1", **_group(parts[1])}) if known else not_found_text()


def _root(request: Request, groups: Iterable[str], plain: JsonObject) -> Response:
    accept = request.headers.get("accept", "")
    if "as=APIGroupDiscoveryList" not in accept:
        response = json_response(plain)
    elif _wants(accept, "v2"):
        items: list[Json] = [_aggregated(name) for name in groups]
        body: JsonObject = {
            "kind": "APIGroupDiscoveryList",
            "apiVersion": "apidiscovery.k8s.io/v2",
            "metadata": {},
            "items": items,
        }
        response = json_response(body)
        response.content_type = _AGGREGATED
    elif any(part.strip() == "application/json" for part in accept.split(",")):
        response = json_response(plain)
    else:
        types = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
        raise failure(406, "NotAcceptable", f"only the following media types are accepted: {types}")
    response.headers["Vary"] = "Accept"
    return response


def _wants(accept: str, version: str) -> bool:
    return any(
        {f"v={version}", "as=APIGroupDiscoveryList"} <= {option.strip() for option in clause.split(";")}
        for clause in accept.split(",")
    )


def _group(name: str) -> JsonObject:
    versions: list[Json] = [{"groupVersion": f"{name}/{version}", "version": version} for version in GROUPS[name]]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def _resources(group: str, version: str) -> Response:
    if group not in GROUPS:
        return not_found_text()
    if version not in GROUPS[group]:
        raise no_such_path()
    listed: list[Json] = []
    for entry in entries_of(group, version):
        listed.append(_resource(entry))
        if isinstance(entry, Resource):
            listed += [_subresource(entry, sub) for sub in entry.subresources]
    document: JsonObject = {"kind": "APIResourceList", "apiVersion": "v1"} if group else {"kind": "APIResourceList"}
    document |= {"groupVersion": f"{group}/{version}" if group else version, "resources": listed}
    return json_response(document)


def _resource(entry: Entry) -> JsonObject:
    verbs: list[Json] = list(entry.verbs if isinstance(entry, Resource) else _REVIEW_VERBS)
    shown: JsonObject = {
        "name": entry.plural,
        "singularName": entry.kind.lower(),
        "namespaced": entry.namespaced,
        "kind": entry.kind,
        "verbs": verbs,
    }
    if isinstance(entry, Resource):
        if entry.short:
            shown["shortNames"] = list(entry.short)
        if entry.categories:
            shown["categories"] = list(entry.categories)
        shown["storageVersionHash"] = entry.storage_hash
    return shown


def _subresource(resource: Resource, sub: Subresource) -> JsonObject:
    verbs: list[Json] = list(sub.verbs)
    shown: JsonObject = {"name": f"{resource.plural}/{sub.name}", "singularName": "", "namespaced": resource.namespaced}
    if sub.group:
        shown |= {"group": sub.group, "version": sub.version}
    return shown | {"kind": sub.kind, "verbs": verbs}


def _aggregated(group: str) -> JsonObject:
    meta: JsonObject = {"name": group} if group else {}
    versions: list[Json] = [
        {
            "version": version,
            "resources": [_aggregated_resource(entry) for entry in entries_of(group, version)],
            "freshness": "Current",
        }
        for version in GROUPS[group]
    ]
    return {"metadata": meta, "versions": versions}


def _aggregated_resource(entry: Entry) -> Json:
    verbs: list[Json] = list(entry.verbs if isinstance(entry, Resource) else _REVIEW_VERBS)
    shown: JsonObject = {
        "resource": entry.plural,
        "responseKind": {"group": "", "version": "", "kind": entry.kind},
        "scope": "Namespaced" if entry.namespaced else "Cluster",
        "singularResource": entry.kind.lower(),
        "verbs": verbs,
    }
    if isinstance(entry, Resource):
        if entry.short:
            shown["shortNames"] = list(entry.short)
        if entry.categories:
            shown["categories"] = list(entry.categories)
        if entry.subresources:
            shown["subresources"] = [_aggregated_subresource(sub) for sub in entry.subresources]
    return shown


def _aggregated_subresource(sub: Subresource) -> Json:
    verbs: list[Json] = list(sub.verbs)
    kind: JsonObject = {"group": sub.group, "version": sub.version, "kind": sub.kind}
    return {"subresource": sub.name, "responseKind": kind, "verbs": verbs}
