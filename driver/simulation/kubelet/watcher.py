"""The plugin watcher: sockets in the registry folder become registered plugins, and stop being so when they go.

Called by the kubelet. Rules: pkg/kubelet/pluginmanager: hidden names and what is no socket are ignored, a socket that
was made anew at the same path is a new plugin, unregistering comes before registering, failures back off.
"""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from driver.simulation.kubelet.plugins import Plugins, RegistrationError
from driver.simulation.kubelet.timings import Timings
from driver.simulation.kubelet.wire import CallError, RegistrationSocket

_PARALLEL: Final = 4

Identity = tuple[int, int]
"""Inode and modification time of a socket: neither changes while it lives (its ctime does, with its mode)."""


@dataclass(frozen=True, slots=True)
class Registration:
    """A socket that was registered."""

    identity: Identity
    driver: str
    endpoint: str


@dataclass(slots=True)
class _Failure:
    """A socket whose registration failed, and when to try again."""

    identity: Identity
    count: int
    next_try: float


class Watcher:
    """Keeps the registered plugins of one node in step with one folder; `reconcile` is called again and again."""

    def __init__(
        self, registry: Path, root: Path, plugins: Plugins, timings: Timings, clock: Callable[[], float]
    ) -> None:
        self._registry = registry
        self._root = root
        self._plugins = plugins
        self._timings = timings
        self._clock = clock
        self._pool = ThreadPoolExecutor(_PARALLEL, thread_name_prefix="register")
        self._registered: dict[Path, Registration] = {}
        self._failures: dict[Path, _Failure] = {}
        self._pending: dict[Path, Future[None]] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self.errors: dict[str, str] = {}
        """The last failure by socket name, for tests and people."""

    def reconcile(self) -> None:
        """Unregister what is gone, then begin to register what is new."""
        found = _find_sockets(self._registry)
        with self._lock:
            gone = {path: each for path, each in self._registered.items() if found.get(path) != each.identity}
            for path in gone:
                del self._registered[path]
        for each in gone.values():
            self._plugins.deregister(each.driver, each.endpoint)
        for path, identity in found.items():
            if self._is_due(path, identity):
                self._pending[path] = self._pool.submit(self._register, path, identity)

    def close(self) -> None:
        """End; registrations in progress are finished first, dials are given up."""
        self._closing.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def list_registered(self) -> list[Registration]:
        """Return what is registered."""
        with self._lock:
            return list(self._registered.values())

    def _is_due(self, path: Path, identity: Identity) -> bool:
        pending = self._pending.get(path)
        if pending is not None and not pending.done():
            return False
        with self._lock:
            if path in self._registered:
                return False
            failure = self._failures.get(path)
            return failure is None or failure.identity != identity or failure.next_try <= self._clock()

    def _register(self, path: Path, identity: Identity) -> None:
        try:
            self._register_socket(path, identity)
        except (CallError, RegistrationError) as error:
            self._fail(path, identity, str(error))
        else:
            with self._lock:
                self._failures.pop(path, None)
                self.errors.pop(path.name, None)

    def _register_socket(self, path: Path, identity: Identity) -> None:
        socket = RegistrationSocket(str(path), self._timings.dial_limit, self._closing.is_set)
        try:
            info = socket.get_info(self._timings.info_limit)
            endpoint = info.endpoint or str(path)
            try:
                service = self._plugins.validate(replace(info, endpoint=endpoint), str(self._root))
                self._plugins.register(info.name, endpoint, service, info.versions)
            except RegistrationError as error:
                socket.notify(registered=False, error=str(error), limit=self._timings.notify_limit)
                raise
            try:
                socket.notify(registered=True, error="", limit=self._timings.notify_limit)
            except CallError:
                self._plugins.deregister(info.name, endpoint)
                raise
        finally:
            socket.close()
        with self._lock:
            self._registered[path] = Registration(identity, info.name, endpoint)

    def _fail(self, path: Path, identity: Identity, error: str) -> None:
        with self._lock:
            known = self._failures.get(path)
            count = known.count + 1 if known and known.identity == identity else 1
            wait = min(self._timings.first_backoff * 2 ** (count - 1), self._timings.last_backoff)
            self._failures[path] = _Failure(identity, count, self._clock() + wait)
            self.errors[path.name] = error


def _find_sockets(folder: Path) -> dict[Path, Identity]:
    """Return all sockets below the folder; what vanishes meanwhile is not there."""
    found: dict[Path, Identity] = {}
    for path in sorted(folder.rglob("*")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        try:
            status = path.lstat()
        except OSError:
            continue
        if stat.S_ISSOCK(status.st_mode):
            found[path] = (status.st_ino, status.st_mtime_ns)
    return found
