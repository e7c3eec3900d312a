"""What containers of a claim get: device nodes of the claimed GPUs, and the driver's files.

Called by vendor.py. Plans only: nothing is changed, and the same driver and targets give the same edits, byte for byte.
Device nodes of other GPUs never occur. Words: CDI specification, containerEdits.

Programs must find the mounted libraries. If NVIDIA's CDI hook is on the host, it makes the links and runs ldconfig in
the container. If it is not, each library is mounted under each of its names, in its own folder and in the folders that
every dynamic linker searches by default; no environment variable is touched, since an image has its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from driver.contract import Target
from driver.model.errors import InvalidInput
from driver.model.prepared import ContainerEdits, DeviceNode, Hook, Mount, Preparation
from driver.vendors.nvidia.driver_files import DriverFiles
from driver.vendors.nvidia.libraries import DEFAULT_FOLDERS, Root
from driver.vendors.nvidia.nodes import Nodes

_READ_ONLY: Final = ("ro", "nosuid", "nodev", "rbind", "rprivate")
_SOCKET: Final = ("nosuid", "nodev", "noexec", "rbind", "rprivate")
_VOID: Final = "NVIDIA_VISIBLE_DEVICES=void"
"""Keeps NVIDIA's older container runtime hook from adding every GPU for images that say `all`."""
_HOOK_FOLDERS: Final = ("/usr/bin", "/usr/local/bin", "/usr/local/nvidia/toolkit", "/opt/nvidia/toolkit", "/usr/sbin")
_HOOK_NAMES: Final = ("nvidia-cdi-hook", "nvidia-ctk")
_STAGE: Final = "createContainer"


def find_hook(host: Root) -> str | None:
    """Return the path on the host of NVIDIA's CDI hook (or of the tool that holds it), or None."""
    candidates = (f"{folder}/{name}" for name in _HOOK_NAMES for folder in _HOOK_FOLDERS)
    return next((path for path in candidates if host.has(path)), None)


def plan_common(files: DriverFiles, control: Sequence[DeviceNode], hook: str | None) -> ContainerEdits:
    """Return what a container gets once, however many GPUs it has. `hook` is a path on the host."""
    libraries = _mounts_for_hook(files) if hook else _mounts_for_linker(files)
    others = ((file.path, file.source) for file in (*files.binaries, *files.firmware))
    mounts = {
        **_mounts(files.root, libraries, _READ_ONLY),
        **_mounts(files.root, others, _READ_ONLY),
        **_mounts(files.root, ((path, path) for path in files.shared), _READ_ONLY),
        **_mounts(files.root, ((path, path) for path in files.sockets), _SOCKET),
    }
    return ContainerEdits(
        env=(_VOID,),
        device_nodes=tuple(control),
        mounts=tuple(mounts[path] for path in sorted(mounts)),
        hooks=_hooks(files, hook) if hook else (),
    )


def _mounts(root: Root, files: Iterable[tuple[str, str]], options: tuple[str, ...]) -> dict[str, Mount]:
    """Return mounts by path in the container; of two files for one path the later wins."""
    return {path: Mount(host_path=root.on_host(source), container_path=path, options=options) for path, source in files}


def plan_device(target: Target, files: DriverFiles, nodes: Nodes) -> ContainerEdits:
    """Return the nodes of one device. Raises `Unavailable` if it is gone, `InvalidInput` for an unknown target."""
    if files.wsl:
        return ContainerEdits(device_nodes=(nodes.paravirtual(),))
    minor = _number(target, target.accelerator.handle, "minor")
    gpu = nodes.gpu(minor, files.root)
    if target.partition is None:
        return ContainerEdits(device_nodes=(gpu,))
    handle = target.partition.handle
    instance, part = _number(target, handle, "gpuInstance"), _number(target, handle, "computeInstance")
    return ContainerEdits(device_nodes=(gpu, *nodes.capabilities(minor, instance, part)))


@dataclass(frozen=True, slots=True)
class _Remembered:
    files: DriverFiles
    control: tuple[DeviceNode, ...]
    hook: str | None
    edits: ContainerEdits


class Planner:
    """Plans edits, and keeps the common part while the driver is the same."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._last: _Remembered | None = None

    def plan(self, targets: Sequence[Target], files: DriverFiles, hook: str | None) -> Preparation:
        """Return the edits of one claim. Raises as `plan_device`."""
        control = () if files.wsl else self._nodes.control(files.root)
        return Preparation(
            common=self._common(files, control, hook),
            devices={target.key: plan_device(target, files, self._nodes) for target in targets},
        )

    def _common(self, files: DriverFiles, control: tuple[DeviceNode, ...], hook: str | None) -> ContainerEdits:
        last = self._last
        if last is None or last.files is not files or (last.control, last.hook) != (control, hook):
            last = _Remembered(files, control, hook, plan_common(files, control, hook))
            self._last = last
        return last.edits


def _number(target: Target, handle: Mapping[str, int | str], key: str) -> int:
    value = handle.get(key)
    if not isinstance(value, int):
        raise InvalidInput(f"device {target.name}, handle {key}", value, "the number that this vendor's snapshot gave")
    return value


def _mounts_for_hook(files: DriverFiles) -> Iterator[tuple[str, str]]:
    """Yield (path in the container, source): each library at its own place."""
    yield from ((library.path, library.path) for library in files.libraries)


def _mounts_for_linker(files: DriverFiles) -> Iterator[tuple[str, str]]:
    """Yield (path in the container, source): each library where every linker looks, and at its own places last."""
    paths = [(path, library.path) for library in files.libraries for path in (library.path, *library.names)]
    for folder in DEFAULT_FOLDERS:
        yield from ((f"{folder}/{path.rpartition('/')[2]}", source) for path, source in paths)
    yield from paths


def _hooks(files: DriverFiles, hook: str) -> tuple[Hook, ...]:
    """Return the hooks that make links (`target::link`) and rebuild the linker's cache (nvidia-cdi-hook --help)."""
    links = tuple(
        word for library in files.libraries for link in library.names for word in ("--link", _link(library.path, link))
    )
    folders = tuple(word for folder in files.folders for word in ("--folder", folder))
    name = hook.rpartition("/")[2]
    start = (name, "hook") if name == "nvidia-ctk" else (name,)
    make_links = Hook(hook_name=_STAGE, path=hook, args=(*start, "create-symlinks", *links))
    rebuild = Hook(hook_name=_STAGE, path=hook, args=(*start, "update-ldcache", *folders))
    return (make_links, rebuild) if links else (rebuild,)


def _link(target: str, link: str) -> str:
    folder, _slash, name = target.rpartition("/")
    return f"{name if folder == link.rpartition('/')[0] else target}::{link}"
