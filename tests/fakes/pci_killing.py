"""A process that kills itself with SIGKILL in the middle of handing a device over, or of giving it back.

`python -m tests.fakes.pci_killing` reads one JSON `Job` a line, does it in a forked child of its own, and answers with
the signal that ended it (0: it ran to its end).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from driver.model.prepared import Step
from tests.fakes.passing import Site
from tests.fakes.processes import ending


class Job(msgspec.Struct, frozen=True):
    """What to do with a step, and after how many changes to die."""

    root: str
    act: str
    """`run` or `undo`."""
    step: Step
    dies_after: int


def do(job: Job) -> None:
    """Do a job in this process."""
    site = Site(Path(job.root))
    site.kernel.dies_after = job.dies_after
    passthrough = site.open()
    if job.act == "run":
        passthrough.run(job.step)
    else:
        passthrough.undo(job.step)


@contextmanager
def server() -> Iterator[Callable[[Job], int]]:
    """Run the process; give a function that has a job done and returns the signal that ended it."""
    root = Path(__file__).resolve().parent.parent.parent
    command = [sys.executable, "-m", "tests.fakes.pci_killing"]
    with ending(subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE)) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        send, receive = process.stdin, process.stdout

        def ask(job: Job) -> int:
            send.write(msgspec.json.encode(job) + b"\n")
            send.flush()
            return int(receive.readline())

        yield ask
        send.close()


def main() -> None:
    """Serve jobs until the input ends."""
    for line in sys.stdin.buffer:
        job = msgspec.json.decode(line, type=Job)
        child = os.fork()
        if child == 0:
            do(job)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.stdout.write(f"{-status}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
