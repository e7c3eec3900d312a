"""Unix sockets of the plugin: their names, who may use them, and what a dead plugin left behind.

Used by `servers`. A socket is owned through an flock on a hidden file beside it: grpcio binds over a live socket
without a word and unlinks the path when it stops, so two plugins on one path would leave none.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from driver.model.errors import Conflict, InvalidInput, StorageFailed

PATH_LIMIT: Final = 107
"""Bytes of a Unix socket's path: sun_path is 108 with its NUL (unix(7))."""
_LOCK_SUFFIX: Final = ".lock"


@dataclass(frozen=True, slots=True)
class Sockets:
    """Paths of the plugin's two sockets, absolute and the same for the kubelet as for us."""

    dra: str
    registration: str


def name(driver: str, plugins_dir: str, registry_dir: str, pod_uid: str) -> Sockets:
    """Return the socket paths of a driver.

    With a pod UID they are this pod's own, so that the next version's pod can serve beside it in a rolling update
    (registration sockets are named as k8s.io/dynamic-resource-allocation/kubeletplugin does). Raises `InvalidInput`
    if a path is too long or not absolute.
    """
    registry_dir = registry_dir.rstrip("/")
    data_dir = f"{plugins_dir.rstrip('/')}/{driver}"
    if not pod_uid:
        dra, registration = [f"{data_dir}/dra.sock"], [f"{registry_dir}/{driver}-reg.sock"]
    else:
        short, both = _digest(pod_uid, 8), _digest(f"{driver}\0{pod_uid}", 16)
        dra = [f"{data_dir}/{base}.sock" for base in (f"dra-{pod_uid}", f"dra-{short}", _digest(pod_uid, 6))]
        bases = (f"{driver}-{pod_uid}", f"{driver}-{short}", f"dra-{both}")
        registration = [f"{registry_dir}/{base}-reg.sock" for base in bases]
    return Sockets(_choose("kubelet-plugins-dir", dra), _choose("kubelet-registry-dir", registration))


def _digest(text: str, size: int) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()[:size]).rstrip(b"=").decode()


def _choose(setting: str, paths: list[str]) -> str:
    """Return the first path that fits: from the most readable to the shortest."""
    if not paths[0].startswith("/"):
        raise InvalidInput(setting, paths[0], "an absolute path, as the kubelet sees it")
    fitting = next((path for path in paths if len(os.fsencode(path)) <= PATH_LIMIT), None)
    if fitting is None:
        raise InvalidInput(setting, paths[-1], f"a folder that keeps socket paths within {PATH_LIMIT} bytes")
    return fitting


class Ownership:
    """The right to serve on one socket path, held until `release` or the end of the process.

    The lock file says which driver it belongs to, so that `sweep` takes nothing of another driver.
    """

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: str, driver: str) -> Ownership:
        """Own `path` and clear a dead socket from it.

        Raises `Conflict` while another process owns it or serves there, `InvalidInput` if something else than a
        socket is in the way, `StorageFailed` if the folder cannot be written.
        """
        try:
            descriptor = _lock(_lock_path(path))
        except BlockingIOError as error:
            raise Conflict(
                f"another plugin already serves {path}; stop it first, or give each instance its pod UID"
            ) from error
        except OSError as error:
            raise StorageFailed(_lock_path(path), error.strerror or str(error)) from error
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, driver.encode(), 0)
            _clear(path)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, descriptor)

    def release(self) -> None:
        """Remove the socket and the lock file, then let go. Safe to repeat."""
        if self._descriptor < 0:
            return
        Path(self.path).unlink(missing_ok=True)
        Path(_lock_path(self.path)).unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = -1


def sweep(folder: Path, driver: str) -> list[str]:
    """Remove sockets that dead instances of `driver` left in `folder`; return their paths.

    A registration socket that stays behind would have the kubelet dial it for ever. Only sockets with a lock file of
    ours that nobody holds are touched.
    """
    removed: list[str] = []
    for lock in sorted(folder.glob(f".*{_LOCK_SUFFIX}")):
        path = str(lock.with_name(lock.name[1 : -len(_LOCK_SUFFIX)]))
        try:
            if lock.read_text() == driver:
                Ownership.take(path, driver).release()
                removed.append(path)
        except (OSError, UnicodeDecodeError, Conflict, InvalidInput, StorageFailed):
            continue
    return removed


def _lock_path(path: str) -> str:
    folder, _, base = path.rpartition("/")
    return f"{folder}/.{base}{_LOCK_SUFFIX}"


def _lock(path: str) -> int:
    """Open and flock the file at `path`, and make sure that it still is the file at `path`."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), Path(path).lstat()):
                return descriptor
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _clear(path: str) -> None:
    """Remove a socket on which nobody listens."""
    try:
        mode = Path(path).lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise InvalidInput("socket", path, "a path at which there is nothing but a socket of this driver")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            Path(path).unlink(missing_ok=True)
            return
    raise Conflict(f"another process already serves {path}; stop it first")
