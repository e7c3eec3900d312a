"""A process that does jobs in forked children of its own, which may kill themselves, and says how each ended.

Forking one warm, single-threaded process makes a kill take milliseconds. A module of fakes serves its jobs with `serve`
when it is run by `python -m`, and gives tests `ask_process`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from tests.fakes.processes import ending

_Job = TypeVar("_Job", bound=msgspec.Struct)


@contextmanager
def ask_process(module: str) -> Iterator[Callable[[msgspec.Struct], int]]:
    """Run a module's process; give a function that has a job done and returns the signal that ended it (0: none)."""
    root = Path(__file__).resolve().parent.parent.parent
    command = [sys.executable, "-m", module]
    with ending(subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE)) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        send, receive = process.stdin, process.stdout

        def ask(job: msgspec.Struct) -> int:
            send.write(msgspec.json.encode(job) + b"\n")
            send.flush()
            return int(receive.readline())

        yield ask
        send.close()


def serve(kind: type[_Job], do: Callable[[_Job], object]) -> None:
    """Do jobs until the input ends."""
    for line in sys.stdin.buffer:
        job = msgspec.json.decode(line, type=kind)
        child = os.fork()
        if child == 0:
            do(job)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.stdout.write(f"{-status}\n")
        sys.stdout.flush()
