"""Rigs with programs that act as those of the driver, so that sharing can be tried without a GPU."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from driver.contract import Target
from driver.daemons.guarding import Timings
from driver.daemons.launching import Patience
from driver.daemons.supervisor import Supervisor
from driver.model.errors import Unsupported
from driver.model.occurrences import Occurrence
from driver.model.prepared import ContainerEdits, Preparation, Step
from driver.model.sharing import Sharing
from driver.vendors.nvidia import nvml
from driver.vendors.nvidia.driver_files import Finder
from driver.vendors.nvidia.mounts import SharedMemory
from driver.vendors.nvidia.mps import Service
from driver.vendors.nvidia.programs import Programs
from driver.vendors.nvidia.sharing import Sharer
from tests.fakes.nvml import mps_control
from tests.vendors.nvidia.machine import Rig

QUICK = Timings(first_pause=0.05, longest_pause=0.2, tick=0.05, patience=Patience(10.0, 2.0, 10.0))
PYTHON = Path(sys.executable).resolve()
"""Not the environment's, which has more to look for when it starts."""
SMI = """#!/bin/sh
here="$(dirname "$0")"
echo "$@" >> "$here/smi.log"
test -e "$here/smi.refuses" || exit 0
echo "Timeslice is not supported on this device."
exit 3
"""


class Folders(SharedMemory):
    """Plain folders instead of mounts, for users who may not mount."""

    def __init__(self) -> None:
        self.visible = True
        self.mounted: set[Path] = set()

    def check(self, folder: Path) -> None:
        if not self.visible:
            raise Unsupported(f"{folder} is not seen by the host")

    def mount(self, step: str, folder: Path) -> None:  # noqa: ARG002
        self.mounted.add(folder)

    def unmount(self, step: str, folder: Path) -> None:  # noqa: ARG002
        self.mounted.discard(folder)


class Shop:
    """A machine on which devices are shared, with everything that does it but the vendor's own class."""

    def __init__(self, root: Path, node: str = "l40s", *, many_users: bool = False, isolated: bool = False) -> None:
        self.root = root
        self.rig = Rig(root, node)
        self.bin = self.rig.tree.driver / "usr/bin"
        source = Path(str(mps_control.__file__)).read_text()
        self.rig.tree.write("usr/bin/nvidia-cuda-mps-control", f"#!{PYTHON} -IS\n{source}".encode(), 0o755)
        self.rig.tree.write("usr/bin/nvidia-smi", SMI.encode(), 0o755)
        roots = self.rig.tree.roots()
        self.memory = Folders()
        self.programs = Programs(Finder(roots.driver_root, roots.driver_root_mount), isolated=isolated)
        self.service = Service(root / "state/nvidia/mps", self.programs, self.memory, many_users)
        self.told: list[Occurrence] = []
        self.start()

    def start(self) -> None:
        """Start the plugin."""
        self.supervisor = Supervisor(self.root / "state/daemons", self.told.append, QUICK)
        self.sharer = Sharer(self.session, self.service, self.supervisor)

    def session(self) -> AbstractContextManager[nvml.Session]:
        return nvml.session(str(self.rig.loader_path), self.rig.loader)

    def target(self, number: int = 0, sharing: Sharing | None = None, claim: str = "c1", **more: object) -> Target:
        plain: dict[str, object] = {"partition": None, "admin_access": False, "share_id": None} | more
        gpu = self.rig.create().snapshot().accelerators[number]
        return Target(f"gpu-{number}", gpu, claim=claim, sharing=sharing, **plain)  # type: ignore[arg-type]

    def prepare(self, *targets: Target) -> tuple[list[Step], dict[str, ContainerEdits]]:
        done: list[Step] = []
        for step in self.sharer.plan(targets):
            done.append(self.sharer.run(step, tuple(done)))
        plain = Preparation(ContainerEdits(), {target.key: ContainerEdits() for target in targets})
        return done, dict(self.sharer.extend(plain, targets, done).devices)

    def unprepare(self, steps: Sequence[Step]) -> None:
        for step in reversed(steps):
            self.sharer.undo(step)

    def ask(self, daemon: str, command: str) -> str:
        """Say something to a daemon as an admin would."""
        folder = self.service.root / daemon / "pipe"
        program = str(self.bin / "nvidia-cuda-mps-control")
        environment = {"CUDA_MPS_PIPE_DIRECTORY": str(folder)}
        done = subprocess.run(
            [program], input=f"{command}\n", env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def slices(self) -> list[str]:
        """Return how nvidia-smi was called."""
        log = self.bin / "smi.log"
        return log.read_text().splitlines() if log.exists() else []

    def left(self) -> list[str]:
        """Return what is left of daemons in files."""
        return sorted(path.name for path in self.service.root.glob("*"))

    def sweep(self) -> None:
        for folder in (self.root / "state/daemons").glob("*"):
            self.supervisor.stop(folder.name)
        self.supervisor.close()
