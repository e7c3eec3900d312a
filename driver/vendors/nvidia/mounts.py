"""The shared memory of an MPS daemon and its clients: a tmpfs that the host's container runtime sees. Called by mps.py.

A client's driver meets the daemon in /dev/shm, and a container has one of its own, so both get this one. It is mounted
below the plugin's folder; in a pod the host sees that only if the volume has `mountPropagation: Bidirectional`, which
is looked at before anything is mounted. Like a container's default it takes at most what tmpfs takes: half of memory.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

from driver.model.errors import StepFailed, Unsupported

_TABLE: Final = "/proc/self/mountinfo"
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 0x2, 0x4, 0x8
_MNT_DETACH: Final = 2
_MODE: Final = b"mode=1777"
_LAYERS: Final = 8


class SharedMemory:
    """Mounts and unmounts; tests give another."""

    def check(self, folder: Path) -> None:
        """Raise `Unsupported` if the host would not see what is mounted below `folder` (proc(5), mountinfo)."""
        if not is_shared(Path(_TABLE).read_text(errors="replace"), str(folder)):
            allowed = "the volume that holds it needs mountPropagation: Bidirectional"
            raise Unsupported(f"MPS needs a tmpfs in {folder} that the host sees, too: {allowed}")

    def mount(self, step: str, folder: Path) -> None:
        """Mount it, or find it mounted. Raises `StepFailed`."""
        if folder.is_mount():
            return
        flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
        if _libc().mount(b"shm", os.fsencode(folder), b"tmpfs", flags, _MODE) != 0:
            raise StepFailed(step, f"cannot mount a tmpfs at {folder}: {os.strerror(ctypes.get_errno())}")

    def unmount(self, step: str, folder: Path) -> None:
        """Unmount it, or find it unmounted; also one that was mounted twice. Raises `StepFailed`."""
        for _ in range(_LAYERS):
            if not folder.is_mount():
                return
            if _libc().umount2(os.fsencode(folder), _MNT_DETACH) != 0:
                raise StepFailed(step, f"cannot unmount {folder}: {os.strerror(ctypes.get_errno())}")


def is_shared(table: str, folder: str) -> bool:
    """Say whether the mount that holds a folder passes on what is mounted in it."""
    best, shared = "", False
    for line in table.splitlines():
        fields = line.split(" ")
        point = fields[4].encode().decode("unicode_escape")
        inside = folder == point or folder.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, shared = point, any(field.startswith("shared:") for field in fields[6 : fields.index("-")])
    return shared


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
