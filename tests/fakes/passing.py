"""A machine with two accelerators, of which the first has a sound function and shares its group with a bridge."""

from __future__ import annotations

import shutil
from pathlib import Path

from driver.contract import Target
from driver.core import passthrough
from driver.model.passthrough import DRIVER
from driver.model.prepared import Step
from driver.passthrough.binding import Limits, Passthrough
from tests.fakes.hardware import accelerator, snapshot
from tests.fakes.pci import AUDIO, BRIDGE, FakeKernel, Machine

ONE, SOUND, TWO, PORT = "0000:1a:00.0", "0000:1a:00.1", "0000:3b:00.0", "0000:19:00.0"
ORIGINAL = {PORT: ("pcieport", None), ONE: ("gpud", None), SOUND: ("sound", None), TWO: ("gpud", None)}
HANDED_OVER = {**ORIGINAL, ONE: (DRIVER, DRIVER), SOUND: (DRIVER, DRIVER)}


class Site:
    """The machine, and one process of the plugin."""

    def __init__(self, root: Path) -> None:
        """Build the machine below `root`, or find it there."""
        self.machine = Machine(root / "sys")
        if not self.machine.root.exists():
            self.machine.build("gpud", "sound", "pcieport", DRIVER)
            self.machine.add(PORT, "27", kind=BRIDGE, native="pcieport")
            self.machine.add(ONE, "27")
            self.machine.add(SOUND, "27", kind=AUDIO, native="sound")
            self.machine.add(TWO, "31")
        self.proc = root / "proc"
        self.proc.mkdir(exist_ok=True)
        self.kernel = FakeKernel(self.machine)
        self.passthrough = self.open()

    def open(self, change: float = 20, idle: float = 0.05) -> Passthrough:
        """Return what another process of the plugin has, with these limits in seconds."""
        limits = Limits(change=change, probe=0.05, idle=idle, look=min(change, 0.5))
        return Passthrough(str(self.machine.root), str(self.proc), kernel=self.kernel, limits=limits)

    def plan(self, address: str = ONE) -> Step:
        """Return the step for one of the accelerators."""
        found = snapshot(accelerator(ONE), accelerator(TWO, index=1))
        device = next(each for each in found.accelerators if each.pci_address == address)
        target = Target("vfio", device, None, admin_access=False, share_id=None)
        return passthrough.plan(target, found, self.passthrough.look([ONE, TWO]), nodes=["/dev/gpu0"])

    def open_file(self, process: int, path: str) -> None:
        """Have a process open a file, as procfs shows it."""
        folder = self.proc / str(process) / "fd"
        folder.mkdir(parents=True)
        (folder.parent / "comm").write_text("trainer\n")
        (folder / "3").symlink_to("/dev/null")
        (folder / "4").symlink_to(path)

    def end(self, process: int) -> None:
        """End a process."""
        shutil.rmtree(self.proc / str(process))
