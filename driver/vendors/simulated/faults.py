"""Health events from a file, one JSON document a line: what another vendor's event set is. Called by `vendor`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from driver.model.errors import InvalidInput
from driver.model.health import HealthEvent, Severity

from .files import File, PciAddress

SEVERITIES: Final = {severity.name.lower(): severity for severity in Severity}


class Line(File, frozen=True):
    """One event. `severity`: healthy, degraded or unhealthy; `time` in seconds since the epoch, now if absent."""

    pci_address: PciAddress
    cause: str
    severity: str
    message: str = ""
    time: float | None = None
    partition_uuid: str | None = msgspec.field(default=None, name="partitionUUID")


_lines: Final = msgspec.json.Decoder(Line)


def read(path: Path, now: float) -> tuple[HealthEvent, ...]:
    """Return the events of the file so far; none while there is no file. Raises `InvalidInput` naming the line."""
    try:
        # A line without its newline is still being written.
        complete = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return ()
    return tuple(_parse(f"{path} line {number}", line, now) for number, line in enumerate(complete, 1) if line.strip())


def _parse(where: str, content: bytes, now: float) -> HealthEvent:
    try:
        line = _lines.decode(content)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise InvalidInput(where, content.decode(errors="replace"), str(error)) from error
    if line.severity not in SEVERITIES:
        raise InvalidInput(f"{where}: severity", line.severity, ", ".join(SEVERITIES))
    return HealthEvent(
        pci_address=line.pci_address,
        cause=line.cause,
        severity=SEVERITIES[line.severity],
        message=line.message,
        time=now if line.time is None else line.time,
        partition_uuid=line.partition_uuid,
    )
