"""Programs that come with the driver, found below the driver root and run as its own libraries need it.

Called by mps.py and time_slices.py. Where the root is a system of its own (the host, a driver container) the program
is run inside it, like chroot(8); where it holds only the driver's files (Google's COS) it is run here, with the
driver's libraries added to the search path.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from driver.model.errors import StepFailed, Unsupported
from driver.vendors.nvidia.driver_files import DriverFiles, Finder

_ROOTED: Final = Path(__file__).with_name("rooted.py")
_SHELL: Final = "/bin/sh"
"""What a root that is a system has and one that holds a driver's files only has not."""
_LONGEST: Final = 200
"""Characters of a program's own words in a message."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to run, and with which variables beside PATH."""

    words: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class View:
    """What a program sees apart from the driver root: folders, named by variables, and /dev/shm."""

    folders: Mapping[str, str] = field(default_factory=dict)
    shm: str = ""


_NOTHING: Final = View()


class Programs:
    """Finds and runs programs of the installed driver. Safe to share."""

    def __init__(self, finder: Finder, *, isolated: bool = True) -> None:
        """`isolated`: programs get a mount namespace of their own; without it they see folders where they are."""
        self._finder = finder
        self._isolated = isolated

    def command(self, name: str, arguments: Sequence[str], view: View = _NOTHING) -> Command:
        """Return how a program is run. Raises `Unsupported` if the driver has no such, `Unavailable` without driver."""
        files = self._finder.files()
        found = next((file for file in files.binaries if file.path.endswith(f"/{name}")), None)
        if found is None:
            raise Unsupported(f"{name} is not in the driver root {files.root.host or '/'}")
        if not self._isolated:
            return Command((files.root.here(found.source), *arguments), _search(files) | dict(view.folders))
        inside = files.root.mount if files.root.resolve(_SHELL) else ""
        plan = json.dumps({"root": inside, "folders": dict(view.folders), "shm": view.shm})
        program = found.source if inside == files.root.mount else files.root.here(found.source)
        environment = {} if inside == files.root.mount else _search(files)
        return Command((sys.executable, "-IS", str(_ROOTED), plan, program, *arguments), environment)

    def run(self, step: str, command: Command, text: str = "", seconds: float = 10.0) -> str:
        """Run it to its end, with this input, and return its output. Raises `StepFailed` with its last line."""
        environment = {"PATH": os.environ.get("PATH", os.defpath), **command.environment}
        try:
            done = subprocess.run(
                command.words,
                input=text,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd="/",
                timeout=seconds,
                text=True,
                errors="replace",
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired as error:
            raise StepFailed(step, f"{self._name(command)} did not end within {seconds:g} s") from error
        except OSError as error:
            raise StepFailed(step, f"{self._name(command)} cannot be run: {error.strerror}") from error
        if done.returncode != 0:
            words = next((line for line in reversed(done.stdout.splitlines()) if line.strip()), "it said nothing")
            raise StepFailed(step, f"{self._name(command)}: exit status {done.returncode}: {words.strip()[:_LONGEST]}")
        return done.stdout

    def _name(self, command: Command) -> str:
        return command.words[4 if self._isolated else 0].rpartition("/")[2]


def _search(files: DriverFiles) -> dict[str, str]:
    return {"LD_LIBRARY_PATH": ":".join(files.root.here(folder) for folder in files.folders)}
