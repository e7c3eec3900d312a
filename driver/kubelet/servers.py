"""The plugin's two gRPC servers as one thing that starts and stops. Composed by node/app.

Order is the promise: the DRA service answers before the kubelet can hear of it, and at the end the registration
socket goes first, because its removal is what tells the kubelet to send nothing more.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import grpc

from driver.kubelet import sockets
from driver.kubelet.dra import DraService
from driver.kubelet.health import MAX_STREAMS, HealthService
from driver.kubelet.registration import OnStatus, RegistrationService
from driver.kubelet.workers import DaemonPool
from driver.model.errors import StorageFailed, Unavailable

_DRA_THREADS: Final = 64
"""Calls served at a time. A prepare call may wait most of a minute for the API server; unprepare must still get in."""
_HEALTH_THREADS: Final = MAX_STREAMS
"""On top, so that streams take no thread from the calls."""
_REGISTRATION_THREADS: Final = 2
_LAST_SECONDS: Final = 5.0
"""For calls that were cut off to be gone, after which the end goes on without them."""


class KubeletServers:
    """The DRA service with its health stream and its registration, on sockets that this object owns while it runs."""

    def __init__(
        self, driver: str, paths: sockets.Sockets, service: DraService, health: HealthService, on_status: OnStatus
    ) -> None:
        self._driver = driver
        self._paths = paths
        self._service = service
        self._health = health
        self._registration = RegistrationService(driver, paths.dra, on_status)
        self._running: list[_Running] = []

    def start(self) -> None:
        """Serve DRA, then registration. The folder of the registration socket is the kubelet's and must be there.

        Raises `Conflict` if another plugin serves these sockets, `InvalidInput` or `StorageFailed` if they cannot be
        made; then nothing is left running.
        """
        _make_folder(Path(self._paths.dra).parent)
        for path in (self._paths.dra, self._paths.registration):
            sockets.sweep(Path(path).parent, self._driver)
        try:
            for path, handlers, threads in (
                (
                    self._paths.dra,
                    (*self._service.handlers(), *self._health.handlers()),
                    _DRA_THREADS + _HEALTH_THREADS,
                ),
                (self._paths.registration, self._registration.handlers(), _REGISTRATION_THREADS),
            ):
                self._running.append(_Running(sockets.Ownership.take(path, self._driver), handlers, threads))
        except BaseException:
            self.stop(0)
            raise

    def stop(self, grace: float) -> None:
        """Withdraw the registration, end health streams, let calls end within `grace` seconds. Safe to repeat."""
        self._health.close()
        for server in reversed(self._running):
            server.stop(grace)
        self._running.clear()


class _Running:
    """One gRPC server that listens on a socket of its own."""

    def __init__(self, owned: sockets.Ownership, handlers: Iterable[grpc.GenericRpcHandler], threads: int) -> None:
        self._owned = owned
        self._pool = DaemonPool(threads, Path(owned.path).stem)
        self._server = grpc.server(self._pool, handlers=list(handlers))
        try:
            self._server.add_insecure_port(f"unix:{owned.path}")
            Path(owned.path).chmod(0o600)
        except (RuntimeError, OSError) as error:
            self.stop(0)
            raise Unavailable(f"cannot listen on {owned.path}: {error}") from error
        self._server.start()

    def stop(self, grace: float) -> None:
        """Unlink the socket so that nobody new finds it, end the calls, give the path back."""
        Path(self._owned.path).unlink(missing_ok=True)
        self._server.stop(grace).wait(grace + _LAST_SECONDS)
        self._pool.shutdown()
        self._owned.release()


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(0o750, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFailed(str(path), error.strerror or str(error)) from error
