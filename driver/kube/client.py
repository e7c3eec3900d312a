"""HTTP to one API server: the requests that the driver makes, over one pool of warm connections.

Called from many threads. Promises: TLS is verified, rotated tokens and certificates are picked up, a connection that
died is replaced, errors come as `driver.model.errors`. Must not: retry a request that may have changed something,
interpret objects.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final
from urllib.parse import urlencode, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, InsecureRequestWarning, ProtocolError, SSLError

from driver import __version__
from driver.kube import replies
from driver.kube.access import Access, make_context
from driver.model.errors import DriverError, Forbidden, InvalidInput, Unavailable

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"
WATCH: Final = "application/json;stream=watch"

Parameters = Mapping[str, str | int]
"""Query parameters."""

_CONNECTIONS: Final = 16
_CHUNK: Final = 65536
_RENEWAL_PAUSE: Final = 10.0
"""Seconds between two attempts to renew credentials: an exec plugin may ask a person or a service."""
_KEEPALIVE: Final = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
"""Finds a peer that vanished without a word (a node that lost power, a balancer that forgot us) within a minute."""


@dataclass(frozen=True, slots=True)
class _Request:
    """One request, ready to be sent."""

    method: str
    path: str
    body: bytes | None = None
    content_type: str = JSON
    accept: str = JSON
    streams: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.path.partition('?')[0]}"


class _UntrustedError(Unavailable):
    """TLS failed: the server's certificate or ours may have been replaced."""


class Client:
    """Requests to one API server. Safe for many threads; `close` it at the end.

    Every method raises `Unavailable` (network, overload, server error), `Forbidden`, `NotFound`, `Conflict`, `Gone` or
    `Rejected`.
    """

    def __init__(self, access: Access, *, timeout: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout = timeout
        self._clock = clock
        self._session = _Session(access)
        self._renewing = threading.Lock()
        self._renewed_at = float("-inf")
        machine = os.uname()
        self._agent = f"accel-dra/{__version__} ({machine.sysname.lower()}/{machine.machine})"

    @property
    def server(self) -> str:
        """The URL that requests go to."""
        return self._session.access.server

    def get(
        self, path: str, params: Parameters | None = None, *, accept: str = JSON, timeout: float | None = None
    ) -> bytes:
        """Return the body of GET; repeated once at once if a kept connection turns out to be dead."""
        return self._request(_Request("GET", _join(path, params), accept=accept), timeout)

    def create(
        self, path: str, body: bytes, params: Parameters | None = None, *, timeout: float | None = None
    ) -> bytes:
        """POST an object to its collection and return it as stored."""
        return self._request(_Request("POST", _join(path, params), body), timeout)

    def replace(self, path: str, body: bytes, content_type: str = JSON, *, timeout: float | None = None) -> bytes:
        """PUT an object and return it as stored."""
        return self._request(_Request("PUT", path, body, content_type), timeout)

    def patch(
        self,
        path: str,
        body: bytes,
        content_type: str = MERGE_PATCH,
        params: Parameters | None = None,
        *,
        timeout: float | None = None,
    ) -> bytes:
        """PATCH an object and return it as stored."""
        return self._request(_Request("PATCH", _join(path, params), body, content_type), timeout)

    def delete(self, path: str, body: bytes | None = None) -> bytes:
        """DELETE an object; `body` are DeleteOptions, such as preconditions."""
        return self._request(_Request("DELETE", path, body), None)

    def stream(self, path: str, params: Parameters | None = None, *, idle_timeout: float = 120.0) -> Stream:
        """Open a GET that does not end (a watch): iterate over its lines inside `with`.

        Raises like the other methods, while iterating as well; `Unavailable` after `idle_timeout` seconds of silence.
        """
        request = _Request("GET", _join(path, params), streams=True)
        timeout = urllib3.Timeout(connect=self._timeout, read=idle_timeout)
        return Stream(self._send(request, timeout), request)

    def close(self) -> None:
        """Close the idle connections. Requests under way end by themselves."""
        self._session.pool.close()

    def _request(self, request: _Request, timeout: float | None) -> bytes:
        limit = self._timeout if timeout is None else min(timeout, self._timeout)
        return self._send(request, urllib3.Timeout(total=limit)).data

    def _send(self, request: _Request, timeout: urllib3.Timeout) -> urllib3.BaseHTTPResponse:
        """Send, and once more with renewed credentials where they are what is not taken."""
        session = self._session
        failure: DriverError
        try:
            response = session.exchange(request, self._agent, timeout)
            if response.status < 300:
                return response
            failure = _refuse(response, request)
            if response.status != 401:
                raise failure
        except _UntrustedError as error:
            failure = error
        if not self._renew(session):
            raise failure
        response = self._session.exchange(request, self._agent, timeout)
        if response.status >= 300:
            raise _refuse(response, request)
        return response

    def _renew(self, refused: _Session) -> bool:
        """Replace the refused session; False if that is not possible or was done a moment ago."""
        with self._renewing:
            if self._session is not refused:
                return True
            renew, now = refused.access.renew, self._clock()
            if renew is None or now - self._renewed_at < _RENEWAL_PAUSE:
                return False
            self._renewed_at = now
            try:
                self._session = _Session(renew())
            except DriverError as error:
                raise Forbidden(f"credentials for {refused.access.server} cannot be renewed: {error}") from error
            refused.pool.close()
            return True


class Stream:
    """The lines of one endless answer. Iterate in one thread, `abort` from any."""

    def __init__(self, response: urllib3.BaseHTTPResponse, request: _Request) -> None:
        self._response = response
        self._request = request
        self._aborted = False

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._response.close()

    def __iter__(self) -> Iterator[bytes]:
        """Yield complete lines without their end, until the server ends the stream or `abort` is called."""
        pending = b""
        try:
            for chunk in self._response.stream(_CHUNK, decode_content=True):
                *lines, pending = (pending + chunk).split(b"\n")
                yield from lines
        except (HTTPError, OSError, ValueError) as error:
            # ValueError: the socket was closed under the reader, which only `abort` does.
            if not self._aborted:
                raise Unavailable(f"{self._request}: the stream broke: {_explain(error)}") from error

    def abort(self) -> None:
        """End the iteration now, also one that waits for data."""
        self._aborted = True
        with contextlib.suppress(ValueError, RuntimeError, OSError):
            self._response.shutdown()


class _Session:
    """One access and the pool made from it; replaced as a whole when credentials are renewed."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self.pool = _open_pool(access)
        self._prefix = urlsplit(access.server).path.rstrip("/")
        self._token = (0, access.token)

    def exchange(self, request: _Request, agent: str, timeout: urllib3.Timeout) -> urllib3.BaseHTTPResponse:
        """Send a request, a read twice if the connection dies. Raises `Unavailable`; HTTP errors are the caller's."""
        for again in (request.method == "GET", False):
            try:
                return self.pool.urlopen(
                    request.method,
                    self._prefix + request.path,
                    body=request.body,
                    headers=self._headers(request, agent),
                    retries=False,
                    redirect=False,
                    timeout=timeout,
                    preload_content=not request.streams,
                    assert_same_host=False,
                )
            except SSLError as error:
                raise _UntrustedError(f"{request}: TLS with {self.access.server} failed: {error}") from error
            except ProtocolError as error:
                if not again:
                    raise Unavailable(f"{request}: {self.access.server}: {_explain(error)}") from error
            except (HTTPError, OSError) as error:
                raise Unavailable(f"{request}: {self.access.server}: {_explain(error)}") from error
        raise AssertionError("the second turn returns or raises")

    def _headers(self, request: _Request, agent: str) -> dict[str, str]:
        headers = {"Accept": WATCH if request.streams else request.accept, "User-Agent": agent}
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        if token := self._read_token():
            headers["Authorization"] = f"Bearer {token}"
        return headers

    def _read_token(self) -> str:
        """Return the token; the one of a file is read again when the file was replaced."""
        path = self.access.token_file
        if not path:
            return self.access.token
        known, token = self._token
        with contextlib.suppress(OSError):
            file = Path(path)
            stamp = file.stat().st_mtime_ns
            if stamp != known:
                token = file.read_text().strip()
                self._token = (stamp, token)
        return token


def _open_pool(access: Access) -> urllib3.HTTPConnectionPool:
    url = urlsplit(access.server)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise InvalidInput("server", access.server, "a URL such as https://10.0.0.1:6443")
    if access.proxy and url.scheme != "https":
        raise InvalidInput("proxy-url", access.proxy, f"no proxy for a server without TLS such as {access.server}")
    manager = urllib3.ProxyManager(access.proxy) if access.proxy else urllib3.PoolManager()
    options = manager.connection_pool_kw
    options.update(maxsize=_CONNECTIONS, socket_options=_KEEPALIVE)
    if url.scheme == "https":
        options["ssl_context"] = make_context(access)
        if access.server_name:
            options.update(server_hostname=access.server_name, assert_hostname=access.server_name)
        if access.insecure:
            urllib3.disable_warnings(InsecureRequestWarning)
    return manager.connection_from_url(access.server)


def _refuse(response: urllib3.BaseHTTPResponse, request: _Request) -> DriverError:
    status = replies.read_status(response.data)
    return replies.make_error(response.status, status, str(request), response.headers.get("Retry-After"))


def _explain(error: Exception) -> str:
    """Return the innermost reason of a library error: `Connection refused` instead of three wrappers around it."""
    cause = error.__cause__ or error.__context__
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(error)


def _join(path: str, params: Parameters | None) -> str:
    return f"{path}?{urlencode(params)}" if params else path
