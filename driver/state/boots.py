"""Which boot of the machine this is. Read once by `node.app`."""

from __future__ import annotations

from pathlib import Path

from driver.model.errors import Unavailable


def read_boot_id(proc_root: str) -> str:
    """Return the kernel's boot id, a UUID that is new after each boot (random(4)).

    Raises `Unavailable` if procfs is not where the setting says.
    """
    path = Path(proc_root, "sys/kernel/random/boot_id")
    try:
        return path.read_text().strip()
    except OSError as error:
        raise Unavailable(f"cannot read the boot id from {path}: {error.strerror}") from error
