"""NVIDIA Multi-Process Service: one control daemon, its folder, and how it is told limits. Called by sharing.py.

Facts (docs.nvidia.com/deploy/mps, man nvidia-cuda-mps-control): `-f` runs the daemon in the foreground; without options
the same program reads commands from its input for the daemon of CUDA_MPS_PIPE_DIRECTORY. Defaults hold for servers that
start later and are lost when the daemon ends; running servers are told one by one, for clients that come later. What a
client's own variables say can only lower them. A daemon serves the devices of CUDA_VISIBLE_DEVICES, counted from 0. It
has to be in the host's PID namespace. One server serves one user unless the daemon is told `-M`.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from driver.contract import Daemon
from driver.model.errors import DriverError, StepFailed
from driver.vendors.nvidia.mounts import SharedMemory
from driver.vendors.nvidia.programs import Programs, View

PROGRAM: Final = "nvidia-cuda-mps-control"
PIPES: Final = "CUDA_MPS_PIPE_DIRECTORY"
LOGS: Final = "CUDA_MPS_LOG_DIRECTORY"
ALL: Final = 100
"""Percent."""
MEBIBYTE: Final = 1 << 20
READY_SECONDS: Final = 20.0
_STEP: Final = "mps-daemon"
_GET: Final = "get_default_active_thread_percentage"


class Limits(msgspec.Struct, frozen=True):
    """What one claim allows each of its processes: percent of the compute, bytes of each device; None: all of it."""

    percentage: int
    memory: tuple[int | None, ...]


_limits: Final = msgspec.json.Decoder(Limits)


@dataclass(frozen=True, slots=True)
class Service:
    """What all daemons of a machine have in common."""

    root: Path
    """Their folders are below."""
    programs: Programs
    memory: SharedMemory
    many_users: bool


class Control:
    """One control daemon."""

    def __init__(self, service: Service, name: str, sizes: tuple[int, ...]) -> None:
        """`sizes`: bytes of each of its devices, 0 where that is not known: there nothing can be limited."""
        self._service = service
        self.name = f"nvidia-mps-{name}"
        self.sizes = sizes
        self._folder = service.root / name
        self.pipe, self.shm = self._folder / "pipe", self._folder / "shm"
        self._log, self._limits = self._folder / "log", self._folder / "limits"
        self._limited = self._folder / "limited"

    def make(self) -> None:
        """Make its folders. Raises OSError, `StepFailed`."""
        for folder in (self.pipe, self.shm, self._log, self._limits):
            folder.mkdir(0o755, parents=True, exist_ok=True)
        self._service.memory.mount(_STEP, self.shm)

    def remove(self) -> None:
        """Remove its folders, or find them gone. Raises OSError, `StepFailed`."""
        self._service.memory.unmount(_STEP, self.shm)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._folder)

    def describe(self, uuids: Sequence[str]) -> Daemon:
        """Return how it is run, for these devices. Raises `Unsupported`, `Unavailable`."""
        options = ("-f", "-M") if self._service.many_users else ("-f",)
        command = self._service.programs.command(PROGRAM, options, self._view())
        return Daemon(
            name=self.name,
            command=command.words,
            environment={**command.environment, "CUDA_VISIBLE_DEVICES": ",".join(uuids)},
            ready=self.announce,
            end=self.quit,
            ready_seconds=READY_SECONDS,
            logs=(str(self._log / "control.log"), str(self._log / "server.log")),
        )

    def keep(self, owner: str, limits: Limits) -> None:
        """Write down the limits of one claim, at once and whole. Raises OSError."""
        temporary = self._limits / f".{owner}.tmp"
        temporary.write_bytes(msgspec.json.encode(limits))
        temporary.replace(self._limits / owner)

    def forget(self, owner: str) -> None:
        """Remove the limits of one claim, or find them gone. Raises OSError."""
        (self._limits / owner).unlink(missing_ok=True)

    def announce(self) -> str:
        """Tell the daemon and its servers the largest limits of all claims; return why that failed, or nothing."""
        try:
            percentage, memory = self._largest(list(self._read()))
            sizes = [f"set_default_device_pinned_mem_limit {device} {size}" for device, size in memory]
            self._ask([f"set_default_active_thread_percentage {percentage}", *sizes])
            for server in filter(str.isdigit, self._ask(["get_server_list"]).split()):
                sizes = [f"set_device_pinned_mem_limit {server} {device} {size}" for device, size in memory]
                self._ask([f"set_active_thread_percentage {server} {percentage}", *sizes])
            told = self._ask([_GET]).strip()
        except (OSError, msgspec.MsgspecError, DriverError) as error:
            return str(error)
        return "" if _is(percentage, told) else f"{PROGRAM} answers {told!r} to {_GET}, and not {percentage}"

    def quit(self) -> None:
        """Ask it to end, with its servers. Raises `StepFailed` if it does not answer."""
        self._ask(["quit"])

    def _ask(self, commands: Sequence[str]) -> str:
        command = self._service.programs.command(PROGRAM, (), self._view())
        return self._service.programs.run(_STEP, command, "".join(f"{line}\n" for line in commands))

    def _view(self) -> View:
        return View({PIPES: str(self.pipe), LOGS: str(self._log)}, str(self.shm))

    def _read(self) -> Iterator[Limits]:
        for path in sorted(self._limits.iterdir()):
            if not path.name.startswith("."):
                with contextlib.suppress(FileNotFoundError):
                    yield _limits.decode(path.read_bytes())

    def _largest(self, kept: Sequence[Limits]) -> tuple[int, list[tuple[int, str]]]:
        """Return the percentage and the memory by device. Memory is not spoken of until a claim limits it."""
        percentage = max((each.percentage for each in kept), default=ALL)
        if any(size for each in kept for size in each.memory):
            self._limited.touch()
        if not self._limited.exists():
            return percentage, []
        largest = [
            max((each.memory[device] or size for each in kept), default=size) for device, size in enumerate(self.sizes)
        ]
        return percentage, [(device, f"{size // MEBIBYTE}M") for device, size in enumerate(largest) if size]


def _is(percentage: int, told: str) -> bool:
    """Compare with an answer such as `50.0`."""
    try:
        return float(told) == percentage
    except ValueError:
        return False


def refuse(step: str, reason: str) -> None:
    """Raise `StepFailed` if there is a reason."""
    if reason:
        raise StepFailed(step, f"the MPS control daemon does not take the limits: {reason}")
