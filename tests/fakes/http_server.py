"""A real HTTP server whose answers a test decides request by request: for faults that a good API server never shows.

`handle` gets every request and returns a `Reply`, or None to cut the connection without a word.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import parse_qsl, urlsplit

TLS = Path(__file__).resolve().parent.parent / "data" / "tls"


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    connection: int
    """Port of the client's side: the same for requests over one kept connection."""
    at: float
    """Monotonic seconds of its arrival."""

    @property
    def json(self) -> dict[str, object]:
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value


@dataclass(frozen=True)
class Reply:
    """What to answer. With `chunks`, a stream that is ended in good order, or cut if `cut`."""

    status: int = 200
    body: bytes | object = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    chunks: Iterable[bytes] | None = None
    cut: bool = False


Handle = Callable[[Request], Reply | None]


def status(code: int, message: str = "", **details: object) -> Reply:
    """A Status as the API server sends one."""
    return Reply(code, {"kind": "Status", "apiVersion": "v1", "code": code, "message": message, "details": details})


class HttpServer:
    """Listens on the loopback interface. `requests` is everything that arrived."""

    def __init__(self, handle: Handle, *, tls: bool = False, client_ca: bool = False, port: int = 0) -> None:
        self.handle = handle
        self.requests: list[Request] = []
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._server = _Listener(port, self)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(TLS / "server.pem", TLS / "server.key")
            if client_ca:
                context.load_verify_locations(TLS / "ca.pem")
                context.verify_mode = ssl.CERT_REQUIRED
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = int(self._server.server_address[1])
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> HttpServer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Close the port and every connection, as a killed server does."""
        self._server.shutdown()
        self._thread.join()
        self.cut_connections()
        self._server.server_close()

    def cut_connections(self) -> None:
        """Kill every open connection."""
        with self._lock:
            sockets = list(self._sockets)
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def find(self, method: str, part: str = "") -> list[Request]:
        """Requests so far with this method whose path contains the part."""
        return [each for each in self.requests if each.method == method and part in each.path]

    def track(self, connection: socket.socket, *, is_open: bool) -> None:
        with self._lock:
            (self._sockets.add if is_open else self._sockets.discard)(connection)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    @property
    def _owner(self) -> HttpServer:
        assert isinstance(self.server, _Listener)
        return self.server.owner

    def setup(self) -> None:
        super().setup()
        self._owner.track(self.connection, is_open=True)

    def finish(self) -> None:
        self._owner.track(self.connection, is_open=False)
        with contextlib.suppress(OSError):
            super().finish()

    def _serve(self) -> None:
        url = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        request = Request(
            self.command,
            url.path,
            dict(parse_qsl(url.query)),
            dict(self.headers.items()),
            self.rfile.read(length),
            int(self.client_address[1]),
            time.monotonic(),
        )
        self._owner.requests.append(request)
        reply = self._owner.handle(request)
        if reply is None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif reply.chunks is None:
            self._send(reply)
        else:
            self._stream(reply, iter(reply.chunks))

    def _send(self, reply: Reply) -> None:
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in {"Content-Length": str(len(body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if reply.cut else body)
        self.wfile.flush()
        if reply.cut:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def _stream(self, reply: Reply, chunks: Iterator[bytes]) -> None:
        self.send_response(reply.status)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        for chunk in chunks:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            self.wfile.flush()
        if not reply.cut:
            self.wfile.write(b"0\r\n\r\n")
            self.wfile.flush()
            return
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - http.server's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        del format, args


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int, owner: HttpServer) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are no news."""
