"""A proxy in front of the embedded API server that notes which rights each request needs.

What the plugin asks for is seen as RBAC sees it: verb, API group, resource (k8s.io/apiserver RequestInfo).
"""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlencode

from tests.fakes.http_server import HttpServer, Reply, Request

_WRITES = {"POST": "create", "PUT": "update", "PATCH": "patch"}
_HOP = {"transfer-encoding", "content-length", "connection", "date", "server"}


@dataclass(frozen=True, order=True)
class Need:
    """One right."""

    verb: str
    group: str
    resource: str


@dataclass(frozen=True)
class Seen:
    """A request, what it needed and how it was answered."""

    need: Need
    path: str
    status: int


class Recorder:
    """Forwards to `url` and remembers. A context manager; `url` is where clients go."""

    def __init__(self, url: str) -> None:
        self._target = url.removeprefix("http://")
        self._server = HttpServer(self._forward)
        self.url = self._server.url
        self.seen: list[Seen] = []

    def __enter__(self) -> Recorder:
        self._server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    @property
    def needs(self) -> set[Need]:
        """Every right that was used."""
        return {seen.need for seen in self.seen}

    @property
    def refused(self) -> list[Seen]:
        """Requests that were not allowed."""
        return [seen for seen in self.seen if seen.status in {401, 403}]

    def _forward(self, request: Request) -> Reply | None:
        connection = http.client.HTTPConnection(self._target, timeout=60)
        path = f"{request.path}?{urlencode(request.query)}" if request.query else request.path
        headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
        try:
            connection.request(request.method, path, request.body or None, headers)
            answer = connection.getresponse()
        except OSError:
            return None
        need = read_need(request)
        if need is not None:
            self.seen.append(Seen(need, request.path, answer.status))
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP}
        if need is not None and need.verb == "watch" and answer.status == 200:
            return Reply(answer.status, headers=kept, chunks=_stream(connection, answer))
        with contextlib.closing(connection):
            return Reply(answer.status, answer.read(), kept)


def _stream(connection: http.client.HTTPConnection, answer: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        while line := answer.readline():
            yield line
    finally:
        connection.close()


def read_need(request: Request) -> Need | None:
    """Return the right that a request needs; None for paths that are no resources."""
    parts = request.path.strip("/").split("/")
    if parts[:2] == ["api", "v1"]:
        group, rest = "", parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, rest = parts[1], parts[3:]
    else:
        return None
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        rest = rest[2:]
    resource = "/".join([rest[0], *rest[2:]])
    return Need(_read_verb(request, named=len(rest) > 1), group, resource)


def _read_verb(request: Request, *, named: bool) -> str:
    if request.method == "GET":
        if named:
            return "get"
        return "watch" if request.query.get("watch") in {"1", "true"} else "list"
    if request.method == "DELETE":
        return "delete" if named else "deletecollection"
    return _WRITES[request.method]
