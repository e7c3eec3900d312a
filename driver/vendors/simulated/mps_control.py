"""The control daemon of simulated MPS: a process of its own that knows limits and the clients which keep to them.

Started by `sharing` as a program (`python mps_control.py FOLDER DEVICES`), it needs nothing but the standard library.
It serves a socket `control` in FOLDER, one command a line, one line of answer each, in the words of NVIDIA's
nvidia-cuda-mps-control where that has one: `get_` and `set_default_active_thread_percentage`, `get_` and
`set_default_device_pinned_mem_limit DEVICE`, `get_client_list`, `quit`. A client says `client PID [PERCENTAGE]
[DEVICE=LIMIT,...]`, is told what it may use, which is never more than the defaults, and then may `allocate DEVICE
SIZE`. Sizes are a number with M or G. It ends by itself when its socket has gone or is another's.
"""

from __future__ import annotations

import os
import re
import selectors
import socket
import sys
from dataclasses import dataclass, field

NAME = "control"
TICK_SECONDS = 0.5
LONGEST_LINE = 4096
FACTORS = {"M": 1, "G": 1024}
ALL = 100
"""Percent."""


@dataclass
class Connection:
    """One that talks to the daemon; a client once it has said so."""

    socket: socket.socket
    unread: bytes = b""
    pid: int = 0
    percentage: int = 0
    limits: dict[int, int] = field(default_factory=dict)
    """MiB by device; no entry: not limited."""
    used: dict[int, int] = field(default_factory=dict)


class Refused(Exception):  # noqa: N818 - an answer, not a defect
    """What a command is answered that cannot be done."""


class Daemon:
    """Limits, and who is connected. Defaults are lost with the process, as NVIDIA's are."""

    def __init__(self, devices: int) -> None:
        self.percentage = ALL
        self.limits: dict[int, int] = {}
        self.clients: list[Connection] = []
        self.ending = False
        self._devices = devices

    def answer(self, connection: Connection, line: str) -> str:
        """Do one command and return its answer."""
        name, *words = line.split() or [""]
        command = getattr(self, f"do_{name}", None)
        if command is None:
            return f"error: unknown command {name!r}"
        try:
            return str(command(connection, *words))
        except Refused as refused:
            return f"error: {refused}"
        except TypeError:
            return f"error: {name} got {len(words)} arguments"

    def do_get_default_active_thread_percentage(self, _: Connection) -> int:
        """Return the percentage that new clients get."""
        return self.percentage

    def do_set_default_active_thread_percentage(self, _: Connection, text: str) -> str:
        """Set it."""
        self.percentage = read_percentage(text)
        return "ok"

    def do_get_default_device_pinned_mem_limit(self, _: Connection, device: str) -> str:
        """Return the memory that new clients get of a device; `unlimited` if it is not limited."""
        limit = self.limits.get(self._read_device(device))
        return "unlimited" if limit is None else f"{limit}M"

    def do_set_default_device_pinned_mem_limit(self, _: Connection, device: str, size: str) -> str:
        """Set it."""
        self.limits[self._read_device(device)] = read_size(size)
        return "ok"

    def do_get_client_list(self, _: Connection) -> str:
        """Return the process numbers of clients."""
        return " ".join(str(client.pid) for client in self.clients) or "none"

    def do_quit(self, _: Connection) -> str:
        """End."""
        self.ending = True
        return "ok"

    def do_client(self, connection: Connection, pid: str, percentage: str = "100", limits: str = "") -> str:
        """Count the connection as a client, with limits of its own that can only lower the defaults."""
        if not pid.isdigit():
            raise Refused(f"{pid!r} is no process number")
        own = dict(self._read_limits(limits))
        both = {device: min(own.get(device, size), size) for device, size in self.limits.items()}
        connection.pid, connection.limits = int(pid), own | both
        connection.percentage = min(self.percentage, read_percentage(percentage))
        if connection not in self.clients:
            self.clients.append(connection)
        granted = ",".join(f"{device}={size}M" for device, size in sorted(connection.limits.items()))
        return f"granted {connection.percentage} {granted}".strip()

    def do_allocate(self, connection: Connection, device: str, size: str) -> str:
        """Give a client memory, within its limit."""
        if connection not in self.clients:
            raise Refused("only a client allocates")
        number, wanted = self._read_device(device), read_size(size)
        used, limit = connection.used.get(number, 0), connection.limits.get(number)
        if limit is not None and used + wanted > limit:
            raise Refused(f"out of memory: {used}M of {limit}M are used")
        connection.used[number] = used + wanted
        return "ok"

    def leave(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        if connection in self.clients:
            self.clients.remove(connection)

    def _read_device(self, text: str) -> int:
        if not text.isdigit() or int(text) >= self._devices:
            raise Refused(f"no device {text!r}, there are {self._devices}")
        return int(text)

    def _read_limits(self, text: str) -> list[tuple[int, int]]:
        pairs = [part.partition("=") for part in text.split(",") if part]
        return [(self._read_device(device), read_size(size)) for device, _, size in pairs]


def read_percentage(text: str) -> int:
    """Return 1 to 100, or refuse."""
    if not text.isdigit() or not 1 <= int(text) <= ALL:
        raise Refused(f"{text!r} is no percentage from 1 to {ALL}")
    return int(text)


def read_size(text: str) -> int:
    """Return MiB, or refuse."""
    found = re.fullmatch(r"([0-9]{1,9})([MG])", text)
    if found is None:
        raise Refused(f"{text!r} is no number with M or G")
    return int(found[1]) * FACTORS[found[2]]


def open_socket() -> socket.socket:
    """Listen in the current folder. Leaves with a message if a daemon already serves it."""
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.connect(NAME)
    except OSError:
        pass
    else:
        sys.exit(f"another daemon serves {os.getcwd()}")  # noqa: PTH109 - this program needs no paths
    finally:
        probe.close()
    if os.path.lexists(NAME):
        os.unlink(NAME)  # noqa: PTH108
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(NAME)
    os.chmod(NAME, 0o666)  # noqa: PTH101,S103 - containers run as any user
    listener.listen(64)
    return listener


def identify(path: str) -> tuple[int, int] | None:
    """Return which file a path leads to."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return status.st_dev, status.st_ino


def read(daemon: Daemon, connection: Connection) -> bool:
    """Answer what has come on a connection; return False when it has ended."""
    try:
        received = connection.socket.recv(LONGEST_LINE)
        *lines, connection.unread = (connection.unread + received).split(b"\n")
        for line in lines:
            connection.socket.sendall(daemon.answer(connection, line.decode(errors="replace")).encode() + b"\n")
    except OSError:
        return False
    return bool(received) and len(connection.unread) <= LONGEST_LINE


def serve(daemon: Daemon, listener: socket.socket, own: tuple[int, int] | None) -> None:
    """Serve until the daemon is told to quit, or its socket, `own`, has gone from the folder."""
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    while not daemon.ending and own is not None and identify(NAME) == own:
        for key, _ in selector.select(TICK_SECONDS):
            if key.data is None:
                client = listener.accept()[0]
                client.settimeout(TICK_SECONDS)
                selector.register(client, selectors.EVENT_READ, Connection(client))
            elif not read(daemon, key.data):
                selector.unregister(key.data.socket)
                key.data.socket.close()
                daemon.leave(key.data)
    if own is not None and identify(NAME) == own:
        os.unlink(NAME)  # noqa: PTH108


def main(folder: str, devices: str) -> None:
    """Serve a folder that has this many devices."""
    os.chdir(folder)  # a socket's path may have 107 bytes only
    listener = open_socket()
    own = identify(NAME)
    print(f"serving {devices} devices in {folder}", flush=True)  # noqa: T201 - its log
    serve(Daemon(int(devices)), listener, own)
    print("ending", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:3])
