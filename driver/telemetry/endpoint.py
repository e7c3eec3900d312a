"""The plugin's own HTTP port: /metrics for Prometheus, /healthz and /readyz for the kubelet's probes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Final

from driver.model.errors import InvalidInput

Page = Callable[[], tuple[int, bytes]]
_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"


class _Server(ThreadingHTTPServer):
    """Listens on both families where no host is given, so that probes find it on IPv4 and on IPv6 clusters."""

    daemon_threads = True

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        both = not host and socket.has_dualstack_ipv6()
        self.address_family = socket.AF_INET6 if both or ":" in host else socket.AF_INET
        super().__init__((host, port), handler)

    def server_bind(self) -> None:
        """Bind without the look-up of our own name that http.server makes: it can take seconds."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        TCPServer.server_bind(self)

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet about a client that hangs up: it is the client's business, and a stack trace hides ours."""
        del request, client_address


class Endpoint:
    """Serves pages (path to status and body) on its own threads until it is stopped."""

    def __init__(self, address: str, pages: dict[str, Page]) -> None:
        """Bind `host:port`. Raises `InvalidInput` if the address cannot be bound."""
        host, _, port = address.rpartition(":")
        try:
            self._server = _Server(host.strip("[]"), int(port), _handler(pages))
        except OSError as error:
            raise InvalidInput("metrics-address", address, f"an address that can be bound ({error})") from error
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="endpoint", daemon=True)

    @property
    def port(self) -> int:
        """The port that is served, also when 0 was asked for."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Close the port and wait for the serving thread. Safe without `start`."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


def _handler(pages: dict[str, Page]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            status, body = page() if page else (404, b"not found\n")
            self.send_response(status)
            self.send_header("Content-Type", _TEXT)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's signature
            del format, args

    return Handler
