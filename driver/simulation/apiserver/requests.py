"""A request and its answer as plain values, and what a path means.

The HTTP edge (serving.py) builds a `Request` and writes out a `Response`; everything between is ordinary synchronous
Python. Must not import aiohttp. Path grammar: /api/v1/… and /apis/GROUP/VERSION/…, with namespaces/NS/ before
namespaced resources (apiserver's RequestInfo).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from driver.simulation.apiserver.values import Json, encode


@dataclass(frozen=True)
class User:
    """Who asks: user.Info upstream. `extra` as in authentication.k8s.io UserInfo."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """One HTTP request. Header names are lower case; `query` keeps the first value of each name."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class Response:
    """One HTTP answer with a whole body."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def json_response(value: Json, status: int = 200) -> Response:
    """An answer with a JSON document."""
    return Response(status, encode(value) + b"\n")


@dataclass(frozen=True)
class Route:
    """What the path of an API request names; empty where it says nothing."""

    group: str
    version: str
    plural: str = ""
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    watch: bool = False
    """Whether the old form /watch/… was used; `name` then chooses one object to watch."""


def parse_path(path: str) -> Route | None:
    """The route of an API path, or None for any other path."""
    parts = [unquote(part) for part in path.split("/") if part]
    if len(parts) >= 2 and parts[0] == "api":
        return _parse_resource("", parts[1], parts[2:])
    if len(parts) >= 3 and parts[0] == "apis":
        return _parse_resource(parts[1], parts[2], parts[3:])
    return None


def _parse_resource(group: str, version: str, rest: list[str]) -> Route:
    namespace = ""
    watch = rest[:1] == ["watch"]
    if watch:
        rest = rest[1:]
    if len(rest) >= 3 and rest[0] == "namespaces" and not (group == "" and len(rest) == 3 and rest[2] in _OF_NAMESPACE):
        namespace, rest = rest[1], rest[2:]
    plural, name, subresource = [*rest[:3], "", "", ""][:3]
    if len(rest) > 3:
        subresource = "/".join(rest[2:])
    return Route(group, version, plural, namespace, name, subresource, watch)


_OF_NAMESPACE = frozenset({"status", "finalize"})


_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "GET": "get", "HEAD": "get"}
_FALSE = frozenset({"0", "false"})


def is_true(query: Mapping[str, str], name: str) -> bool:
    """Whether a flag of the query is set: anything but false and 0 counts, upstream too."""
    return name in query and query[name].lower() not in _FALSE


def verb_of(request: Request, route: Route) -> str:
    """The API verb of a request, as authorization sees it."""
    verb = _VERBS.get(request.method, request.method.lower())
    if route.name and not route.watch:
        return verb
    if verb == "get":
        return "watch" if route.watch or is_true(request.query, "watch") else "list"
    return "deletecollection" if verb == "delete" else verb
