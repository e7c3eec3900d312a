"""The HTTP edge: aiohttp in a thread of its own.

The only module that knows sockets. It turns an aiohttp request into a `Request`, streams watches, and applies the
faults a test asked for. It serves demo, tests and benchmarks on the loopback interface and nothing else.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from driver.simulation.apiserver.faults import Fault, Faults
from driver.simulation.apiserver.requests import Request, Response, json_response
from driver.simulation.apiserver.statuses import failure
from driver.simulation.apiserver.watching import Watch

Answer = Callable[[Request], "Response | Watch"]


@dataclass(frozen=True)
class Pace:
    """How long things take: seconds between bookmarks, and how long a second of timeoutSeconds lasts."""

    bookmarks: float = 60.0
    second: float = 1.0


class HttpEdge:
    """Listens on 127.0.0.1 in its own thread and event loop; `start` returns once the port is open."""

    def __init__(
        self, answer: Answer, faults: Faults, pace: Pace, port: int = 0, certificate: Path | None = None
    ) -> None:
        self._answer = answer
        self._faults = faults
        self._pace = pace
        self.port = port
        self._certificate = certificate
        self._ready = threading.Event()
        self._failure: Exception | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Opens the port. OSError if it is taken or the certificate cannot be read."""
        self._ready.clear()
        self._thread = threading.Thread(target=self._run, name="apiserver", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            self._thread = None
            raise self._failure

    def stop(self) -> None:
        """Closes the port and every stream, and waits for the thread."""
        if self._thread is None or self._loop is None or self._stopping is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._thread = None

    def _run(self) -> None:
        self._failure = None
        try:
            asyncio.run(self._serve())
        except Exception as error:  # noqa: BLE001 - raised again by start(), in the thread that can use it
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=self._tls())
            await site.start()
            self.port = runner.addresses[0][1]
            self._ready.set()
            await self._stopping.wait()
        finally:
            await runner.cleanup()

    def _tls(self) -> ssl.SSLContext | None:
        if self._certificate is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._certificate)
        return context

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        body = await http.content.read() if http.can_read_body else b""
        request = Request(
            http.method,
            http.rel_url.raw_path,
            _first_values(http),
            _joined_headers(http),
            body,
        )
        fault = self._faults.hit(request)
        broken = await self._break(http, fault)
        if broken is not None:
            return broken
        answer = self._answer(request)
        if fault.lost:
            _hang_up(http)
            return web.Response()
        if isinstance(answer, Watch):
            return await self._stream(http, answer)
        return _respond(answer)

    @staticmethod
    async def _break(http: web.BaseRequest, fault: Fault) -> web.StreamResponse | None:
        """Applies a planned fault; an answer if it is the answer."""
        if fault.latency:
            await asyncio.sleep(fault.latency)
        if fault.cut:
            _hang_up(http)
            return web.Response()
        if not fault.status:
            return None
        reason = {429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout"}
        details = None if fault.retry_after is None else {"retryAfterSeconds": fault.retry_after}
        error = failure(fault.status, reason.get(fault.status, ""), "fault injected by a test", dict(details or {}))
        refusal = json_response(error.body, error.code)
        refusal.headers.update(error.headers)
        return _respond(refusal)

    async def _stream(self, http: web.BaseRequest, watch: Watch) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": watch.content_type})
        response.enable_chunked_encoding()
        await response.prepare(http)
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(changed.set)

        def cut() -> None:
            loop.call_soon_threadsafe(_hang_up, http)

        forget = self._faults.watching(cut)
        stop = watch.listen(wake)
        try:
            await self._feed(response, watch, changed)
            await response.write_eof()
        except ConnectionError:
            pass  # the client went away, which is how most watches end
        finally:
            stop()
            forget()
        return response

    async def _feed(self, response: web.StreamResponse, watch: Watch, changed: asyncio.Event) -> None:
        """Writes what the watch has to say until it ends, its time is up or the server stops."""
        now = asyncio.get_running_loop().time
        deadline = now() + watch.timeout * self._pace.second if watch.timeout else None
        bookmark = now() + self._pace.bookmarks
        while True:
            changed.clear()
            lines = watch.take()
            if now() >= bookmark:
                lines += watch.bookmark()
                bookmark = now() + self._pace.bookmarks
            if lines:
                await response.write(b"".join(lines))
            if watch.ended() or (deadline is not None and now() >= deadline):
                return
            if not await self._wait(changed, min(bookmark, deadline or bookmark) - now()):
                return

    async def _wait(self, changed: asyncio.Event, seconds: float) -> bool:
        """Waits for a change or until the time is up; False if the server stops."""
        if self._stopping is None:
            return False
        waiting = [asyncio.ensure_future(changed.wait()), asyncio.ensure_future(self._stopping.wait())]
        try:
            await asyncio.wait(waiting, timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        return not self._stopping.is_set()


def _first_values(http: web.BaseRequest) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, value in http.rel_url.query.items():
        values.setdefault(name, value)
    return values


def _joined_headers(http: web.BaseRequest) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in http.headers.items():
        lower = name.lower()
        headers[lower] = f"{headers[lower]}, {value}" if lower in headers else value
    return headers


def _hang_up(http: web.BaseRequest) -> None:
    if http.transport is not None:
        http.transport.abort()


def _respond(answer: Response) -> web.Response:
    response = web.Response(status=answer.status, body=answer.body, headers=answer.headers)
    response.headers["Content-Type"] = answer.content_type
    for warning in answer.warnings:
        quoted = warning.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{quoted}"')
    return response
