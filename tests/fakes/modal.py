"""Hardware with a setting that all shares of a device need alike: a step with a key, on the files of the bench."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from driver.contract import Target
from driver.model.errors import StepFailed, StepRefused
from driver.model.prepared import Step
from tests.fakes.bench import BenchVendor


@dataclass
class ModalVendor(BenchVendor):
    """A step `mode` for each device of which a share is given: it writes the file `<device>.mode`.

    What stood there before is a fact of the plan; which run it was is learnt. Without a file the mode is `plain`.
    """

    wanted: dict[str, str] = field(default_factory=dict)
    """Which mode a claim needs, by UID; `fast` if it does not say."""
    upkeep: bool = False
    refuse: str = ""
    """Why the step is refused before anything is done."""
    away: str = ""
    runs: int = 0
    undone: list[str] = field(default_factory=list)
    """Keys of steps that were undone, in order."""

    def plan(self, targets: Sequence[Target]) -> tuple[Step, ...]:
        modes = [
            Step(
                name="mode",
                arguments={"device": target.name, "mode": self.wanted.get(target.claim, "fast")},
                facts={"before": self.mode(target.name)},
                key=f"mode/{target.name}",
                upkeep=self.upkeep,
            )
            for target in targets
            if target.share_id is not None
        ]
        return (*modes, *super().plan(targets))

    def run(self, step: Step, done: Sequence[Step]) -> Step:
        if step.name != "mode":
            return super().run(step, done)
        path = self._mode_file(step.arguments["device"])
        if self.refuse:
            raise StepRefused(step.name, self.refuse)
        if path.name in self.fail_runs:
            raise StepFailed(step.name, f"the hardware refuses {path.name}")
        if self.mode(step.arguments["device"]) != step.arguments["mode"]:
            self.disk.write(path, step.arguments["mode"].encode(), 0o644, sync=False)
        self.runs += 1
        return msgspec.structs.replace(step, facts={**step.facts, "uuid": f"run-{self.runs}"})

    def undo(self, step: Step) -> None:
        if step.name != "mode":
            super().undo(step)
            return
        path = self._mode_file(step.arguments["device"])
        if path.name in self.fail_undos:
            raise StepFailed(step.name, f"the hardware keeps {path.name}")
        if step.facts["before"] == "plain":
            if path.exists():
                self.disk.unlink(path)
        else:
            self.disk.write(path, step.facts["before"].encode(), 0o644, sync=False)
        self.undone.append(step.key)

    def mode(self, device: str) -> str:
        """Return the mode that a device has now."""
        path = self._mode_file(device)
        return path.read_text() if path.exists() else "plain"

    def _mode_file(self, device: str) -> Path:
        return self.hardware / f"{device}.mode"
