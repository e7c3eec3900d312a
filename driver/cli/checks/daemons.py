"""Checks of the vendor's daemons (MPS): whether they run, and whether the node has what they need.

Called by `cli.doctor`. It says nothing about a node on which no daemon is wanted, and changes nothing. Processes are
looked for in the PID namespace of this process: run it in the plugin's container, as docs/operations.md does.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from driver.cli.checks.findings import Check, Finding, amount, failed, ok, warning
from driver.cli.checks.folders import find_problem
from driver.daemons import processes
from driver.daemons.places import Place
from driver.model.sharing import Strategy
from driver.settings import Settings


class Daemons:
    """The daemons of the plugin with these settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def list_checks(self) -> list[Check]:
        """Return the checks."""
        return [
            Check("daemons", "looking for the vendor's daemons", self.look_at_daemons),
            Check("daemon-needs", "looking at what daemons need", self.look_at_needs),
        ]

    def look_at_daemons(self) -> Iterator[Finding]:
        """Yield whether each daemon runs that somebody wants."""
        folder = Path(self._settings.records_root) / "daemons"
        wanted = [place for path in sorted(folder.glob("*")) if not (place := Place(path)).is_clear]
        running = 0
        for place in wanted:
            process = place.read()
            if process is not None and processes.is_running(process):
                running += 1
            else:
                advice = f"the plugin starts it again; if it keeps ending, see {place.log.path}"
                yield warning(f"daemon {place.name} does not run{place.log.last_words()}", advice)
        if running:
            yield ok(f"{amount(running, 'daemon')} running")

    def look_at_needs(self) -> Iterator[Finding]:
        """Yield whether control groups can be made, and whether the host sees the shared memory of MPS."""
        yield from self._look_at_cgroup()
        if self._settings.shares != Strategy.MPS.value:
            return
        folder = self._settings.records_root
        table = Path(self._settings.proc_root, "self", "mountinfo").read_text(errors="replace")
        if is_shared(table, folder):
            yield ok(f"the host sees what is mounted in {folder}")
        else:
            advice = "add the component mps: the volume needs mountPropagation: Bidirectional"
            yield warning(f"the host does not see what is mounted in {folder}: NVIDIA MPS would be refused", advice)

    def _look_at_cgroup(self) -> Iterator[Finding]:
        if not self._settings.daemon_cgroup:
            return
        folder = Path(self._settings.daemon_cgroup)
        advice = "mount the host's tree of control groups (version 2) above it, or leave --daemon-cgroup empty"
        if problem := find_problem(folder, to_be_made=True):
            yield failed(f"control group {folder} {problem}", advice)
        elif not any((parent / "cgroup.procs").exists() for parent in (folder, *folder.parents)):
            yield failed(f"{folder} is not in a tree of control groups", advice)
        else:
            yield ok(f"daemons get control groups below {folder}")


def is_shared(mountinfo: str, folder: str) -> bool:
    """Say whether the mount that holds a folder passes on what is mounted in it (proc_pid_mountinfo(5))."""
    best, shared = "", False
    for line in mountinfo.splitlines():
        fields = line.partition(" - ")[0].split()
        if len(fields) < 6:
            continue
        point = fields[4].replace("\\040", " ").rstrip("/")
        if (folder == point or folder.startswith(f"{point}/")) and len(point) >= len(best):
            best, shared = point, any(field.startswith("shared:") for field in fields[6:])
    return shared
