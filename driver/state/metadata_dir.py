"""Device metadata documents on the host (KEP-5304), below the plugin's data folder. Used by `node.transactions`.

Paths are relative and come from `core.metadata`. Nothing is synced: the documents also stand in the records.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from driver.model.errors import StorageFailed
from driver.state import files
from driver.state.files import Disk


class MetadataDir:
    """Documents below `root`, each in a folder of its own: `<claims' folder>/<claim>/<request>/<file>`."""

    def __init__(self, root: str, disk: Disk) -> None:
        self.root = root
        """The plugin's data folder, as the container runtime sees it too."""
        self._disk = disk

    def store(self, path: str, document: bytes) -> None:
        """Put a document there, mode 0644. Raises `StorageFailed`."""
        target = Path(self.root, path)
        files.make_folder(self._disk, target.parent, 0o755)
        files.store(self._disk, target, document, durable=False)

    def has(self, path: str) -> bool:
        """Say whether the document is there and not empty."""
        try:
            return Path(self.root, path).stat().st_size > 0
        except OSError:
            return False

    def remove(self, folder: str) -> None:
        """Remove a claim's folder and all in it, if it is there. Raises `StorageFailed`."""
        claim = Path(self.root, folder)
        try:
            for request in _children(claim):
                for document in _children(request):
                    self._disk.unlink(document)
                self._disk.remove_folder(request)
            self._disk.remove_folder(claim)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageFailed(str(claim), error.strerror or str(error)) from error

    def sweep(self, folder: str, keep: Collection[str]) -> None:
        """Remove the claims' folders directly below `folder` that are not among `keep` (relative paths)."""
        for claim in _children(Path(self.root, folder)):
            relative = f"{folder}/{claim.name}"
            if relative not in keep:
                self.remove(relative)


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []
