"""What a vendor's tests provide so that `test_contract.py` can try the vendor: machines with its hardware."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from driver.contract import Roots, Vendor


class Killed(BaseException):
    """The process was killed: what it had begun stays as it is, and none of its code runs any more."""


@dataclass(frozen=True)
class Admin:
    """What an administrator does with the vendor's own tool, behind the driver's back."""

    create: Callable[[str, str, int], str]
    """Make a partition: PCI address, profile, placement. Return its UUID. Switches partition mode on if it has to."""
    destroy: Callable[[str], None]
    """Destroy the partition with this UUID."""
    occupy: Callable[[str, bool], None]
    """Let processes run on the partition with this UUID, or end them."""


@dataclass(frozen=True)
class Machine:
    """One machine with accelerators, real or faked at the lowest level that the vendor talks to."""

    title: str
    """A few words that a failing test shows."""
    create: Callable[[Mapping[str, str]], Vendor]
    """Create the vendor on this machine, as `driver.vendors.load` would, with these options added to its own.

    Called several times: each call is a new process as far as the vendor can tell.
    """
    break_one: Callable[[], None] | None = None
    """Make one accelerator stop answering, from now on. At least one machine of a vendor can."""
    take_away: Callable[[], None] | None = None
    """Make the driver go away, from now on. At least one machine of a vendor can."""
    admin: Admin | None = None
    """Needed if its accelerators can be partitioned on demand."""
    interrupt: Callable[[Vendor, int], None] | None = None
    """Let this vendor raise `Killed` once it has made so many changes to the hardware, before the next one.

    Needed if its accelerators can be partitioned on demand.
    """


class Factory(Protocol):
    """The module `tests/vendors/<name>/machine.py`."""

    def machines(self, folder: Path) -> Sequence[Machine]:
        """Return new machines that keep their files below this empty folder."""


def load_factory(vendor: str) -> Factory:
    """Return the factory of a vendor. Raises ModuleNotFoundError if its tests have none."""
    factory: Factory = importlib.import_module(f"tests.vendors.{vendor}.machine")
    return factory


def make_roots(folder: Path) -> Roots:
    """Return roots that all lie below a folder."""
    names = ("driver", "dev", "sys", "proc", "state")
    driver, dev, sys, proc, state = (str(folder / name) for name in names)
    return Roots(
        driver_root=driver,
        driver_root_mount=driver,
        dev_root=dev,
        dev_root_mount=dev,
        sys_root=sys,
        proc_root=proc,
        state_root=state,
    )
