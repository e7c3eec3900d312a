"""The HTTP edge: aiohttp in a thread of its own.

The only module that knows sockets. It turns an aiohttp request into a `Request`, streams watches, and applies the
faults a test asked for. It serves demo, tests and benchmarks on the loopback interface and nothing else.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from aiohttp import web

from driver.simulation.apiserver.requests import Request, Response
from driver.simulation.apiserver.watching import Watch

MAX_BODY = 3 * 1024 * 1024
"""Bytes a request may have, as upstream's limit for resources."""
BOOKMARK_SECONDS = 60.0

Answer = Callable[[Request], "Response | Watch"]


class HttpEdge:
    """Listens on 127.0.0.1 in its own thread and event loop; `start` returns once the port is open."""

    def __init__(self, answer: Answer, port: int = 0) -> None:
        self._answer = answer
        self.port = port
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Opens the port. OSError if it is taken."""
        self._thread = threading.Thread(target=self._run, name="apiserver", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def stop(self) -> None:
        """Closes the port and every stream, and waits for the thread."""
        if self._thread is None or self._loop is None or self._stopping is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._thread = None

    def _run(self) -> None:
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
            site = web.TCPSite(runner, "127.0.0.1", self.port)
            await site.start()
            self.port = runner.addresses[0][1]
            self._ready.set()
            await self._stopping.wait()
        finally:
            await runner.cleanup()

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        body = await http.content.read() if http.can_read_body else b""
        request = Request(
            http.method,
            http.rel_url.raw_path,
            dict(http.rel_url.query),
            {name.lower(): value for name, value in http.headers.items()},
            body,
        )
        answer = self._answer(request)
        if isinstance(answer, Watch):
            return await self._stream(http, answer)
        return _respond(answer)

    async def _stream(self, http: web.BaseRequest, watch: Watch) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(http)
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(changed.set)

        deadline = loop.time() + watch.timeout if watch.timeout else None
        stop = watch.listen(wake)
        try:
            while not watch.ended():
                changed.clear()
                lines = watch.take()
                if lines:
                    await response.write(b"".join(lines))
                if not watch.ended() and not await self._wait(changed, deadline):
                    break
            await response.write_eof()
        except ConnectionError:
            pass  # the client went away, which is how most watches end
        finally:
            stop()
        return response

    async def _wait(self, changed: asyncio.Event, deadline: float | None) -> bool:
        """Waits for a change; False once the stream has to end."""
        if self._stopping is None:
            return False
        waiting = [asyncio.ensure_future(changed.wait()), asyncio.ensure_future(self._stopping.wait())]
        left = None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())
        try:
            await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        return changed.is_set() and not self._stopping.is_set()


def _respond(answer: Response) -> web.Response:
    response = web.Response(status=answer.status, body=answer.body, headers=answer.headers)
    response.headers["Content-Type"] = answer.content_type
    for warning in answer.warnings:
        response.headers.add("Warning", f'299 - "{warning}"')
    return response
