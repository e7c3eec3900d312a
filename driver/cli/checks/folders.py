"""Checks of the folders that the plugin shares with the kubelet and the container runtime, and of its own records.

Called by `cli.doctor` through `list_checks`. It writes nothing: whether a folder can be written is asked, not tried.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from driver.cli.checks.findings import Check, Finding, amount, failed, ok, warning
from driver.kubelet import sockets
from driver.model.errors import Corrupt
from driver.settings import Settings
from driver.state import record_files
from driver.state.boots import read_boot_id

_SOME_UID: Final = "00000000-0000-0000-0000-000000000000"
"""As long as every pod UID."""
_ROOM: Final = 16 * 1024 * 1024
"""Bytes that a disk should have left for records: a few KiB a claim, and the file system's own needs."""
_MEMORY: Final = frozenset({"tmpfs", "ramfs"})


class Folders:
    """The folders of the settings, as this process sees them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def list_checks(self) -> list[Check]:
        """Return the checks, the container runtime's side first."""
        return [
            Check("cdi-folder", "looking at the CDI folder", self.look_at_cdi),
            Check("kubelet-folders", "looking at the kubelet's folders", self.look_at_kubelet),
            Check("registration", "looking for the plugin's sockets", self.look_at_sockets),
            Check("state-folder", "reading the records of prepared claims", self.look_at_state),
        ]

    def look_at_cdi(self) -> Iterator[Finding]:
        """Yield whether CDI specs can be written where a container runtime reads them."""
        folder = Path(self._settings.cdi_root)
        advice = "make it, or mount the host's folder there; --cdi-root must be a folder of the runtime's cdi_spec_dirs"
        if problem := find_problem(folder, to_be_made=True):
            yield failed(f"CDI folder {folder} {problem}", advice)
            return
        if not folder.exists():
            yield ok(f"CDI folder {folder} does not exist yet; the plugin makes it")
            return
        kind = self._find_filesystem(folder)
        kept = "" if kind in _MEMORY or not kind else ": specs outlive a reboot, the plugin renews them when it starts"
        yield ok(f"CDI folder {folder} ({kind or 'file system unknown'}{kept})")
        for path in sorted(folder.glob("*.json")):
            if not os.access(path, os.R_OK):
                yield warning(f"CDI spec {path} cannot be read", "container runtimes complain about it too: remove it")

    def look_at_kubelet(self) -> Iterator[Finding]:
        """Yield whether the kubelet's folders are there and sockets in them get paths that the kernel takes."""
        options = self._settings
        advice = "mount the host's folder at the same path; with another kubelet --root-dir set both folders to it"
        for name, folder in (
            ("plugin folder", Path(options.data_dir)),
            ("registration folder", Path(options.kubelet_registry_dir)),
        ):
            problem = find_problem(folder, to_be_made=name == "plugin folder")
            yield failed(f"{name} {folder} {problem}", advice) if problem else ok(f"{name} {folder}")
        paths = self._name_sockets()
        longest = max(len(os.fsencode(path)) for path in (paths.dra, paths.registration))
        yield ok(f"socket paths have up to {longest} of {sockets.PATH_LIMIT} bytes")

    def look_at_sockets(self) -> Iterator[Finding]:
        """Yield whether a plugin serves on this node, and whether a kubelet is there to find it."""
        registry = Path(self._settings.kubelet_registry_dir)
        advice = "start the plugin, and look at its log if it should be running"
        ours = sorted(path for path in registry.glob("*-reg.sock") if self._is_ours(path))
        serving = [path for path in ours if answers(path)]
        for path in ours:
            if path not in serving:
                yield warning(f"{path} is a socket on which nobody listens", "the next start of the plugin removes it")
        if serving:
            yield ok(f"the plugin serves on {', '.join(str(path) for path in serving)}")
        else:
            yield warning(f"no plugin of {self._settings.driver_name} serves in {registry}", advice)
        yield from self._look_for_kubelet()

    def look_at_state(self) -> Iterator[Finding]:
        """Yield whether records can be kept and read back, and what had to be set aside.

        Raises `Unavailable` without the boot id, by which records from before a reboot are told.
        """
        read_boot_id(self._settings.proc_root)
        folder = Path(self._settings.records_root)
        advice = "make it, or give the plugin a disk that outlives reboots with --state-dir"
        if problem := find_problem(folder, to_be_made=True):
            yield failed(f"state folder {folder} {problem}", advice)
            return
        if not folder.exists():
            yield ok(f"state folder {folder} does not exist yet; the plugin makes it")
            return
        kind = self._find_filesystem(folder)
        if kind in _MEMORY:
            yield warning(f"state folder {folder} is in memory ({kind}): records are lost at a reboot", advice)
        yield from _look_at_room(folder)
        yield from _look_at_records(folder)

    def _look_for_kubelet(self) -> Iterator[Finding]:
        """Yield whether a kubelet answers beside the plugin folder; nothing where its own sockets are not mounted."""
        root = Path(self._settings.kubelet_plugins_dir).parent
        path = root / "pod-resources" / "kubelet.sock"
        if not path.exists():
            return
        advice = "see `systemctl status kubelet` on the node"
        yield ok("the kubelet answers") if answers(path) else failed(f"nobody answers at {path}", advice)

    def _name_sockets(self) -> sockets.Sockets:
        options = self._settings
        uid = options.pod_uid or _SOME_UID
        return sockets.name(options.driver_name, options.kubelet_plugins_dir, options.kubelet_registry_dir, uid)

    def _is_ours(self, path: Path) -> bool:
        own = self._name_sockets().registration
        return path.name.startswith(f"{self._settings.driver_name}-") or str(path) == own

    def _find_filesystem(self, folder: Path) -> str:
        try:
            table = Path(self._settings.proc_root, "self", "mountinfo").read_text(errors="replace")
        except OSError:
            return ""
        return parse_filesystem(table, os.path.realpath(folder))


def find_problem(folder: Path, *, to_be_made: bool) -> str:
    """Return why the plugin cannot write there, as the end of a sentence; empty if it can.

    A folder `to_be_made` may be missing if the nearest folder above it can be written.
    """
    if folder.exists():
        if not folder.is_dir():
            return "is not a folder"
        return "" if os.access(folder, os.W_OK | os.X_OK) else "cannot be written"
    if not to_be_made:
        return "does not exist"
    above = next(parent for parent in folder.parents if parent.exists())
    return "" if os.access(above, os.W_OK | os.X_OK) else f"does not exist, and {above} cannot be written"


def answers(path: Path) -> bool:
    """Return whether somebody listens on a Unix socket."""
    if not stat.S_ISSOCK(path.stat().st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def parse_filesystem(mountinfo: str, folder: str) -> str:
    """Return the type of the file system that holds a folder, empty if it cannot be told (proc_pid_mountinfo(5))."""
    best, kind = "", ""
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split()
        if len(fields) < 5 or not right:
            continue
        point = fields[4].replace("\\040", " ").rstrip("/")
        # A later mount on the same point hides the earlier one.
        if (folder == point or folder.startswith(f"{point}/")) and len(point) >= len(best):
            best, kind = point, right.split()[0]
    return kind


def _look_at_room(folder: Path) -> Iterator[Finding]:
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if free < _ROOM:
        yield failed(f"{folder} has {free // 1024} KiB left", "free some space: a claim is prepared only once recorded")


def _look_at_records(folder: Path) -> Iterator[Finding]:
    """Yield how many claims are prepared, which records cannot be read, and which were set aside before."""
    records = 0
    for path in sorted(folder.glob("claims/*.json")):
        try:
            record_files.decode(path.read_bytes(), str(path))
            records += 1
        except (OSError, Corrupt) as error:
            advice = "the plugin sets it aside when it sees it; the claim's pod has to be made anew"
            yield warning(f"a record cannot be read: {error}", advice)
    for path in sorted(folder.glob("quarantine/*.json")):
        advice = "delete the pod of that claim; until its claim is unprepared, its devices are kept from others"
        yield warning(f"record {path} was set aside{_read_reason(path)}", advice)
    yield ok(f"state folder {folder}, {amount(records, 'claim')} prepared")


def _read_reason(path: Path) -> str:
    """Return why a record was set aside, as the end of a sentence."""
    try:
        return ": " + path.with_name(f"{path.name}.reason").read_text(errors="replace").strip()
    except OSError:
        return ""
