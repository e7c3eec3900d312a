"""The folder of one simulated MPS daemon: its socket, the limits of each claim, and talking to it. Called by `sharing`.

Limits are kept in files because the daemon forgets them when it ends; what it is told is the largest of all, since
each claim's containers lower it for themselves through their variables.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

MEBIBYTE: Final = 1024 * 1024
SECONDS: Final = 5.0
"""For one conversation with a daemon on the same machine."""
ALL: Final = 100
_DESCRIPTORS: Final = "/proc/self/fd"


class Limits(msgspec.Struct, frozen=True):
    """What one claim allows each of its processes: percent of the compute, bytes of each device; None: all of it."""

    percentage: int
    memory: tuple[int | None, ...]


_limits: Final = msgspec.json.Decoder(Limits)


class Folder:
    """Files of one daemon, below a folder of the vendor's."""

    def __init__(self, path: Path, sizes: tuple[int, ...]) -> None:
        """`sizes`: bytes of each device of the daemon, 0 where that is not known: there nothing can be limited."""
        self.path = path
        self.sizes = sizes
        self.pipe = path / "pipe"
        self._limits = path / "limits"

    def make(self) -> None:
        """Make the folder. Raises OSError."""
        for folder in (self.pipe, self._limits):
            folder.mkdir(0o755, parents=True, exist_ok=True)

    def remove(self) -> None:
        """Remove the folder, or find it gone. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.path)

    def keep(self, name: str, limits: Limits) -> None:
        """Write down the limits of one claim, at once and whole. Raises OSError."""
        temporary = self._limits / f".{name}.tmp"
        temporary.write_bytes(msgspec.json.encode(limits))
        temporary.replace(self._limits / name)

    def forget(self, name: str) -> None:
        """Remove the limits of one claim, or find them gone. Raises OSError."""
        (self._limits / name).unlink(missing_ok=True)

    def announce(self) -> str:
        """Tell the daemon the largest limits of all claims; return why that failed, or an empty text."""
        try:
            kept = list(self._read())
            answers = self.ask(self._commands(kept))
        except (OSError, msgspec.MsgspecError) as error:
            return f"{type(error).__name__}: {error}"
        return next((answer for answer in answers if answer != "ok"), "")

    def ask(self, commands: Iterable[str]) -> list[str]:
        """Return the daemon's answers. Raises OSError if there is none."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(SECONDS)
            self._connect(connection)
            reader = connection.makefile("r")
            answers = []
            for command in commands:
                connection.sendall(f"{command}\n".encode())
                answers.append(reader.readline().strip())
                if not answers[-1]:
                    raise ConnectionResetError("the daemon ended while it was asked")
            return answers

    def _connect(self, connection: socket.socket) -> None:
        """Connect through a descriptor of the folder: a socket's path may have 107 bytes only."""
        folder = os.open(self.pipe, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            connection.connect(f"{_DESCRIPTORS}/{folder}/control")
        finally:
            os.close(folder)

    def _read(self) -> Iterable[Limits]:
        for path in sorted(self._limits.iterdir()):
            if not path.name.startswith("."):
                with contextlib.suppress(FileNotFoundError):
                    yield _limits.decode(path.read_bytes())

    def _commands(self, kept: Sequence[Limits]) -> Iterable[str]:
        yield f"set_default_active_thread_percentage {max((each.percentage for each in kept), default=ALL)}"
        for device, size in enumerate(self.sizes):
            largest = max((each.memory[device] or size for each in kept), default=size)
            if largest:
                yield f"set_default_device_pinned_mem_limit {device} {largest // MEBIBYTE}M"
