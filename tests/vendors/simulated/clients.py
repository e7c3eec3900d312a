"""A process that uses a simulated device through its MPS daemon, as far as the daemon can tell."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from types import TracebackType


class Client:
    """A connection that counts as a client once it has joined."""

    def __init__(self, pipe: Path, pid: int = 1) -> None:
        self._pid = pid
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(40)
        folder = os.open(pipe, os.O_PATH)
        try:
            self._socket.connect(f"/proc/self/fd/{folder}/control")
        except OSError:
            self._socket.close()
            raise
        finally:
            os.close(folder)
        self._reader = self._socket.makefile("r")

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.close()
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def ask(self, command: str) -> str:
        self.send(f"{command}\n".encode())
        return self._reader.readline().rstrip("\n")

    def join(self, *limits: str) -> str:
        """Become a client, with limits of its own (percentage, memory); return what is granted."""
        return self.ask(" ".join(("client", str(self._pid), *limits)))
