"""The real node plugin and controller as processes of their own, as pods run them. Called by node and cluster.

`kill` is kill -9. No process outlives `stop`, nor the thread that started it, even if that is killed itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from driver.settings import ENV_PREFIX

Value = str | bool | Sequence[str]
"""Of an option: a text, on or off, or several texts."""

_STOP_SECONDS: Final = 10.0
_PR_SET_PDEATHSIG: Final = 1
_LAUNCHER: Final = f"""
import ctypes, os, sys
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, {int(signal.SIGTERM)})
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""Asks Linux for SIGTERM when the parent is gone, then becomes the plugin; running code between fork and exec in this
process instead would not be safe beside its threads."""


class DriverProcess:
    """One `accel-dra plugin` or `accel-dra controller`; its output goes to a file."""

    def __init__(self, command: str, options: Mapping[str, Value], log: Path) -> None:
        """Start it with these options, named without dashes; a sequence repeats its option."""
        self.log = log
        arguments = [part for name, value in options.items() for part in _spell(name, value)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-ISc", _LAUNCHER, "-m", "driver", command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """End it like a crash does, between any two instructions."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """End it as the kubelet does: SIGTERM, then SIGKILL. Return its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def read_log(self) -> str:
        """Return what it has said so far."""
        return self.log.read_text(errors="replace")


def _spell(name: str, value: Value) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [part for item in ([value] if isinstance(value, str) else value) for part in (f"--{name}", item)]
