"""The webhook's HTTPS port: takes AdmissionReviews, within limits of size, time and number, and answers each.

Made by `app`, which hands in what answers. Every connection has a thread of its own, in which the TLS handshake
happens, too, so that a client that says nothing holds up nobody else. HTTP/1.1 with kept connections, as the API server
uses it. Promises: whatever arrives is answered with a status and a sentence, or its connection is closed.
"""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Final

from driver.model.errors import InvalidInput

PATH: Final = "/review"
"""Where the API server sends its requests."""
MAX_BODY: Final = 8 << 20
"""Bytes of a request: two versions of an object, each at most what the API server takes (3 MiB), and the frame."""
MAX_CONNECTIONS: Final = 256
"""At the same time; an API server keeps a few. One more is closed at once."""
MAX_REVIEWS: Final = 8
"""Requests whose bodies are held at the same time; others wait for their turn, each within its deadline."""

_TEXT: Final = "text/plain; charset=utf-8"
_JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds."""

    request: float = 8.0
    """In which a request has to arrive and get its turn, from its first line on; and a handshake."""
    idle: float = 120.0
    """For which a connection is kept without a request; longer than the 90 s of the API server's client."""


class Refused(Exception):  # noqa: N818 - what it says, not that it is an error
    """A request that is not answered with a review. `reason` is one word for the metric."""

    def __init__(self, status: HTTPStatus, reason: str, message: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(message)


Answer = Callable[[bytes], bytes]
"""Body of a request to body of its answer. Raises `InvalidInput` for a request that is none."""
Complain = Callable[[str, str], None]
"""Gets the reason in one word, and the sentence, of what was not answered with a review."""


class Server:
    """Listens until it is stopped."""

    def __init__(
        self,
        address: str,
        context: Callable[[], ssl.SSLContext],
        answer: Answer,
        complain: Complain,
        limits: Limits | None = None,
    ) -> None:
        """Bind `host:port`. Raises `InvalidInput` if the address cannot be bound."""
        host, _, port = address.rpartition(":")
        try:
            self._listener = _Listener(
                host.strip("[]"), int(port), _Service(context, answer, complain, limits or Limits())
            )
        except OSError as error:
            raise InvalidInput("address", address, f"an address that can be bound ({error})") from error
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.1,), name="webhook", daemon=True)

    @property
    def port(self) -> int:
        """The port that is served, also when 0 was asked for."""
        return int(self._listener.server_address[1])

    @property
    def alive(self) -> bool:
        """True while connections are taken."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """Close the port, and wait so long for requests under way. Safe without `start`."""
        if self._thread.is_alive():
            self._listener.shutdown()
            self._thread.join()
        self._listener.server_close()
        self._listener.drain(seconds)


class _Service:
    """What the handlers of all connections share."""

    def __init__(
        self, context: Callable[[], ssl.SSLContext], answer: Answer, complain: Complain, limits: Limits
    ) -> None:
        self.context = context
        self.answer = answer
        self.complain = complain
        self.limits = limits
        self.turns = threading.BoundedSemaphore(MAX_REVIEWS)
        self.places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self.ending = threading.Event()
        self._busy = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def under_way(self) -> Iterator[None]:
        """Count a request from its first line to the last byte of its answer."""
        with self._changed:
            self._busy += 1
        try:
            yield
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    def wait_until_idle(self, seconds: float) -> None:
        """Wait so long at most until no request is under way."""
        with self._changed:
            self._changed.wait_for(lambda: self._busy == 0, seconds)


class _Listener(ThreadingHTTPServer):
    """Takes connections. On both families where no host is given."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, host: str, port: int, service: _Service) -> None:
        both = not host and socket.has_dualstack_ipv6()
        self.address_family = socket.AF_INET6 if both or ":" in host else socket.AF_INET
        self.service = service
        self._open: set[object] = set()
        self._lock = threading.Lock()
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Bind without the look-up of our own name that http.server makes: it can take seconds."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        TCPServer.server_bind(self)

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        """Give the connection a thread, or close it if there are too many."""
        if self.service.places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        """Serve one connection on its own thread, from the handshake on."""
        assert isinstance(request, socket.socket)  # noqa: S101 - for the type: this server is no UDP server
        try:
            request.settimeout(self.service.limits.request)
            with self.service.context().wrap_socket(request, server_side=True) as encrypted:
                self._note(encrypted)
                super().process_request_thread(encrypted, client_address)
        except OSError:  # no TLS, no trust, no time, no connection any more
            with contextlib.suppress(OSError):
                request.close()
        finally:
            self.service.places.release()

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        """Forget a connection and close it."""
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet about a client that hangs up; what a handler does wrong is told by the handler."""
        del request, client_address

    def drain(self, seconds: float) -> None:
        """Let requests under way end, then cut what is still open."""
        self.service.ending.set()
        self.service.wait_until_idle(seconds)
        with self._lock:
            left = [each for each in self._open if isinstance(each, socket.socket)]
        for each in left:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _note(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)


class _Timed(io.RawIOBase):
    """Reads from a socket until a deadline that its user moves."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._connection = connection
        self.deadline = 0.0

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # BufferedReader gives a memoryview
        """Read what is there. Raises TimeoutError after the deadline."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class _Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    protocol_version = "HTTP/1.1"
    server_version = "accel-dra"
    sys_version = ""
    server: _Listener
    wbufsize = -1
    disable_nagle_algorithm = True
    """An answer leaves in one piece and at once; in two, the second one would wait 40 ms for the client's thanks."""

    def setup(self) -> None:
        """Read with a deadline."""
        super().setup()
        self._service = self.server.service
        self._timed = _Timed(self.connection)
        self.rfile = io.BufferedReader(self._timed)

    def handle_one_request(self) -> None:
        """Wait for the next request, as long as a connection may be idle."""
        self._timed.deadline = time.monotonic() + self._service.limits.idle
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def parse_request(self) -> bool:
        """From the first line on, the request has to arrive in time."""
        self._timed.deadline = time.monotonic() + self._service.limits.request
        return super().parse_request()

    def do_POST(self) -> None:
        """Answer a review."""
        with self._service.under_way():
            self._answer()

    def _answer(self) -> None:
        try:
            body = self._review()
        except Refused as error:
            self._refuse(error)
        except InvalidInput as error:
            self._refuse(Refused(HTTPStatus.BAD_REQUEST, "invalid", str(error)))
        except Exception as error:  # noqa: BLE001 - a defect of ours is answered and told, and the process goes on
            message = f"this is a defect of accel-dra: {type(error).__name__}: {error}"
            self._refuse(Refused(HTTPStatus.INTERNAL_SERVER_ERROR, "defect", message))
        else:
            self._send(HTTPStatus.OK, _JSON, body)

    def _review(self) -> bytes:
        if self.path.partition("?")[0] != PATH:
            raise Refused(HTTPStatus.NOT_FOUND, "path", f"reviews are answered at {PATH}")
        size = self._read_size()
        left = max(self._timed.deadline - time.monotonic(), 0)
        if not self._service.turns.acquire(timeout=left):
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "busy", f"{MAX_REVIEWS} reviews are under way; try again")
        try:
            return self._service.answer(self._read_body(size))
        finally:
            self._service.turns.release()

    def _read_size(self) -> int:
        written = self.headers.get("Content-Length", "")
        if self.headers.get("Transfer-Encoding") or not (written.isascii() and written.isdecimal()):
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "length", "a request needs a Content-Length")
        if len(written) > len(str(MAX_BODY)) or int(written) > MAX_BODY:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "size", f"a request has at most {MAX_BODY} bytes")
        return int(written)

    def _read_body(self, size: int) -> bytes:
        try:
            body = self.rfile.read(size)
        except TimeoutError as error:
            seconds = self._service.limits.request
            message = f"the request has not arrived within {seconds:g} seconds"
            raise Refused(HTTPStatus.REQUEST_TIMEOUT, "slow", message) from error
        except OSError:  # ended without the farewell of TLS
            body = b""
        if len(body) < size:
            raise Refused(HTTPStatus.BAD_REQUEST, "short", f"the request ends before its {size} bytes")
        return body

    def _refuse(self, error: Refused) -> None:
        """Answer with a sentence, and close: what is left of the request was not read."""
        self.close_connection = True
        self._service.complain(error.reason, str(error))
        self._send(error.status, _TEXT, f"{error}\n".encode("utf-8", "backslashreplace"))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what http.server itself refuses: another method, a line that is too long, no HTTP at all."""
        del explain
        status = HTTPStatus(code)
        self.close_connection = True
        text = f"{status.phrase}: {message or 'reviews come by POST'}"
        self._service.complain("http", text)
        self._send(status, _TEXT, f"{text}\n".encode("utf-8", "backslashreplace"))

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        ending = self.close_connection or self._service.ending.is_set()
        self.close_connection = ending
        self.connection.settimeout(self._service.limits.request)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if ending:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's signature
        """Keep quiet: `app` tells what is worth telling."""
        del format, args
