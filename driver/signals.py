"""SIGTERM and SIGINT, heard in whichever thread the kernel interrupts. Used by commands that run until they are told.

Python runs a signal's handler in the main thread only, and a main thread that waits for a lock learns of a signal only
if the kernel interrupts just this thread. In a process with threads it may interrupt any of them, and then the handler
waits as long as the main thread does: for ever. So nothing here depends on a Python handler: the C handler, which runs
at once and in any thread, writes the signal's number into a pipe (`signal.set_wakeup_fd`), and a thread reads it.
Nothing is blocked, so children inherit nothing.

Once a command has been told to end, further signals change nothing, also while the interpreter is taken down: a
process that does as it was told must not look like one that was killed. SIGKILL remains.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_REPEAT_SECONDS: Final = 0.1
Allow = Callable[[], contextlib.AbstractContextManager[None]]
"""A block that signals may interrupt."""


@contextlib.contextmanager
def listen() -> Iterator[threading.Event]:
    """Give an event that the first SIGTERM or SIGINT sets. For the main thread; leave it when the process ends."""
    ended = threading.Event()
    _receive(ended.set, lambda _number, _frame: None)
    try:
        yield ended
    finally:
        _ignore()


@contextlib.contextmanager
def interrupt() -> Iterator[Allow]:
    """Give a block in which the first SIGTERM or SIGINT raises KeyboardInterrupt, whatever the main thread waits for.

    Outside such blocks nothing is interrupted, neither what is being made nor what is being cleared away: a signal
    waits for the next block, and is forgotten if there is none. It is raised once. For the main thread; leave it when
    the process ends.
    """
    main = threading.get_ident()
    allowed = raised = False

    def raise_once(_number: int, _frame: FrameType | None) -> None:
        nonlocal raised
        if allowed and not raised:
            raised = True
            raise KeyboardInterrupt

    def relay() -> None:
        # The main thread may just be about to wait, or be outside a block: it is interrupted until it has noticed.
        while not raised:
            signal.pthread_kill(main, signal.SIGINT)
            threading.Event().wait(_REPEAT_SECONDS)

    @contextlib.contextmanager
    def allow() -> Iterator[None]:
        nonlocal allowed
        allowed = True
        try:
            yield
        finally:
            allowed = False

    _receive(relay, raise_once)
    try:
        yield allow
    finally:
        raised = True
        _ignore()


def _receive(react: Callable[[], None], handle: Callable[[int, FrameType | None], None]) -> None:
    """Call `react` on a thread at the first signal, and `handle` in the main thread whenever Python comes to it."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_wait, args=(reader, react), name="signals", daemon=True).start()
    for number in SIGNALS:
        signal.signal(number, handle)


def _wait(reader: int, react: Callable[[], None]) -> None:
    while not any(number in SIGNALS for number in os.read(reader, 1)):
        pass
    react()


def _ignore() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
