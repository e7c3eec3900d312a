"""One API collection over real HTTP that can be list, watched and made to misbehave, for tests of watches.

Speaks what a watch needs: lists in pages, streams from a resourceVersion, bookmarks on demand, 410 for what it has
forgotten. `faults` are answered first, one request each.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator

from tests.fakes.http_server import HttpServer, Reply, Request, status

END = "end"
CUT = "cut"


class Collection:
    """Objects by name, and the events that led to them."""

    def __init__(self) -> None:
        self.server = HttpServer(self._handle)
        self.faults: deque[Reply | None] = deque()
        self.always: Reply | None = None
        self.watches = 0
        """Streams that are open now."""
        self.opened = 0
        self.oldest = 0
        self.delivered = 0
        """The newest version that was sent on a stream."""
        self.end_at_once = False
        self._version = 100
        self._objects: dict[str, dict[str, object]] = {}
        self._events: list[tuple[int, bytes]] = []
        self._order = 0
        self._orders: list[tuple[int, str]] = []
        self._changed = threading.Condition()
        self._closed = False

    def __enter__(self) -> Collection:
        self.server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.server.stop()

    @property
    def lists(self) -> list[Request]:
        """List requests so far."""
        return [each for each in self.server.requests if "watch" not in each.query]

    @property
    def version(self) -> int:
        """The newest version."""
        return self._version

    def put(self, name: str, *, uid: str = "", **spec: object) -> None:
        """Create or change an object; another uid replaces it without a DELETED in between (as after a gap)."""
        with self._changed:
            kind = "MODIFIED" if name in self._objects else "ADDED"
            self._version += 1
            self._objects[name] = self._describe(name, uid or f"uid-{name}", spec)
            self._record(kind, self._objects[name])

    def remove(self, name: str) -> None:
        """Delete an object."""
        with self._changed:
            self._version += 1
            gone = self._objects.pop(name)
            meta = gone["metadata"]
            assert isinstance(meta, dict)
            self._record("DELETED", {**gone, "metadata": {**meta, "resourceVersion": str(self._version)}})

    def bookmark(self) -> None:
        """Send every stream the newest version."""
        with self._changed:
            self._version += 1
            self._record("BOOKMARK", {"metadata": {"resourceVersion": str(self._version)}, "spec": {}})

    def send(self, line: bytes) -> None:
        """Send every stream a raw line."""
        with self._changed:
            self._version += 1
            self._events.append((self._version, line))
            self._changed.notify_all()

    def forget(self) -> None:
        """Compact: watches from any version before now are answered 410."""
        with self._changed:
            self.oldest = self._version
            self._events.clear()

    def close_streams(self, how: str) -> None:
        """End every open stream: in good order (`END`) or by cutting the connection (`CUT`)."""
        with self._changed:
            self._order += 1
            self._orders.append((self._order, how))
            self._changed.notify_all()

    def _describe(self, name: str, uid: str, spec: dict[str, object]) -> dict[str, object]:
        meta = {"name": name, "uid": uid, "resourceVersion": str(self._version)}
        base: dict[str, object] = {
            "driver": "d",
            "nodeName": "n",
            "pool": {"name": "n", "generation": 1, "resourceSliceCount": 1},
        }
        return {"metadata": meta, "spec": {**base, **spec}}

    def _record(self, kind: str, value: dict[str, object]) -> None:
        self._events.append((self._version, json.dumps({"type": kind, "object": value}).encode()))
        self._changed.notify_all()

    def _handle(self, request: Request) -> Reply | None:
        if self.faults:
            return self.faults.popleft()
        if self.always is not None:
            return self.always
        if "watch" not in request.query:
            return self._list(request)
        since = int(request.query["resourceVersion"])
        if since < self.oldest:
            gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            return Reply(chunks=[json.dumps({"type": "ERROR", "object": gone}).encode() + b"\n"])
        if self.end_at_once:
            self.opened += 1
            return Reply(chunks=[])
        return self._follow(since)

    def _list(self, request: Request) -> Reply:
        with self._changed:
            items = list(self._objects.values())
            version = str(self._version)
        start, limit = int(request.query.get("continue", "0")), int(request.query.get("limit", "500"))
        if start and start > len(items):
            return status(410, "The provided continue parameter is too old")
        meta = {"resourceVersion": version}
        if start + limit < len(items):
            meta["continue"] = str(start + limit)
        return Reply(body={"metadata": meta, "items": items[start : start + limit]})

    def _follow(self, since: int) -> Reply:
        with self._changed:
            order = self._order
            self.watches += 1
            self.opened += 1
        cut: list[bool] = []

        def chunks() -> Iterator[bytes]:
            seen = since
            try:
                while True:
                    with self._changed:
                        while not self._has_news(seen, order):
                            self._changed.wait()
                        if self._closed or self._order > order:
                            cut.append(not self._closed and self._orders[-1][1] == CUT)
                            break
                        news = [(version, line) for version, line in self._events if version > seen]
                    for version, line in news:
                        seen = self.delivered = version
                        yield line + b"\n"
            finally:
                with self._changed:
                    self.watches -= 1
            if cut[0]:
                self.server.cut_connections()

        return Reply(chunks=chunks())

    def _has_news(self, seen: int, order: int) -> bool:
        return self._closed or self._order > order or any(version > seen for version, _ in self._events)
