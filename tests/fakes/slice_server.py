"""A slice store behind real HTTP, for the publisher: one Node, slices with watch, and faults on demand.

`faults` are answered first, one request each; `always` answers everything until it is None again. `log` tells what was
asked, watches left out.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator
from typing import Final

import msgspec

from driver.model.errors import Conflict, InvalidInput
from driver.model.objects import ObjectMeta
from driver.model.slices import ResourceSlice
from tests.fakes.http_server import HttpServer, Reply, Request, status
from tests.fakes.slice_store import SliceStore

PATH: Final = "/apis/resource.k8s.io/v1/resourceslices"


class SliceServer:
    """`store` is what it holds; use it under `lock` from tests."""

    def __init__(self, *, lacking: frozenset[str] = frozenset(), node: str = "node-1") -> None:
        self.store = SliceStore(lacking=lacking, observe=self._observe)
        self.server = HttpServer(self._handle)
        self.node = node
        self.node_uid = "node-uid-1"
        self.faults: deque[Reply | None] = deque()
        self.always: Reply | None = None
        self.watches_fail = False
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self._events: list[tuple[int, bytes]] = []
        self._closed = False

    def __enter__(self) -> SliceServer:
        self.server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.server.stop()

    @property
    def url(self) -> str:
        """Base URL."""
        return self.server.url

    @property
    def log(self) -> list[str]:
        """Requests so far, without watches: `POST`, `GET node`, `LIST`, …"""
        return [self._name(each) for each in self.server.requests if "watch" not in each.query]

    def read(self) -> tuple[ResourceSlice, ...]:
        """The slices it holds."""
        with self.lock:
            return self.store.list()

    def names(self) -> list[str]:
        """Names of all devices that are published, in order."""
        return [device.name for each in self.read() for device in each.spec.devices]

    def wipe(self) -> None:
        """Delete all slices, as a kubelet that starts."""
        with self.lock:
            self.store.wipe()

    def _name(self, request: Request) -> str:
        if request.path.startswith("/api/v1/nodes"):
            return "GET node"
        dry = "dry " if request.query.get("dryRun") else ""
        return "LIST" if request.method == "GET" else f"{dry}{request.method}"

    def _observe(self, kind: str, each: ResourceSlice, version: int) -> None:
        meta = msgspec.structs.replace(each.metadata, resource_version=str(version))
        value = msgspec.structs.replace(each, metadata=meta)
        self._events.append((version, b'{"type":"%s","object":%s}\n' % (kind.encode(), msgspec.json.encode(value))))
        self._changed.notify_all()

    def _handle(self, request: Request) -> Reply | None:
        if "watch" in request.query:
            failure = status(403, "cannot watch resourceslices")
            return failure if self.watches_fail else Reply(chunks=self._follow(int(request.query["resourceVersion"])))
        if self.faults or self.always is not None:
            return self.faults.popleft() if self.faults else self.always
        with self.lock:
            try:
                return self._answer(request)
            except Conflict as error:
                return status(409, str(error))
            except InvalidInput as error:
                return status(422, str(error))

    def _answer(self, request: Request) -> Reply:
        if request.path == f"/api/v1/nodes/{self.node}":
            return Reply(body={"metadata": {"name": self.node, "uid": self.node_uid}})
        name = request.path.removeprefix(PATH).removeprefix("/")
        if name == request.path.removeprefix("/"):
            return status(404, f"{request.path} not found")
        if request.method == "POST":
            return self._create(request)
        if request.method == "GET":
            items = [json.loads(msgspec.json.encode(each)) for each in self.store.list()]
            return Reply(body={"metadata": {"resourceVersion": str(self.store.version)}, "items": items})
        if name not in self.store.slices:
            return status(404, f'resourceslices "{name}" not found')
        return self._patch(name, request) if request.method == "PATCH" else self._delete(name, request)

    def _create(self, request: Request) -> Reply:
        wanted = msgspec.json.decode(request.body, type=ResourceSlice)
        store = SliceStore(lacking=self.store.lacking) if request.query.get("dryRun") else self.store
        return Reply(201, msgspec.json.encode(store.create(wanted)))

    def _patch(self, name: str, request: Request) -> Reply:
        patch = request.json
        spec = patch["spec"]
        meta = patch["metadata"]
        assert isinstance(spec, dict)
        assert isinstance(meta, dict)
        known = json.loads(msgspec.json.encode(self.store.slices[name].spec))
        merged = {**known, **spec}
        value = {"metadata": {"name": name, **meta}, "spec": {key: each for key, each in merged.items() if each}}
        return Reply(body=msgspec.json.encode(self.store.update(msgspec.convert(value, ResourceSlice))))

    def _delete(self, name: str, request: Request) -> Reply:
        preconditions = request.json["preconditions"]
        meta = msgspec.convert({"name": name, **dict(preconditions)}, ObjectMeta)  # type: ignore[call-overload]
        self.store.delete(msgspec.structs.replace(self.store.slices[name], metadata=meta))
        return Reply()

    def _follow(self, since: int) -> Iterator[bytes]:
        while True:
            with self._changed:
                while not self._closed and not any(version > since for version, _ in self._events):
                    self._changed.wait()
                if self._closed:
                    return
                news = [(version, line) for version, line in self._events if version > since]
            for version, line in news:
                since = version
                yield line
