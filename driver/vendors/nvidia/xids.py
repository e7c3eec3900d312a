"""XIDs: what NVIDIA's kernel module says of faults, and how bad each is. Called by health.py; pure.

Form of a line: open-gpu-kernel-modules, src/nvidia/src/kernel/gpu/rc/kernel_rc.c (krcReportXid). Meaning of numbers:
NVIDIA's catalogue of XIDs (docs.nvidia.com/deploy/xid-errors) with the action that it advises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from driver.model.health import Severity

_LINE: Final = re.compile(
    r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2})(?:\.[0-7])?"
    r"(?: GPU-I:(\d+))?(?: GPU-CI:(\d+))?\): (\d+)(?:, *(.*))?$"
)
APPLICATION: Final = frozenset({13, 31, 43, 45, 68, 109})
"""Faults of a program, not of the GPU it ran on."""
RECOVERY: Final = 154
"""What has to be done for a GPU: `GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)`."""
_SERIOUS: Final = frozenset({48, 61, 62, 64, 74, 79, 95, 110, 119, 120, 136, 140, 143, 155, 156, 158})
"""The GPU does not work as it should until it is reset, or at all."""
_WHOLE: Final = frozenset({62, 74, 79, 95, 119, 120, RECOVERY})
"""They strike the whole GPU, whichever MIG device was running when they were met."""
_LINKS: Final = range(144, 151)
"""Faults of NVLink, whose line says whether it is fatal."""
_SAFE: Final = re.compile(r"\bto 0x[0-9a-f]+ \(None\)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Xid:
    """One line of the log."""

    pci_address: str
    number: int
    text: str
    gpu_instance: int | None = None
    compute_instance: int | None = None

    @property
    def cause(self) -> str:
        """Return `xid-79`."""
        return f"xid-{self.number}"

    @property
    def recovered(self) -> bool:
        """Whether it says that nothing has to be done for this GPU any more."""
        return self.number == RECOVERY and _SAFE.search(self.text) is not None

    @property
    def whole(self) -> bool:
        """Whether it is about all of the GPU."""
        return self.gpu_instance is None or self.number in _WHOLE


def parse(message: str) -> Xid | None:
    """Return the XID that a message of the kernel's is about, or None if it is about something else."""
    match = _LINE.search(message)
    if match is None:
        return None
    place, instance, part, number, text = match.groups()
    domain, _, rest = place.lower().partition(":")
    return Xid(
        pci_address=f"{int(domain, 16):04x}:{rest}.0",
        number=int(number),
        text=(text or "").strip(),
        gpu_instance=None if instance is None else int(instance),
        compute_instance=None if part is None else int(part),
    )


def judge(xid: Xid) -> Severity | None:
    """Return how bad it is; None: it is no fault of the GPU.

    A number that is not in our lists is shown and withholds nothing: a device is not taken away for what is not known.
    """
    if xid.number in APPLICATION:
        return None
    if xid.number in _LINKS:
        return Severity.UNHEALTHY if re.search(r"\bfatal\b", xid.text, re.IGNORECASE) else Severity.DEGRADED
    if xid.number in _SERIOUS or xid.number == RECOVERY:
        return Severity.UNHEALTHY
    return Severity.DEGRADED
