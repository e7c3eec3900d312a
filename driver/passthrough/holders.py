"""Which processes have a device open. Called by `binding` before a device is taken from its driver.

Procfs of the host shows the files that every process has open; the plugin may look at them with its privileges. A
process that cannot be looked at is passed over: the kernel itself still waits for whoever has the device.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path


def find_holder(proc_root: str, paths: Collection[str]) -> str:
    """Return a process that has one of these device nodes open, in words; nothing if there is none.

    `paths` are those that a process sees; containers see device nodes at the same place as the host does.
    """
    if not paths:
        return ""
    for process in _names(Path(proc_root)):
        if process.isdigit():
            folder = Path(proc_root, process)
            found = next((path for path in _open_files(folder / "fd") if path in paths), None)
            if found is not None:
                return f"process {process} ({_name(folder)}) has {found} open"
    return ""


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError:  # it has ended, or is not ours to look at
        return []


def _open_files(folder: Path) -> list[str]:
    found = []
    for name in _names(folder):
        try:
            found.append(str((folder / name).readlink()))
        except OSError:
            continue
    return found


def _name(folder: Path) -> str:
    try:
        return (folder / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "ended meanwhile"
