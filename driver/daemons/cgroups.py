"""A control group for each daemon, apart from the plugin's. Called by `launching`.

A container's end takes all processes of its control group with it, and its memory limit counts them. A daemon in a
group of its own outlives the container and does not use up the plugin's memory. Promises that a daemon is in its group
before it is said to run. (cgroups(7); what a process starts afterwards is in its group, too.)
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from driver.model.errors import StepFailed

_MEMBERS = "cgroup.procs"


@dataclass(frozen=True, slots=True)
class Cgroup:
    """The folder of one daemon's group below the kernel's tree of control groups; None: daemons stay in ours."""

    folder: Path | None

    def enter(self, daemon: str, pid: int) -> None:
        """Make the group and move a process into it. Raises `StepFailed`."""
        if self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / _MEMBERS).write_text(f"{pid}\n")
        except OSError as error:
            why = f"cannot move it into the control group {self.folder}: {error.strerror} (setting daemon-cgroup)"
            raise StepFailed(f"daemon {daemon}", why) from error

    def remove(self) -> None:
        """Remove the group, if it is empty; one that is not harms nobody."""
        if self.folder is not None:
            with contextlib.suppress(OSError):
                self.folder.rmdir()
