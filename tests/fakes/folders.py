"""The folders of a node under a temporary root, and settings that point there."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from driver.settings import Settings


class Machine:
    """A node's folders as a kubelet and a container runtime make them; no plugin has run yet."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.kubelet = root / "k"
        self.registry = self.kubelet / "plugins_registry"
        self.cdi = root / "cdi"
        self.proc = root / "proc"
        for folder in (self.registry, self.kubelet / "plugins", self.cdi, self.proc / "self"):
            folder.mkdir(parents=True)
        self.write_boot_id("0b5b9a5e-1111-4222-8333-444455556666")
        self._mounts = [(Path("/"), "ext4")]
        self._write_table()

    @property
    def state(self) -> Path:
        """Where the plugin would keep its records."""
        return Path(self.settings().records_root)

    def settings(self, **changes: str) -> Settings:
        """Return settings for this machine."""
        options = Settings(
            vendor="simulated",
            cdi_root=str(self.cdi),
            kubelet_plugins_dir=str(self.kubelet / "plugins"),
            kubelet_registry_dir=str(self.registry),
            proc_root=str(self.proc),
        )
        return dataclasses.replace(options, **changes)  # type: ignore[arg-type]

    def write_boot_id(self, value: str) -> None:
        """Have the machine booted anew."""
        path = self.proc / "sys" / "kernel" / "random" / "boot_id"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")

    def mount(self, folder: Path, kind: str) -> None:
        """Have the machine's mount table say that `folder` is a mount of this type."""
        self._mounts.append((folder.resolve(), kind))
        self._write_table()

    def write(self, name: str, content: str) -> Path:
        """Write a file into the state folder."""
        path = self.state / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def _write_table(self) -> None:
        lines = [f"{n} 1 0:{n} / {folder} rw - {kind} none rw" for n, (folder, kind) in enumerate(self._mounts)]
        (self.proc / "self" / "mountinfo").write_text("\n".join(lines) + "\n")
