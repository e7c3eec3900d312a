"""A program that stands for nvidia-cuda-mps-control: a daemon with `-f`, else a prompt for the daemon of its folder.

Copied into a driver root and run as a program, often, so it imports next to nothing. Defaults hold for servers that
start later, as in the real one. Its own command `fake_client` starts a server, which is what a first client does.
"""

# ruff: noqa: PTH108, PTH110, PTH123, PTH208
# pathlib takes longer to import than all the rest takes to run

from __future__ import annotations

import os
import signal
import socket
import sys

PIPES = os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps")
LOGS = os.environ.get("CUDA_MPS_LOG_DIRECTORY", "/var/log/nvidia-mps")


class Server:
    """A running MPS server: a process, and the limits of its clients."""

    def __init__(self, percentage: str, memory: dict[str, str]) -> None:
        self.pid = os.posix_spawnp("sleep", ["sleep", "1000"], os.environ)
        self.percentage, self.memory = percentage, dict(memory)


class Daemon:
    """What a control daemon knows."""

    def __init__(self) -> None:
        self.percentage, self.memory = "100.0", dict[str, str]()
        self.servers = dict[str, Server]()
        self.heard: list[str] = []

    def answer(self, line: str) -> str:
        self.heard.append(line)
        name, *words = line.split()
        command = getattr(self, f"do_{name}", None)
        return f"Unknown command: {line}" if command is None else str(command(*words))

    def do_get_default_active_thread_percentage(self) -> str:
        return self.percentage

    def do_set_default_active_thread_percentage(self, value: str) -> str:
        self.percentage = f"{float(value)}"
        return self.percentage

    def do_get_default_device_pinned_mem_limit(self, device: str) -> str:
        return self.memory.get(device, "0")

    def do_set_default_device_pinned_mem_limit(self, device: str, value: str) -> str:
        self.memory[device] = value
        return ""

    def do_get_server_list(self) -> str:
        return "\n".join(self.servers)

    def do_set_active_thread_percentage(self, pid: str, value: str) -> str:
        self.servers[pid].percentage = f"{float(value)}"
        return ""

    def do_set_device_pinned_mem_limit(self, pid: str, device: str, value: str) -> str:
        self.servers[pid].memory[device] = value
        return ""

    def do_fake_client(self) -> int:
        server = Server(self.percentage, self.memory)
        self.servers[str(server.pid)] = server
        return server.pid

    def do_fake_heard(self) -> str:
        return " | ".join(self.heard[:-1])

    def do_fake_server(self, pid: str) -> str:
        return f"{self.servers[pid].percentage} {self.servers[pid].memory}"

    def do_fake_environment(self) -> str:
        return f"{os.environ['CUDA_VISIBLE_DEVICES']} {sys.argv[1:]}"

    def do_fake_place(self) -> str:
        return f"{PIPES} {sorted(os.listdir('/dev/shm'))}"


def serve() -> None:
    """Run the daemon in the foreground."""
    if os.path.exists(f"{PIPES}/../broken"):
        sys.exit("Cannot find a device")
    with open(f"{LOGS}/control.log", "w") as log:
        log.write("Starting control daemon\n")
    os.chdir(PIPES)
    if os.path.exists("control"):
        os.unlink("control")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("control")
    listener.listen(16)
    sys.stdout.write(f"Starting control daemon using socket {PIPES}/control\n")
    sys.stdout.flush()
    daemon = Daemon()
    while True:
        with listener.accept()[0] as connection:
            lines = connection.makefile().read().splitlines()
            if "quit" in lines:
                for server in daemon.servers.values():
                    os.kill(server.pid, signal.SIGTERM)
                return
            connection.sendall("".join(f"{daemon.answer(line)}\n" for line in lines).encode())


def prompt() -> None:
    """Hand commands on, print answers."""
    try:
        os.chdir(PIPES)
        connection = socket.socket(socket.AF_UNIX)
        connection.connect("control")
    except OSError:
        sys.exit("Cannot find MPS control daemon process")
    with connection:
        connection.sendall(sys.stdin.read().encode())
        connection.shutdown(socket.SHUT_WR)
        sys.stdout.write(connection.makefile().read())


if __name__ == "__main__":
    if "-f" in sys.argv:
        serve()
    else:
        prompt()
