"""What has begun: a small file for each MIG device that a step is making or has made, in the vendor's own folder.

Called by partitioning.py. NVML keeps no word of who made an instance; so before it is asked for one, a file says for
which claim, and afterwards which one it became. An instance for which no file was written is not ours, even if it has
the same shape at the same place. The files need no more than the kernel to survive: MIG devices do not outlive it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from driver.model.errors import StepFailed
from driver.model.prepared import Step


class Note(msgspec.Struct, frozen=True):
    """What is known of a MIG device that was begun. `facts` are those of the step, empty until it is done."""

    claim: str
    facts: dict[str, str] = {}


_decode: Final = msgspec.json.Decoder(Note).decode


class Begun:
    """The files of one machine."""

    def __init__(self, state_root: str) -> None:
        self._folder = Path(state_root) / "nvidia" / "partitions"

    def read(self, step: Step) -> Note | None:
        """Return what was begun for the claim of a step; None if nothing was, or nothing that can be read."""
        try:
            note = _decode(self._file(step).read_bytes())
        except (OSError, msgspec.DecodeError):
            return None
        return note if note.claim == step.facts["claim"] else None

    def write(self, step: Step, facts: dict[str, str]) -> None:
        """Say that a step has begun, or what it has become. Raises `StepFailed`."""
        file = self._file(step)
        fresh = file.with_name(f".{file.name}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            fresh.write_bytes(msgspec.json.encode(Note(step.facts["claim"], facts)))
            fresh.replace(file)
        except OSError as error:
            raise StepFailed(step.name, f"{file} cannot be written: {error.strerror}") from error

    def forget(self, step: Step) -> None:
        """Remove the file of a step, if it is about the step's claim."""
        if self.read(step) is not None:
            self._file(step).unlink(missing_ok=True)

    def _file(self, step: Step) -> Path:
        words = (step.arguments[word] for word in ("pciAddress", "profile", "placement"))
        return self._folder / "-".join(words).replace(":", "-")
