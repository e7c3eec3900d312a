"""Which files of the installed driver a container needs: found, not listed.

Called by vendor.py (the library to load, fingerprint) and edits.py (mounts, links). `Finder` looks once per installed
driver and again only when a folder it looked at changed, so that preparing a claim costs a few stat calls.
"""

from __future__ import annotations

import fnmatch
import os
import re
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from driver.model.errors import Unavailable
from driver.vendors.nvidia import libraries
from driver.vendors.nvidia.libraries import Root

NVML: Final = "libnvidia-ml.so.1"
_WSL: Final = "/usr/lib/wsl"
_VERSION: Final = re.compile(r"\d+\.\d+(\.\d+)*")
_BINARY_FOLDERS: Final = ("/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin", "/usr/local/nvidia/bin")
_BINARY: Final = re.compile(r"nvidia-(smi|debugdump|persistenced|cuda-mps-[a-z]+|imex(-[a-z]+)?)")
"""Programs that speak with the driver. Not those that install or configure it, nor the container toolkit."""
_FIRMWARE_FOLDERS: Final = ("/lib/firmware/nvidia", "/usr/lib/firmware/nvidia")
_SOCKETS: Final = ("/run/nvidia-persistenced/socket",)
_SUBROOTS: Final = ("", "/run/nvidia/driver", "/home/kubernetes/bin/nvidia")
"""Where the driver may be below the configured root: itself, a driver container (GPU Operator), Google's COS."""


@dataclass(frozen=True, slots=True)
class Library:
    """One shared library of the driver root: the real file and its other names."""

    path: str
    names: tuple[str, ...]
    """Full paths under which programs ask for it, sorted: links to it, and the name it gives itself (SONAME)."""


@dataclass(frozen=True, slots=True)
class File:
    """A file to show at `path`, found at `source` (links followed), both inside the driver root."""

    path: str
    source: str


@dataclass(frozen=True, slots=True)
class DriverFiles:
    """What is installed. Every tuple is sorted, so that the same driver always gives the same edits."""

    root: Root
    nvml: str
    """The real path of NVML inside the root."""
    version: str | None
    """The driver's version, as its libraries carry it in their names; None on WSL, where they do not."""
    libraries: tuple[Library, ...]
    folders: tuple[str, ...]
    """Folders of `libraries` and of their names."""
    binaries: tuple[File, ...]
    firmware: tuple[File, ...]
    sockets: tuple[str, ...]
    shared: tuple[str, ...]
    """Whole folders to show (WSL's driver store)."""

    @property
    def wsl(self) -> bool:
        """Whether this is the Windows Subsystem for Linux: no device nodes, no versions."""
        return self.nvml.startswith(f"{_WSL}/")


@dataclass(frozen=True, slots=True)
class Installation:
    """A driver root with an NVML library in it."""

    root: Root
    folders: tuple[str, ...]
    nvml: str


_ATTEMPTS: Final = 10
_Stamp = tuple[tuple[int, int] | None, ...]


class Finder:
    """Finds the driver below one configured root, and remembers it while nothing changes. Safe to share."""

    def __init__(self, driver_root: str, driver_root_mount: str) -> None:
        host, mount = driver_root.rstrip("/"), driver_root_mount.rstrip("/")
        self._configured = driver_root
        self._roots = tuple(Root(f"{host}{sub}", f"{mount}{sub}") for sub in _SUBROOTS)
        self._lock = threading.Lock()
        self._watched: tuple[Path, ...] = ()
        self._stamp: _Stamp = ()
        self._found: DriverFiles | None = None

    def installation(self) -> Installation:
        """Return the first root that has NVML. Raises `Unavailable` while there is none."""
        for root in self._roots:
            folders = libraries.folders(root)
            for folder in folders:
                real = root.resolve(f"{folder}/{NVML}")
                shared = libraries.read_object(root.here(real)) if real else None
                if real and shared and shared.native:
                    return Installation(root, folders, real)
        raise Unavailable(
            f"{NVML} is not below the driver root {self._configured}: the NVIDIA driver is not installed there (yet)"
        )

    def files(self) -> DriverFiles:
        """Return the files of the installed driver. Raises `Unavailable` while there is none."""
        with self._lock:
            if self._found is None or self._stamp != _stamp(self._watched):
                self._found = None
                self._found = self._look()
            return self._found

    def _look(self) -> DriverFiles:
        """Look until nothing changes meanwhile: an installer may be at work."""
        for _ in range(_ATTEMPTS):
            installation = self.installation()
            found = find(installation)
            watched = tuple(Path(path) for path in _watched(self._roots, installation, found))
            before = self._watched, self._stamp
            self._watched, self._stamp = watched, _stamp(watched)
            if before == (self._watched, self._stamp):
                return found
        raise Unavailable(f"the files of the driver below {self._configured} are changing: it is being installed")


def find(installation: Installation) -> DriverFiles:
    """Look through the folders of one driver root."""
    root, nvml = installation.root, installation.nvml
    folders = tuple(dict.fromkeys((*installation.folders, _folder(nvml))))
    wsl = nvml.startswith(f"{_WSL}/")
    version = _version(nvml)
    if wsl:
        folders = (_folder(nvml),)
    elif version is None:
        raise Unavailable(
            f"{root.on_host(nvml)} does not carry a driver version in its name (libnvidia-ml.so.<version>)"
        )
    found = tuple(_libraries(root, folders, "*" if version is None else version))
    named = {_folder(path) for library in found for path in (library.path, *library.names)}
    return DriverFiles(
        root=root,
        nvml=nvml,
        version=version,
        libraries=found,
        folders=tuple(sorted(named)),
        binaries=tuple(_binaries(root, (*((f"{_WSL}/lib",) if wsl else ()), *_BINARY_FOLDERS))),
        firmware=tuple(_firmware(root, version)) if version else (),
        sockets=tuple(path for path in _SOCKETS if root.has(path)),
        shared=tuple(path for path in (f"{_WSL}/drivers",) if wsl and root.has(path)),
    )


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _version(nvml: str) -> str | None:
    suffix = _name(nvml).partition(".so.")[2]
    return suffix if _VERSION.fullmatch(suffix) else None


def _libraries(root: Root, folders: Iterable[str], version: str) -> Iterator[Library]:
    """Yield the driver's libraries: those that carry its version, and every link in these folders that leads there."""
    listing = {folder: [name for name in root.names(folder) if ".so" in name] for folder in folders}
    real = {
        path
        for folder, names in listing.items()
        for name in names
        if fnmatch.fnmatchcase(name, f"lib*.so.{version}" if version != "*" else "lib*.so*")
        and (path := root.resolve(f"{folder}/{name}"))
    }
    stems = {_name(path).partition(".so")[0] for path in real}
    links: dict[str, set[str]] = {path: set() for path in real}
    for folder, names in listing.items():
        for name in names:
            path = f"{folder}/{name}"
            if path not in real and name.partition(".so")[0] in stems and (target := root.resolve(path)) in links:
                links[target].add(path)
    for path in sorted(real):
        shared = libraries.read_object(root.here(path))
        if shared and shared.native:
            own = {f"{_folder(path)}/{name}" for name in _own_names(shared.soname)}
            yield Library(path, tuple(sorted(links[path] | own - real)))


def _own_names(soname: str | None) -> tuple[str, ...]:
    """Return the names that a library must have. Frameworks ask for libcuda.so, too, which may not be installed."""
    if soname == "libcuda.so.1":
        return (soname, "libcuda.so")
    return (soname,) if soname else ()


def _binaries(root: Root, folders: Iterable[str]) -> Iterator[File]:
    seen: set[str] = set()
    for folder in folders:
        for name in root.names(folder):
            source = root.resolve(f"{folder}/{name}") if _BINARY.fullmatch(name) and name not in seen else None
            if source and os.access(root.here(source), os.X_OK):
                seen.add(name)
                yield File(f"/usr/bin/{name}" if folder.startswith(_WSL) else f"{folder}/{name}", source)


def _firmware(root: Root, version: str) -> Iterator[File]:
    """Yield the firmware of the GPU System Processor for this version."""
    seen: set[str] = set()
    for folder in _FIRMWARE_FOLDERS:
        for name in root.names(f"{folder}/{version}"):
            source = root.resolve(f"{folder}/{version}/{name}")
            if source and source not in seen and fnmatch.fnmatchcase(name, "gsp*.bin"):
                seen.add(source)
                yield File(f"{folder}/{version}/{name}", source)


def _watched(roots: Iterable[Root], installation: Installation, found: DriverFiles) -> Iterator[str]:
    """Yield what must be unchanged for `found` to be true: folders, files, and places where a driver may turn up."""
    for root in roots:
        yield from (root.here(path) for path in libraries.WATCHED)
    folders = {
        *installation.folders,
        *found.folders,
        *_BINARY_FOLDERS,
        *(_folder(path) for path in (*_SOCKETS, *found.sockets)),
    }
    folders |= {f"{folder}/{found.version}" for folder in _FIRMWARE_FOLDERS}
    yield from (found.root.here(path) for path in (*sorted(folders), found.nvml))


def _stamp(paths: Iterable[Path]) -> _Stamp:
    return tuple(_seen(path) for path in paths)


def _seen(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino
