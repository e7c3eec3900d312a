"""Threads that answer calls and never keep the process alive. Used by `servers`.

A call may be stuck for good in a hardware driver. The standard library's executor joins its threads when the
interpreter ends, so that one such call would keep a plugin that was told to end.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent import futures
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class DaemonPool(futures.ThreadPoolExecutor):
    """An executor with daemon threads. It is a ThreadPoolExecutor by name only, because grpc asks for one."""

    def __init__(self, threads: int, name: str) -> None:
        """Have at most so many threads; each is started when it is needed."""
        super().__init__(threads)
        self._most = threads
        self._name = name
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._free = threading.Semaphore(0)
        self._guard = threading.Lock()
        self._started = 0
        self._ended = False

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> futures.Future[T]:
        """Run a function on one of the threads. Raises RuntimeError after `shutdown`, as executors do."""
        future: futures.Future[T] = futures.Future()

        def run() -> None:
            if self._ended:
                future.cancel()
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits for the future
                future.set_exception(error)

        with self._guard:
            if self._ended:
                raise RuntimeError("the pool was shut down")
            self._tasks.put(run)
            if not self._free.acquire(blocking=False) and self._started < self._most:
                self._started += 1
                threading.Thread(target=self._work, name=f"{self._name}_{self._started}", daemon=True).start()
        return future

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = True) -> None:  # noqa: ARG002, FBT001, FBT002 - the executor's own signature
        """Take no more functions, drop those that wait, let those that run end by themselves."""
        with self._guard:
            if not self._ended:
                self._ended = True
                for _ in range(self._started):
                    self._tasks.put(None)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()
            self._free.release()
