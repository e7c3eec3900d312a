"""The folder of CDI specs that the container runtime reads (usually /var/run/cdi, a tmpfs that a reboot empties).

Used by `node.transactions`. Writes whole files, readable by everyone, and never syncs: what a reboot takes is built
again from the records. Which files are ours is decided in `core.cdi`, not here.
"""

from __future__ import annotations

from pathlib import Path

from driver.model.errors import StorageFailed
from driver.state import files
from driver.state.files import Disk


class CdiDir:
    """CDI files by name, in one folder, which is made when it is first written to."""

    def __init__(self, root: str, disk: Disk) -> None:
        self._root = Path(root)
        self._disk = disk

    def store(self, name: str, text: bytes) -> None:
        """Put a file there, mode 0644, in one step. Raises `StorageFailed`."""
        path = self._root / name
        try:
            files.store(self._disk, path, text, durable=False)
        except StorageFailed:
            if self._root.is_dir():
                raise
            files.make_folder(self._disk, self._root, 0o755)
            files.store(self._disk, path, text, durable=False)

    def has(self, name: str) -> bool:
        """Say whether the file is there and not empty."""
        try:
            return (self._root / name).stat().st_size > 0
        except OSError:
            return False

    def read(self, name: str) -> bytes:
        """Return what is in a file, nothing if it is not there. Raises `StorageFailed`."""
        try:
            return (self._root / name).read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise StorageFailed(str(self._root / name), error.strerror or str(error), action="read") from error

    def remove(self, name: str) -> bool:
        """Remove the file; return whether it was there. Raises `StorageFailed`."""
        return files.discard(self._disk, self._root / name, durable=False)

    def names(self) -> frozenset[str]:
        """Return the names of all files, of whomever. Raises `StorageFailed` if the folder cannot be read."""
        try:
            return frozenset(path.name for path in self._root.iterdir())
        except FileNotFoundError:
            return frozenset()
        except OSError as error:
            raise StorageFailed(str(self._root), error.strerror or str(error)) from error
