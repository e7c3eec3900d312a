"""What a daemon says: files of limited size, and their last words for messages. Called by this folder.

The daemon writes the file itself, so that it can go on while no plugin runs; the plugin moves the end of a file that
has grown aside and empties it. Between the two a line may be lost. A full disk costs lines, never the daemon.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Final

_MODE: Final = 0o640
_WORDS: Final = 3
"""Lines that a message carries."""
_TAIL: Final = 4096
"""Bytes in which they are looked for."""
_LONGEST: Final = 200
"""Characters of one line in a message."""
_BLOCK: Final = 512
"""Unit of st_blocks (stat(2))."""


class Log:
    """One log file of a daemon, and the file beside it (`.1`) that holds what was moved aside."""

    def __init__(self, path: Path, limit: int) -> None:
        """`limit` in bytes, for each of the two."""
        self.path = path
        self._limit = limit

    def open(self) -> int:
        """Return a descriptor to write to, for the daemon; that of /dev/null if the disk does not let us."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        try:
            return os.open(self.path, flags | os.O_CREAT, _MODE)
        except OSError:
            return os.open(os.devnull, flags)

    def trim(self) -> None:
        """Move the end of the file aside and empty it, if it has grown beyond the limit."""
        try:
            state = self.path.stat()
        except OSError:
            return
        # A writer that does not append leaves a hole before its next line: what counts is what the disk holds.
        if min(state.st_size, state.st_blocks * _BLOCK) > self._limit:
            self._keep_end()
            with contextlib.suppress(OSError):
                os.truncate(self.path, 0)

    def _keep_end(self) -> None:
        aside = self.path.with_name(f"{self.path.name}.1")
        temporary = aside.with_name(f".{aside.name}.tmp")
        try:
            temporary.write_bytes(_read_end(self.path, self._limit))
            temporary.replace(aside)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def last_words(self) -> str:
        """Return the last lines as a part of a sentence: `; its last words: …`, or nothing if there are none."""
        try:
            text = _read_end(self.path, _TAIL).decode(errors="replace")
        except OSError as error:
            return "" if isinstance(error, FileNotFoundError) else f"; its log cannot be read: {error.strerror}"
        lines = [line for line in (_tidy(line) for line in text.splitlines()) if line]
        return f"; its last words: {' / '.join(lines[-_WORDS:])}" if lines else ""


def _read_end(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - size))
        return file.read(size)


def _tidy(line: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f]+", " ", line).strip()[:_LONGEST]
