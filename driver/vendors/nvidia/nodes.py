"""Device nodes: which ones exist, their numbers, and the capability nodes of MIG instances.

Called by edits.py and fingerprints.py. Looks at names under /dev and reads procfs; opens no device.

A node that exists is named without numbers, so that the runtime reads them when a container starts (the majors of
nvidia-uvm and nvidia-caps are given out anew at each boot). One that does not exist yet is named by its numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from driver.contract import Roots
from driver.model.errors import Unavailable
from driver.model.prepared import DeviceNode
from driver.vendors.nvidia.libraries import Root

_FRONTEND: Final = ("nvidia", "nvidia-frontend")
"""Names of major 195 in /proc/devices: the newer and the older."""
_CONTROL: Final = (
    ("nvidiactl", _FRONTEND, 255),
    ("nvidia-uvm", ("nvidia-uvm",), 0),
    ("nvidia-uvm-tools", ("nvidia-uvm",), 1),
    ("nvidia-modeset", _FRONTEND, 254),
)
"""Nodes that every container needs beside its GPUs: name, name of the major in /proc/devices, minor.

Numbers: open-gpu-kernel-modules, kernel-open/common/inc/nv-chardev-numbers.h and nvidia-uvm/uvm_common.h.
"""
_OPTIONAL: Final = frozenset({"nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset"})
_CAPABILITIES: Final = "nvidia-caps"
_DXG: Final = "dxg"
_MODE: Final = 0o666
"""A non-root user without capabilities can use the device: the claim decides who gets it, not the file mode."""
_PERMISSIONS: Final = "rw"


class Nodes:
    """The device nodes of one machine: in the dev root or, since driver containers have a /dev, in the driver root."""

    def __init__(self, roots: Roots) -> None:
        host, mount = roots.dev_root.rstrip("/"), roots.dev_root_mount.rstrip("/")
        self._dev_root = Root(host, mount)
        self._proc = Path(roots.proc_root)

    def control(self, driver_root: Root) -> tuple[DeviceNode, ...]:
        """Return the nodes that are not of one GPU. Raises `Unavailable` without nvidiactl.

        The others are left out where their kernel module is not loaded.
        """
        found = []
        for name, drivers, minor in _CONTROL:
            node = self._node(name, driver_root, drivers, minor)
            if node is None and name not in _OPTIONAL:
                raise self._missing(name)
            # modeset needs numbers only if somebody loaded it: its major is the GPUs' own.
            if node is not None and (name != "nvidia-modeset" or node.major is None):
                found.append(node)
        return tuple(found)

    def gpu(self, minor: int, driver_root: Root) -> DeviceNode:
        """Return the node of one GPU. Raises `Unavailable` if it neither exists nor has a known number."""
        name = f"nvidia{minor}"
        node = self._node(name, driver_root, _FRONTEND, minor)
        if node is None:
            raise self._missing(name)
        return node

    def paravirtual(self) -> DeviceNode:
        """Return WSL's one node, which is all GPUs at once."""
        host_path = self._host_path(self._dev_root, _DXG)
        return DeviceNode(path=f"/dev/{_DXG}", host_path=host_path, permissions=_PERMISSIONS, file_mode=_MODE)

    def has_paravirtual(self) -> bool:
        """Whether this is the Windows Subsystem for Linux."""
        return self._dev_root.has(f"/dev/{_DXG}")

    def capabilities(self, minor: int, gpu_instance: int, compute_instance: int) -> tuple[DeviceNode, ...]:
        """Return the two nodes that open a MIG device: its GPU instance and its compute instance.

        Raises `Unavailable` if the instance does not exist (any more) or the driver has no capability nodes.
        """
        major = self._majors().get(_CAPABILITIES)
        if major is None:
            raise Unavailable(f"{self._proc}/devices names no {_CAPABILITIES}: the driver is not loaded (yet)")
        instance = f"gpu{minor}/mig/gi{gpu_instance}"
        return tuple(
            self._capability(major, self._capability_minor(path))
            for path in (f"{instance}/access", f"{instance}/ci{compute_instance}/access")
        )

    def names(self) -> list[str]:
        """Return the names of NVIDIA's nodes in the dev root, sorted."""
        found = [name for name in self._dev_root.names("/dev") if name.startswith("nvidia") or name == _DXG]
        return found + self._dev_root.names("/dev/nvidia-caps")

    def _node(self, name: str, driver_root: Root, drivers: tuple[str, ...], minor: int) -> DeviceNode | None:
        path = f"/dev/{name}"
        for root in (self._dev_root, driver_root):
            if root.has(path):
                host_path = self._host_path(root, name)
                return DeviceNode(path=path, host_path=host_path, permissions=_PERMISSIONS, file_mode=_MODE)
        majors = self._majors()
        major = next((majors[driver] for driver in drivers if driver in majors), None)
        if major is None:
            return None
        return DeviceNode(
            path=path,
            host_path=self._host_path(self._dev_root, name),
            type="c",
            major=major,
            minor=minor,
            permissions=_PERMISSIONS,
            file_mode=_MODE,
        )

    def _capability(self, major: int, minor: int) -> DeviceNode:
        name = f"nvidia-caps/nvidia-cap{minor}"
        return DeviceNode(
            path=f"/dev/{name}",
            host_path=self._host_path(self._dev_root, name),
            type="c",
            major=major,
            minor=minor,
            permissions=_PERMISSIONS,
            file_mode=_MODE,
        )

    def _host_path(self, root: Root, name: str) -> str | None:
        return root.on_host(f"/dev/{name}") if root.host else None

    def _missing(self, name: str) -> Unavailable:
        return Unavailable(
            f"{self._dev_root.on_host(f'/dev/{name}')} does not exist and {self._proc}/devices names no major for it: "
            "the driver is not loaded (yet)"
        )

    def _majors(self) -> dict[str, int]:
        try:
            return parse_majors((self._proc / "devices").read_text(encoding="ascii", errors="replace"))
        except OSError:
            return {}

    def _capability_minor(self, path: str) -> int:
        """Read the minor from the capability's own file; older drivers have the table of all minors only."""
        folder = self._proc / "driver"
        try:
            text = (folder / "nvidia" / "capabilities" / path).read_text(encoding="ascii", errors="replace")
            minor = parse_capability(text)
        except OSError:
            minor = self._tabled_minor(path)
        if minor is None:
            raise Unavailable(f"the MIG device has no capability {path} (any more) below {folder}/nvidia/capabilities")
        return minor

    def _tabled_minor(self, path: str) -> int | None:
        # The table lists instances that do not exist, too: trust it only if the driver has no folder for the GPU.
        folder = self._proc / "driver"
        if (folder / "nvidia" / "capabilities").is_dir():
            return None
        try:
            text = (folder / "nvidia-caps" / "mig-minors").read_text(encoding="ascii", errors="replace")
        except OSError:
            return None
        return parse_minors(text).get(path.replace("/mig/", "/"))


def parse_majors(text: str) -> dict[str, int]:
    """Read /proc/devices: majors of character devices by name (proc_devices(5): block devices stand after them)."""
    section = text.partition("Block devices:")[0].partition("Character devices:")[2]
    rows = (line.split() for line in section.splitlines())
    return {row[1]: int(row[0]) for row in rows if len(row) == 2 and row[0].isdigit()}


def parse_capability(text: str) -> int | None:
    """Read a capability's `access` file: the minor stands after `DeviceFileMinor:`."""
    for line in text.splitlines():
        key, _colon, value = line.partition(":")
        if key.strip() == "DeviceFileMinor" and value.strip().isdigit():
            return int(value)
    return None


def parse_minors(text: str) -> dict[str, int]:
    """Read mig-minors: `gpu0/gi1/ci0/access 13` a line."""
    rows = (line.split() for line in text.splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}
