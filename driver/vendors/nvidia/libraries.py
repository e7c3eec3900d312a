"""Where libraries of a driver root lie, and how one is opened.

Called by driver_files.py (folders, names) and nvml.py (opening). A driver root is read like a chroot: a link inside it
that points to `/etc/alternatives/…` means the root's own. Nothing here knows which libraries NVIDIA ships.
"""

from __future__ import annotations

import _ctypes
import ctypes
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Protocol

TRIPLET: Final = f"{os.uname().machine}-linux-gnu"
DEFAULT_FOLDERS: Final = (f"/usr/lib/{TRIPLET}", "/usr/lib64")
"""What the dynamic linker searches without being told to: on Debian and its kin, on the others."""
_FOLDERS: Final = (
    *DEFAULT_FOLDERS,
    f"/lib/{TRIPLET}",
    "/lib64",
    "/usr/lib",
    "/lib",
    "/usr/local/nvidia/lib64",
    "/usr/local/nvidia/lib",
    "/usr/lib/wsl/lib",
)
_MAX_LINKS: Final = 40
"""The kernel's own limit on links followed in one path (path_resolution(7))."""
_CONFIG: Final = "/etc/ld.so.conf"
"""Inside a driver root, like all paths here."""

_ELF64_LITTLE: Final = b"\x7fELF\x02\x01"
_MACHINES: Final = {"x86_64": 62, "aarch64": 183}
"""e_machine by uname (elf.h EM_X86_64, EM_AARCH64)."""
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NULL, _DT_STRTAB, _DT_SONAME = 0, 5, 14


class Loader(Protocol):
    """How a shared library is opened and closed; tests give a fake."""

    def open(self, path: str) -> object:
        """Return the library, functions as attributes. Raises `OSError`."""

    def close(self, library: object) -> None:
        """Give it back."""


class DynamicLoader:
    """The dynamic linker."""

    def open(self, path: str) -> object:
        """Map the library at this path: the driver root's own copy, whatever else is installed."""
        return ctypes.CDLL(path)

    def close(self, library: object) -> None:
        """Unmap it, so that the next session sees a replaced file and no driver root is kept busy."""
        if isinstance(library, ctypes.CDLL):
            _ctypes.dlclose(library._handle)  # noqa: SLF001 - ctypes has no public way to unload


@dataclass(frozen=True, slots=True)
class Root:
    """A folder that is `/` to the software installed in it. Paths given to it are absolute inside it."""

    host: str
    """As the host sees it, without a trailing slash: empty for the host's own root."""
    mount: str
    """As this process sees it, likewise."""

    def here(self, path: str) -> str:
        """Return where this process finds the path."""
        return self.mount + path

    def on_host(self, path: str) -> str:
        """Return where the host finds the path."""
        return self.host + path

    def resolve(self, path: str) -> str | None:
        """Follow all links without leaving the root; None if it does not exist or links go in circles."""
        done, left, links = "", path.split("/"), 0
        while left:
            part = left.pop(0)
            if part in ("", "."):
                continue
            if part == "..":
                done = done.rpartition("/")[0]
                continue
            try:
                target = str(Path(f"{self.mount}{done}/{part}").readlink())
            except OSError:
                done = f"{done}/{part}"
                continue
            links += 1
            if links > _MAX_LINKS:
                return None
            left[:0] = target.split("/")
            done = "" if target.startswith("/") else done
        return done if self.has(done) else None

    def has(self, path: str) -> bool:
        """Whether the path exists and may be looked at."""
        try:
            Path(self.here(path)).stat()
        except OSError:
            return False
        return True

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, sorted; none if it cannot be read."""
        try:
            return sorted(path.name for path in Path(self.here(folder)).iterdir())
        except OSError:
            return []


def folders(root: Root) -> tuple[str, ...]:
    """Return the folders in which libraries may lie, links followed, each once: configured ones after the default."""
    candidates = [*_FOLDERS, *_configured(root, _CONFIG, depth=0)]
    resolved = (root.resolve(folder) for folder in candidates)
    return tuple(dict.fromkeys(folder for folder in resolved if folder))


WATCHED: Final = (*_FOLDERS, _CONFIG, f"{_CONFIG}.d")
"""Paths whose change may change the answer of `folders`."""


def _configured(root: Root, config: str, depth: int) -> Iterator[str]:
    """Read ld.so.conf(5) and the files it includes."""
    try:
        lines = Path(root.here(config)).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        words = line.partition("#")[0].split()
        if len(words) == 2 and words[0] == "include" and depth < 4:
            included = PurePosixPath(config).parent / words[1]
            for path in sorted(Path(root.here(str(included.parent))).glob(included.name)):
                yield from _configured(root, f"{included.parent}/{path.name}", depth + 1)
        elif words and words[0].startswith("/"):
            yield words[0]


@dataclass(frozen=True, slots=True)
class SharedObject:
    """What an ELF file says about itself."""

    native: bool
    """Whether programs of this machine can load it: not so a 32-bit library beside a 64-bit one."""
    soname: str | None
    """The name by which programs ask for it (`libcuda.so.1`)."""


def read_object(path: str) -> SharedObject | None:
    """Read the header of a shared library; None if it is none, or broken. (System V ABI, chapters 4 and 5.)"""
    try:
        with Path(path).open("rb") as file:
            header = file.read(64)
            if not header.startswith(b"\x7fELF"):
                return None
            native = header.startswith(_ELF64_LITTLE) and _machine(header) == _MACHINES.get(os.uname().machine)
            return SharedObject(native, _soname(file.fileno(), header) if native else None)
    except (OSError, struct.error, UnicodeDecodeError):
        return None


def _machine(header: bytes) -> int:
    machine: int = struct.unpack_from("<H", header, 18)[0]
    return machine


def _soname(descriptor: int, header: bytes) -> str | None:
    """Find DT_SONAME: program headers → dynamic section → string table (an address, hence the mapping)."""
    offset, size, count = *struct.unpack_from("<Q", header, 32), *struct.unpack_from("<HH", header, 54)
    table = os.pread(descriptor, size * count, offset)
    segments = [struct.unpack_from("<IIQQQQ", table, size * index) for index in range(count)]
    dynamic = next((segment for segment in segments if segment[0] == _PT_DYNAMIC), None)
    if dynamic is None:
        return None
    entries = dict(_entries(os.pread(descriptor, dynamic[5], dynamic[2])))
    if _DT_SONAME not in entries or _DT_STRTAB not in entries:
        return None
    address = entries[_DT_STRTAB]
    for kind, _flags, start, virtual, _physical, length in segments:
        if kind == _PT_LOAD and virtual <= address < virtual + length:
            text = os.pread(descriptor, 256, start + address - virtual + entries[_DT_SONAME])
            return text.partition(b"\0")[0].decode() or None
    return None


def _entries(section: bytes) -> Iterator[tuple[int, int]]:
    for tag, value in struct.iter_unpack("<qQ", section[: len(section) // 16 * 16]):
        if tag == _DT_NULL:
            return
        yield tag, value
