"""CDI edits into one container: what its process would find. Called by the runtime for every container it creates.

The order and the rules are those of pkg/cdi (cache.go InjectDevices, container-edits.go Apply): edits of a document
once, before its first device; later values replace earlier ones of the same name or path.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from driver.simulation.runtime.cdi import DeviceNode, Edits, Hook, Mount, Registry


class InjectionError(Exception):
    """A container cannot be made. `reason` is the kubelet's: CreateContainerError or StartError."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class NodeInContainer:
    """A device node as the container has it, complete with numbers and the cgroup's permission."""

    path: str
    host_path: str
    type: str
    major: int
    minor: int
    access: str
    file_mode: int | None
    uid: int | None
    gid: int | None

    def is_usable_by(self, uid: int, gids: Sequence[int]) -> bool:
        """Say whether a user without capabilities may open it for reading and writing."""
        if self.file_mode is None or not {"r", "w"} <= set(self.access):
            return uid == 0
        shift = 6 if uid == (self.uid or 0) else 3 if (self.gid or 0) in gids else 0
        return uid == 0 or (self.file_mode >> shift) & 0o6 == 0o6


@dataclass(frozen=True, slots=True)
class Contents:
    """What CDI added to one container."""

    env: dict[str, str]
    device_nodes: tuple[NodeInContainer, ...] = ()
    mounts: tuple[Mount, ...] = ()
    hooks: tuple[Hook, ...] = ()
    additional_gids: tuple[int, ...] = ()


def inject(registry: Registry, names: Sequence[str], user: int = 0) -> Contents:
    """Return what the devices of these names add to a container that runs as `user`.

    Raises `InjectionError`: a name that no document defines, a device node, mount source or hook that does not exist.
    """
    missing = [name for name in names if name not in registry.devices]
    if missing:
        raise InjectionError(
            "CreateContainerError", f"CDI device injection failed: unresolvable CDI devices {', '.join(missing)}"
        )
    return _apply(_collect(registry, names), user)


def _collect(registry: Registry, names: Sequence[str]) -> list[Edits]:
    seen: set[Path] = set()
    edits: list[Edits] = []
    for name in names:
        resolved = registry.devices[name]
        if resolved.path not in seen:
            seen.add(resolved.path)
            edits.append(resolved.document.container_edits)
        edits.append(resolved.device.container_edits)
    return edits


def _apply(edits: Iterable[Edits], user: int) -> Contents:
    env: dict[str, str] = {}
    nodes: dict[str, NodeInContainer] = {}
    mounts: dict[str, Mount] = {}
    hooks: list[Hook] = []
    gids: list[int] = []
    for edit in edits:
        env |= {name: value for name, _, value in (variable.partition("=") for variable in edit.env)}
        for node in edit.device_nodes:
            nodes.pop(node.path, None)
            nodes[node.path] = _complete(node, user)
        for mount in edit.mounts:
            _check_source(mount)
            mounts.pop(mount.container_path, None)
            mounts[mount.container_path] = mount
        for hook in edit.hooks:
            _check_hook(hook)
            hooks.append(hook)
        gids += [gid for gid in edit.additional_gids if gid and gid not in gids]
    ordered = sorted(mounts.values(), key=lambda mount: mount.container_path.count("/"))
    return Contents(env, tuple(nodes.values()), tuple(ordered), tuple(hooks), tuple(gids))


def _complete(node: DeviceNode, user: int) -> NodeInContainer:
    """Fill in type and numbers from the host's node where the edit leaves them out."""
    host_path = node.host_path or node.path
    type_, major, minor = str(node.type), node.major, node.minor
    if not type_ or (major == 0 and type_ != "p"):
        found, found_major, found_minor = _inspect(host_path)
        if type_ and type_ != found:
            raise InjectionError(
                "CreateContainerError",
                f"CDI device ({node.path!r}, {host_path!r}), host type mismatch ({type_}, {found})",
            )
        type_, major, minor = found, major or found_major, minor if major else found_minor
    uid = node.uid if node.uid is not None else user or None
    access = node.permissions or "rwm"
    return NodeInContainer(node.path, host_path, type_, major, minor, access, node.file_mode, uid, node.gid)


def _inspect(path: str) -> tuple[str, int, int]:
    try:
        found = Path(path).stat()
    except OSError as error:
        raise InjectionError(
            "CreateContainerError", f"failed to stat CDI host device {path!r}: {error.strerror}"
        ) from error
    kinds = {stat.S_IFBLK: "b", stat.S_IFCHR: "c", stat.S_IFIFO: "p"}
    kind = kinds.get(stat.S_IFMT(found.st_mode))
    if kind is None:
        raise InjectionError("CreateContainerError", f"failed to stat CDI host device {path!r}: not a device node")
    return kind, os.major(found.st_rdev), os.minor(found.st_rdev)


def _check_source(mount: Mount) -> None:
    if mount.type in ("", "bind") and not Path(mount.host_path).exists():
        raise InjectionError(
            "StartError",
            f"error mounting {mount.host_path!r} to rootfs at {mount.container_path!r}: no such file or directory",
        )


def _check_hook(hook: Hook) -> None:
    if not os.access(hook.path, os.X_OK):
        raise InjectionError("StartError", f"error running {hook.hook_name} hook: {hook.path!r} cannot be executed")
