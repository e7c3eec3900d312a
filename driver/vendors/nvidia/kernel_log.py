"""The kernel's log, as it grows: /dev/kmsg of the host (Documentation/ABI/testing/dev-kmsg of Linux).

Called by health.py. Reads from the end of the log on; what was said before the plugin was started is not heard. Holds
one file open, which is not the driver's: it can be unloaded and replaced meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from collections.abc import Iterator
from typing import Final

from driver.model.errors import Unavailable

_MOST: Final = 1 << 16
"""Bytes of one read. A record is shorter; one that is longer would be refused with EINVAL."""
_PASSING: Final = (errno.EPIPE, errno.EINTR)
"""EPIPE: records were overwritten before they were read; the next read goes on with those that are left."""


class KernelLog:
    """One place where the log may be read. Opens nothing until it is followed."""

    def __init__(self, path: str) -> None:
        self.path = path

    @contextlib.contextmanager
    def follow(self) -> Iterator[Stream]:
        """Open the log at its end. Raises `Unavailable` if there is none here, or we may not read it."""
        try:
            file = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise Unavailable(
                f"{self.path} cannot be read, so faults of GPUs are not heard: {error.strerror}"
            ) from error
        try:
            with contextlib.suppress(OSError):
                os.lseek(file, 0, os.SEEK_END)
            yield Stream(self.path, file)
        finally:
            os.close(file)


class Stream:
    """The log while it is open."""

    def __init__(self, path: str, file: int) -> None:
        self._path, self._file, self._rest = path, file, b""

    def read(self, seconds: float) -> list[str]:
        """Return new messages, waiting so long at most for the first. Raises `Unavailable` if the log breaks off."""
        ready, _, _ = select.select([self._file], [], [], seconds)
        if not ready:
            return []
        try:
            content = os.read(self._file, _MOST)
        except BlockingIOError:
            return []
        except OSError as error:
            if error.errno in _PASSING:
                return []
            raise Unavailable(f"{self._path} cannot be read any more: {error.strerror}") from error
        if not content:  # a plain file in place of the device is ready at any time
            time.sleep(seconds)
        *lines, self._rest = (self._rest + content).split(b"\n")
        return [message for message in map(parse_record, lines) if message]


def parse_record(line: bytes) -> str:
    """Return the message of a record: what stands after `priority,sequence,time,flags;`. None of its dictionary.

    >>> parse_record(b"4,812,5140900,-;NVRM: loading"), parse_record(b" SUBSYSTEM=pci")
    ('NVRM: loading', '')
    """
    if line.startswith(b" "):
        return ""
    _prefix, _semicolon, message = line.partition(b";")
    return message.decode(errors="replace")
