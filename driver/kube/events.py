"""Events on claims, pods and nodes: how a person with kubectl learns what the plugin did or could not do.

Called by the composition root's hooks. Promises: `post` never fails and never waits; repetitions become one Event whose
series counts them (events.k8s.io/v1); nothing grows without bound. Events are lost if the API server stays away: they
are news, not state; that one was lost is said. Needs the permissions create and patch on events in events.k8s.io.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from driver.kube import decoding
from driver.kube.client import MERGE_PATCH, Client
from driver.model.errors import Forbidden, NotFound, Unavailable
from driver.model.objects import Api, ObjectMeta
from driver.model.occurrences import Emit, EventLost

_MOST: Final = 256
"""Events that are remembered to count their repetitions."""
_MOST_UNTOLD: Final = 8192
"""Events that wait to be written: a controller that begins to lead may have one for each claim and each pod."""
_LONGEST_NOTE: Final = 1024
_LONGEST_NAME: Final = 230
_ATTEMPTS: Final = 5
_ENDING: Final = "because it is being terminated"
"""In the refusal of news for a namespace that is going away; nobody would read them (admission NamespaceLifecycle)."""


@dataclass(frozen=True, slots=True)
class Regarding:
    """The object that an event is about. `namespace` is empty for cluster-scoped objects such as a Node."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Happening:
    """What is told: equal ones are repetitions of one another."""

    regarding: Regarding
    reason: str
    """One word in CamelCase, such as `PrepareFailed`."""
    action: str
    """What was tried, in CamelCase, such as `Prepare`."""
    note: str
    warning: bool = False


@dataclass(slots=True)
class _Entry:
    """How often something happened, and what of that the API server knows."""

    count: int = 0
    seen_at: float = 0.0
    name: str = ""
    told: int = 0
    due_at: float = 0.0
    attempts: int = 0


class _Created(Api, frozen=True):
    metadata: ObjectMeta


_created: Final = decoding.Decoder(_Created)


class EventWriter:
    """Writes events on a thread of its own."""

    def __init__(
        self,
        client: Client,
        controller: str,
        instance: str,
        *,
        pause: float = 10.0,
        emit: Emit = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`controller` is the driver's name, `instance` the node; repetitions are told every `pause` seconds.

        `emit` is told, on the writing thread, of Events that were given up.
        """
        self._client = client
        self._controller = controller
        self._instance = instance
        self._pause = pause
        self._emit = emit
        self._clock = clock
        self._wake = threading.Condition()
        self._untold: OrderedDict[Happening, _Entry] = OrderedDict()
        self._told: OrderedDict[Happening, _Entry] = OrderedDict()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self.lost = 0
        """Events that were given up."""

    def start(self) -> None:
        """Begin to write what is posted, and what was posted before."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what was not written yet is lost."""
        with self._wake:
            self._stopped = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()

    def post(self, happening: Happening) -> None:
        """Tell that something happened, soon."""
        with self._wake:
            entry = self._untold.get(happening) or self._told.pop(happening, None) or _Entry()
            entry.count += 1
            entry.seen_at = self._clock()
            self._untold[happening] = entry
            if len(self._untold) > _MOST_UNTOLD:
                self._untold.popitem(last=False)
                self.lost += 1
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                happening = self._choose()
                while happening is None and not self._stopped:
                    self._wake.wait(self._wait_time())
                    happening = self._choose()
                if self._stopped or happening is None:
                    return
                entry = self._untold[happening]
            self._write(happening, entry)
            self._settle(happening, entry)

    def _choose(self) -> Happening | None:
        """Return one that has something to tell and whose time has come."""
        now = time.monotonic()  # a clock that is set back must not hold Events up
        return next((key for key, entry in self._untold.items() if entry.due_at <= now), None)

    def _wait_time(self) -> float | None:
        waiting = [entry.due_at for entry in self._untold.values()]
        return max(0.01, min(waiting) - time.monotonic()) if waiting else None

    def _settle(self, happening: Happening, entry: _Entry) -> None:
        """Remember what was told, so that its repetitions are counted; more may have been posted meanwhile."""
        with self._wake:
            if entry.count == entry.told and happening in self._untold:
                self._told[happening] = self._untold.pop(happening)
            if len(self._told) > _MOST:
                self._told.popitem(last=False)

    def _write(self, happening: Happening, entry: _Entry) -> None:
        count = entry.count
        try:
            if entry.name:
                self._repeat(happening, entry, count)
            else:
                entry.name = self._create(happening, entry.seen_at)
                # A new Event says "once"; what was counted before it was written follows as its series.
                count = 1
            entry.told, entry.attempts = count, 0
            entry.due_at = time.monotonic() + self._pause
        except NotFound:
            entry.name, entry.told, entry.count = "", 0, max(1, entry.count - entry.told)
        except Unavailable as error:
            entry.attempts += 1
            entry.due_at = time.monotonic() + max(
                error.retry_after or 0.0, self._pause * 2 ** (entry.attempts - 1) / 10
            )
            if entry.attempts >= _ATTEMPTS:
                self._give_up(happening, error)
        except Exception as error:  # noqa: BLE001 - the thread must not end; one Event is lost
            self._give_up(happening, error)

    def _give_up(self, happening: Happening, error: Exception) -> None:
        with self._wake:
            self._untold.pop(happening, None)
            self.lost += 1
        if isinstance(error, Forbidden) and _ENDING in str(error):
            return
        about = happening.regarding
        regarding = "/".join(filter(None, (about.kind, about.namespace, about.name)))
        self._emit(EventLost(happening.reason, regarding, str(error) or type(error).__name__))

    def _create(self, happening: Happening, seen_at: float) -> str:
        regarding = happening.regarding
        namespace = regarding.namespace or "default"
        reference = {"apiVersion": regarding.api_version, "kind": regarding.kind, "name": regarding.name}
        optional = {"namespace": regarding.namespace, "uid": regarding.uid}
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": _name_event(regarding.name), "namespace": namespace},
            "eventTime": _to_micro_time(seen_at),
            "reportingController": self._controller,
            "reportingInstance": self._instance[:128],
            "regarding": reference | {key: value for key, value in optional.items() if value},
            "reason": happening.reason,
            "action": happening.action,
            "note": _shorten(happening.note),
            "type": "Warning" if happening.warning else "Normal",
        }
        answer = self._client.create(_collection(namespace), msgspec.json.encode(body))
        return _created.decode(answer, "event").metadata.name

    def _repeat(self, happening: Happening, entry: _Entry, count: int) -> None:
        series = {"count": count, "lastObservedTime": _to_micro_time(entry.seen_at)}
        path = f"{_collection(happening.regarding.namespace or 'default')}/{entry.name}"
        self._client.patch(path, msgspec.json.encode({"series": series}), MERGE_PATCH)


def _name_event(regarding: str) -> str:
    """Return a name that nobody has used: that of the object and the time, as client-go makes it.

    The API server takes no generateName that ends with a dot.
    """
    return f"{regarding[:_LONGEST_NAME].rstrip('.-')}.{time.time_ns():x}"


def _collection(namespace: str) -> str:
    return f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"


def _to_micro_time(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _shorten(note: str) -> str:
    """Return the note cut to what the API takes, which counts bytes."""
    data = note.encode(errors="backslashreplace")
    return data.decode() if len(data) <= _LONGEST_NOTE else data[: _LONGEST_NOTE - 3].decode(errors="ignore") + "…"
