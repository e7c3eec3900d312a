"""Replays a recorded conversation with a real API server against ours and reports every difference.

Placeholders are bound when first seen and compared afterwards; two placeholders of resourceVersions or uids never
share a value, so that a write that should not have happened (or should have) is noticed.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import gzip
import json
import queue
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3

DATA = Path(__file__).parents[2] / "data" / "transcripts"
_HOLE = re.compile(r"\$\{([a-zA-Z]+)(?::([^}]*))?\}")
_PATTERNS = {
    "uid": "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "rv": "[0-9]+",
    "lrv": "[0-9]+",
    "ts": r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(?:\.[0-9]+)?Z",
    "gen": "[bcdfghjklmnpqrstvwxz2456789]{5}",
    "token": r"[A-Za-z0-9_\-.]+",
    "continue": r"[A-Za-z0-9_\-]+",
    "any": "(?:.|\n)*",
}
OPENSHIFT_CONFIG = "openshift-service-ca.crt"
"""A ConfigMap in every namespace of the recorded cluster."""
_UNDESCRIBED = ("columnDefinitions", "components")
"""Where descriptions are the project's own words."""
_UNIQUE = frozenset({"rv", "uid"})
_PATIENCE = 10.0


def load(scenario: str) -> dict[str, Any]:
    """A transcript by its file name without ending."""
    document: dict[str, Any] = json.loads(gzip.decompress((DATA / f"{scenario}.json.gz").read_bytes()))
    return {**document, "steps": _without_openshift(document["steps"])}


def _without_openshift(value: Any) -> Any:
    """The same without the volume source that the recorded cluster (an OpenShift one) adds to every pod's token."""
    if isinstance(value, dict):
        return {key: _without_openshift(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_openshift(item) for item in value if not _is_openshift_source(item)]
    return value


def _is_openshift_source(value: Any) -> bool:
    return isinstance(value, dict) and value.get("configMap", {}).get("name") == OPENSHIFT_CONFIG


@dataclass
class Bindings:
    """What each placeholder stands for so far."""

    values: dict[str, str] = field(default_factory=dict)

    def fill(self, value: Any) -> Any:
        """The value with every bound placeholder replaced."""
        if isinstance(value, dict):
            return {self.fill(key): self.fill(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        return _HOLE.sub(self._filled, value) if isinstance(value, str) else value

    def _filled(self, hole: re.Match[str]) -> str:
        kind, argument = hole.group(1), hole.group(2)
        if kind == "repeat":
            character, _, count = argument.rpartition(":")
            return character * int(count)
        if kind == "ts" and hole.group(0) not in self.values:
            return "2026-01-01T00:00:00Z"
        return self.values.get(hole.group(0), hole.group(0))

    def match(self, expected: str, actual: str) -> bool:
        """Whether a string fits one with placeholders; binds those seen for the first time."""
        pattern, names, position = "", [], 0
        for hole in _HOLE.finditer(expected):
            pattern += re.escape(expected[position : hole.start()])
            position = hole.end()
            if hole.group(1) == "repeat":
                pattern += re.escape(self._filled(hole))
            else:
                names.append(hole.group(0))
                pattern += f"({_PATTERNS[hole.group(1)]})"
        found = re.fullmatch(pattern + re.escape(expected[position:]), actual)
        return found is not None and all(
            self._bind(name, value) for name, value in zip(names, found.groups(), strict=True)
        )

    def _bind(self, name: str, value: str) -> bool:
        kind = name[2:].partition(":")[0].rstrip("}")
        if kind == "any":
            return True
        if name in self.values:
            return self.values[name] == value or (kind == "ts" and _close(self.values[name], value))
        if kind in _UNIQUE and value in {v for k, v in self.values.items() if k.startswith("${" + kind)}:
            return False
        self.values[name] = value
        return True


def _close(one: str, other: str) -> bool:
    """Whether two times differ by seconds only: recordings give one number to all times of the same second."""
    parsed = [dt.datetime.fromisoformat(text) for text in (one, other)]
    return abs((parsed[0] - parsed[1]).total_seconds()) <= 15


def differences(expected: Any, actual: Any, bindings: Bindings, *, subset: bool = False, at: str = "") -> list[str]:
    """Where two JSON values differ; empty if they agree."""
    if expected == "${managedFields}":
        return [] if isinstance(actual, list) and actual else [f"{at}: no managedFields"]
    if isinstance(expected, dict) and isinstance(actual, dict):
        return _dict_differences(expected, actual, bindings, subset=subset, at=at)
    if isinstance(expected, list) and isinstance(actual, list):
        return _list_differences(expected, actual, bindings, subset=subset, at=at)
    if isinstance(expected, str) and isinstance(actual, str):
        if bindings.match(expected, actual):
            return []
        return [f"{at}: expected {bindings_text(expected, bindings)!r}, got {actual!r}"]
    same = expected == actual and isinstance(expected, bool) is isinstance(actual, bool)
    return [] if same else [f"{at}: expected {json.dumps(expected)[:600]}, got {json.dumps(actual)[:600]}"]


def bindings_text(expected: str, bindings: Bindings) -> str:
    """The expected text with what is known filled in, for messages."""
    return _HOLE.sub(lambda hole: bindings.values.get(hole.group(0), hole.group(0)), expected)[:3000]


def _dict_differences(
    expected: dict[str, Any], actual: dict[str, Any], bindings: Bindings, *, subset: bool, at: str
) -> list[str]:
    if any(part in at for part in _UNDESCRIBED):
        expected, actual = ({key: one[key] for key in one if key != "description"} for one in (expected, actual))
    found = [f"{at}.{key}: missing ({json.dumps(expected[key])[:300]})" for key in expected if key not in actual]
    if not subset:
        found += [f"{at}.{key}: unexpected {json.dumps(actual[key])[:300]}" for key in actual if key not in expected]
    for key, value in expected.items():
        if key in actual:
            found += differences(value, actual[key], bindings, subset=subset, at=f"{at}.{key}")
    return found


def _list_differences(
    expected: list[Any], actual: list[Any], bindings: Bindings, *, subset: bool, at: str
) -> list[str]:
    if not subset:
        if len(expected) != len(actual):
            return [f"{at}: expected {len(expected)} items, got {len(actual)}: {json.dumps(actual)[:600]}"]
        return [
            text
            for index, (one, other) in enumerate(zip(expected, actual, strict=True))
            for text in differences(one, other, bindings, at=f"{at}[{index}]")
        ]
    rest = list(actual)
    found = []
    for index, one in enumerate(expected):
        before = dict(bindings.values)
        for position, other in enumerate(rest):
            if not differences(one, other, bindings, subset=True):
                del rest[position]
                break
            bindings.values = dict(before)
        else:
            found.append(f"{at}[{index}]: nothing like {json.dumps(one)[:1000]}")
    return found


class Stream:
    """One open watch, read by a thread."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self.response = response
        self.events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        rest = b""
        try:
            for part in self.response.stream(65536):
                *lines, rest = (rest + part).split(b"\n")
                for line in lines:
                    self.events.put(json.loads(line))
        except (urllib3.exceptions.HTTPError, OSError, ValueError, AttributeError):
            pass
        self.events.put(None)

    def close(self) -> None:
        """Hangs up."""
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # the server has hung up, and the reader is about to notice
                self.response.shutdown()
        self._thread.join()
        self.response.close()


class Replayer:
    """One run of a transcript. `left_out` maps step numbers to reasons; those steps are neither sent nor compared."""

    def __init__(
        self, url: str, admin: str, left_out: dict[int, str] | None = None, loose: dict[int, str] | None = None
    ) -> None:
        self._url = url
        self._admin = admin
        self._left_out = left_out or {}
        self._loose = loose or {}
        self._pool = urllib3.PoolManager(retries=False, maxsize=4)
        self._streams: dict[str, Stream] = {}
        self.bindings = Bindings()
        self.faults: list[str] = []
        self.compared = 0

    def run(self, steps: list[dict[str, Any]]) -> None:
        """Plays the steps in order; what differs ends up in `faults`."""
        try:
            for recorded in steps:
                loose = recorded["n"] in self._loose
                step = {**recorded, "match": "status"} if loose else recorded
                play = getattr(self, f"_play_{step['op']}", None)
                if play is not None and step["n"] not in self._left_out:
                    found = play(step)
                    self.faults += [f"step {step['n']} {self._title(step)}: {text}" for text in found]
        finally:
            for stream in self._streams.values():
                stream.close()
            self._pool.clear()

    @staticmethod
    def _title(step: dict[str, Any]) -> str:
        request = step.get("request", {})
        what = step.get("case", step.get("note", ""))
        return f"{request.get('method', step['op'])} {request.get('path', '')} ({what})"

    def _send(self, step: dict[str, Any], *, stream: bool = False) -> urllib3.BaseHTTPResponse:
        request = step["request"]
        headers = {"User-Agent": "", **request.get("headers", {}), **self._credentials(step["as"])}
        body = self.bindings.fill(request.get("body"))
        data = (
            body
            if body is None or isinstance(body, str)
            else json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        )
        path = self.bindings.fill(request["path"])
        if request.get("query"):
            path += "?" + urlencode(self.bindings.fill(request["query"]))
        raw = None if data is None else data.encode()
        return self._pool.request(
            request["method"],
            self._url + path,
            body=raw,
            headers=headers,
            preload_content=not stream,
            timeout=_PATIENCE,
        )

    def _credentials(self, who: Any) -> dict[str, str]:
        if who == "anonymous":
            return {}
        if isinstance(who, dict) and "token" in who:
            return {"Authorization": f"Bearer {self.bindings.fill(who['token'])}"}
        if isinstance(who, dict) and "authorization" in who:
            return {"Authorization": who["authorization"]}
        headers = {"Authorization": f"Bearer {self._admin}"}
        if isinstance(who, dict):
            headers |= {"Impersonate-User": who["user"], "Impersonate-Group": who["group"]}
        return headers

    def _play_request(self, step: dict[str, Any]) -> list[str]:
        return self._compare(step, self._send(step))

    def _compare(self, step: dict[str, Any], response: urllib3.BaseHTTPResponse) -> list[str]:
        self.compared += 1
        expected = step["response"]
        found = []
        if response.status != expected["status"]:
            found.append(f"expected {expected['status']}, got {response.status}: {response.data[:1500]!r}")
        if step.get("match") != "status":
            found += self._header_differences(expected, response)
        body = None
        kind = response.headers.get("Content-Type", "")
        if response.data and ("json" in kind or (expected.get("body") is not None and "yaml" not in kind)):
            body = json.loads(response.data)
        elif "text" in expected and step.get("match") is None:
            return found + differences(expected["text"], response.data.decode(), self.bindings, at="text")
        if expected.get("body") is not None:
            loose = step.get("match")
            unlike = differences(expected["body"], body, self.bindings, subset=loose == "subset")
            found += unlike if loose != "status" else []
        return found

    @staticmethod
    def _header_differences(expected: dict[str, Any], response: urllib3.BaseHTTPResponse) -> list[str]:
        found = []
        for name, value in expected.get("headers", {}).items():
            actual = response.headers.getlist(name) if isinstance(value, list) else response.headers.get(name)
            if actual != value:
                found.append(f"header {name}: expected {value!r}, got {actual!r}")
        return found

    def _play_watch(self, step: dict[str, Any]) -> list[str]:
        response = self._send(step, stream=True)
        if response.status != 200 or step["response"]["status"] != 200:
            return self._compare(step, response)
        self.compared += 1
        self._streams[step["watch"]] = Stream(response)
        return self._header_differences(step["response"], response)

    def _play_events(self, step: dict[str, Any]) -> list[str]:
        stream = self._streams.get(step["watch"])
        if stream is None:
            return [f"watch {step['watch']} is not open"]
        found: list[str] = []
        for index, expected in enumerate(step["events"]):
            try:
                event = stream.events.get(timeout=_PATIENCE)
                while event and event.get("type") == "BOOKMARK" != expected["type"]:
                    event = stream.events.get(timeout=_PATIENCE)
            except queue.Empty:
                return [*found, f"event {index} did not come"]
            self.compared += 1
            found += differences(expected, event, self.bindings, at=f"event[{index}]")
        return found

    def _play_end(self, step: dict[str, Any]) -> list[str]:
        stream = self._streams.pop(step["watch"], None)
        if stream is None:
            return []
        try:
            left = stream.events.get(timeout=_PATIENCE) if step["by"] == "server" else None
            while left and left["type"] == "BOOKMARK":
                left = stream.events.get(timeout=_PATIENCE)
        except queue.Empty:
            return ["the server did not end the stream"]
        finally:
            stream.close()
        while left is None and not stream.events.empty():
            event = stream.events.get()
            left = event if event and event["type"] != "BOOKMARK" else None
        return [f"unexpected event {json.dumps(left)[:400]}"] if left else []
