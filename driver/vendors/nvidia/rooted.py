"""Becomes a program of the driver, in a view of the file system of its own. Run by programs.py, as a program itself.

`python rooted.py PLAN COMMAND...`, PLAN a JSON document: `root` (the driver root as this process sees it, empty for its
own), `folders` (variable: folder; each is shown under a short path, which the variable names, because a socket's path
may have 107 bytes) and `shm` (the folder to show as /dev/shm, or empty). Nobody else sees these mounts: they are in a
mount namespace of this process, which needs CAP_SYS_ADMIN. Knows nothing of the package, so that it starts at once.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from typing import Any

CLONE_NEWNS = 0x00020000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x1000, 0x4000, 0x40000
PLACES = ("/mnt", "/tmp")  # noqa: S108 - a folder that every root has, covered with an empty one
_LIBC = ctypes.CDLL(None, use_errno=True)


def check(code: int, what: str) -> None:
    """End with one sentence if a system call failed."""
    if code != 0:
        sys.exit(f"{what}: {os.strerror(ctypes.get_errno())}")


def mount(source: str, target: str, kind: str | None, flags: int) -> None:
    """Mount, or end with one sentence (mount(2))."""
    code = _LIBC.mount(source.encode(), target.encode(), kind.encode() if kind else None, flags, None)
    check(code, f"cannot mount {source} at {target}")


def enter(plan: dict[str, Any]) -> None:
    """Make the view and go into it."""
    root = plan["root"]
    if plan["folders"] or plan["shm"]:
        check(_LIBC.unshare(CLONE_NEWNS), "cannot make a mount namespace")
        mount("none", "/", None, MS_REC | MS_PRIVATE)
        show(root, plan["folders"])
    if plan["shm"]:
        mount(plan["shm"], f"{root}/dev/shm", None, MS_BIND)  # noqa: S108
    if root:
        os.chroot(root)
    os.chdir("/")


def show(root: str, folders: dict[str, str]) -> None:
    """Bind the folders below one that is empty, and name them in the environment."""
    place = next((path for path in PLACES if os.path.isdir(root + path)), None)  # noqa: PTH112 - no pathlib: it is slow
    if place is None:
        sys.exit(f"{root} has neither of {', '.join(PLACES)}")
    # Opened before they are covered.
    opened = {variable: os.open(folder, os.O_PATH | os.O_DIRECTORY) for variable, folder in folders.items()}
    mount("none", root + place, "tmpfs", MS_NOSUID | MS_NODEV)
    for number, (variable, descriptor) in enumerate(opened.items()):
        path = f"{place}/{number}"
        os.mkdir(root + path)  # noqa: PTH102
        mount(f"/proc/self/fd/{descriptor}", root + path, None, MS_BIND)
        os.close(descriptor)
        os.environ[variable] = path


def main(document: str, *command: str) -> None:
    """Make the view, then become the command."""
    try:
        enter(json.loads(document))
        os.execv(command[0], command)  # noqa: S606 - that is its purpose
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(*sys.argv[1:])
