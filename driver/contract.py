"""WHAT A VENDOR PROVIDES, on one page.

A vendor is one folder, `driver/vendors/<name>/`, with a function `create(roots, options, runner) -> Vendor`. It sees
only this file and `driver.model`; it is plain blocking code called from worker threads, from several at a time, and it
returns values. Names, slices, CDI documents, records, rollback, metrics and the kubelet are written once, elsewhere.

Copy `driver/vendors/simulated/` to begin; `hack/fork-rehearsal` shows that nothing else needs to change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from driver.model.devices import Accelerator, Partition, Snapshot
from driver.model.health import HealthEvent
from driver.model.prepared import Preparation, Step
from driver.model.sharing import Sharing


@dataclass(frozen=True, slots=True)
class Roots:
    """Where a vendor finds the machine. Pairs differ when the plugin runs in a container with host folders mounted.

    `driver_root` and `dev_root` are paths as the host (and so the container runtime) sees them: they go into edits.
    The `*_mount` twins are where this process reads the same folders.
    """

    driver_root: str
    driver_root_mount: str
    dev_root: str
    dev_root_mount: str
    sys_root: str
    proc_root: str
    state_root: str
    """A folder that survives restarts, for what a vendor must remember itself. Most need nothing."""


@dataclass(frozen=True, slots=True)
class Target:
    """One device of a claim (`claim`: its UID), with the hardware behind it, for which edits are wanted."""

    name: str
    accelerator: Accelerator
    partition: Partition | None
    """As it was when the inventory was made; without `uuid` it has to be made by a step."""
    admin_access: bool
    """The claim only looks on: nothing is changed for it, and a partition that it is given is there."""
    share_id: str | None
    claim: str = ""
    sharing: Sharing | None = None
    shared: bool = False
    """Other claims may have shares of it beside this one. `sharing`: how, also among the containers of one claim."""

    @property
    def key(self) -> str:
        """Name of the device, or of the share of it: one of a kind in the claim."""
        return self.name if self.share_id is None else f"{self.name}-{self.share_id}"


class Vendor(Protocol):
    """The hardware of one vendor on this node."""

    @property
    def name(self) -> str:
        """Value of the attribute `accel-dra.dev/vendor`, such as `nvidia`."""

    def fingerprint(self) -> str:
        """Return a text that changes when a new look is worthwhile (hot-plug, driver reload, partitions).

        Called every second or two: reads a few small files, opens no device, loads no library.
        """

    def snapshot(self) -> Snapshot:
        """Look at the hardware now. One device that fails is a `Failure` in the result; the others are unaffected.

        Holds no device or library open when it returns. Raises `Unavailable` while the driver is not there (yet).
        """

    def prepare(self, targets: Sequence[Target], done: Sequence[Step] = ()) -> Preparation:
        """Say what containers of one claim get, once its steps are `done` (as `Steps.run` returned them).

        Changes nothing; depends on the arguments and the driver only. Raises `Unavailable` or `InvalidInput`.
        """


@runtime_checkable
class Steps(Protocol):
    """Optional: hardware that must be changed before use (partitions, modes, daemons, power)."""

    def plan(self, targets: Sequence[Target]) -> tuple[Step, ...]:
        """Say which steps have to be run, in order, before the targets of one claim can be used. Changes nothing.

        A planned step must carry all that undoing needs should `run` be interrupted: it is written down before it is
        run. One with a key gives way to the one that another claim has run. Raises `InvalidInput` or `Unsupported`.
        """

    def run(self, step: Step, done: Sequence[Step]) -> Step:
        """Do it, or find it done; return it with the facts that undoing it and `prepare` need (identities).

        `done` are the claim's earlier steps, as returned. Raises `StepFailed`, then the driver undoes this and all
        earlier steps, or `StepRefused` if this step has changed nothing: then only the earlier ones.
        """

    def undo(self, step: Step) -> None:
        """Undo it, or find it undone; also when `run` was interrupted anywhere, also in a later process."""


@runtime_checkable
class Health(Protocol):
    """Optional: hardware that reports faults while it is in use."""

    def watch_health(self, stopped: Callable[[], bool]) -> Iterator[HealthEvent]:
        """Yield events until `stopped()` is true; look at it at least once a second."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """A process of the vendor's that has to run while a device is in use, such as the control daemon of MPS."""

    name: str
    """One of a kind on the node and fit for a file name; by it a later process of the plugin finds it again."""
    command: tuple[str, ...]
    environment: Mapping[str, str]
    """All that it gets, beside PATH."""
    ready: Callable[[], str]
    """Asked until it returns an empty text (else why not yet), also after each restart: the place to set it up."""
    end: Callable[[], None] | None = None
    """Asks it to end in its own way; without it, or if that takes too long, it is sent SIGTERM and then SIGKILL."""
    ready_seconds: float = 10.0
    logs: tuple[str, ...] = ()
    """Files that it writes beside its output: kept short, too."""


class Runner(Protocol):
    """Runs the daemons of a vendor, on the node. Their output is kept in log files of limited size."""

    def start(self, daemon: Daemon) -> None:
        """Start it, or find it running, also since an earlier process; return once it is ready.

        From now on it is started again when it ends. Raises `StepFailed` with the last words of its log: it is off.
        """

    def stop(self, name: str, end: Callable[[], None] | None = None) -> None:
        """End it and its children, or find it ended; also one that an earlier process started. Raises `StepFailed`."""


Create = Callable[[Roots, Mapping[str, str], Runner], Vendor]
"""`create` of a vendor's package. `options` are the vendor's own settings; an unknown one raises `InvalidInput`."""
