"""A process that kills itself with SIGKILL in the middle of handing a device over, or of giving it back.

`python -m tests.fakes.pci_killing` reads one JSON `Job` a line, does it in a forked child of its own, and answers with
the signal that ended it (0: it ran to its end).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from driver.model.prepared import Step
from tests.fakes.forking import ask_process, serve
from tests.fakes.passing import Site


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


def server() -> AbstractContextManager[Callable[[Job], int]]:
    """Run the process; give a function that has a job done and returns the signal that ended it."""
    return ask_process("tests.fakes.pci_killing")


if __name__ == "__main__":
    serve(Job, do)
