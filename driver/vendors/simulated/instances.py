"""Partition mode and partitions of simulated accelerators as they are now: what a vendor's library would change.

Called by `partitions` and, as an administrator with the vendor's tool would, by tests. It promises what MIG hardware
does (NVIDIA MIG User Guide): a GPU instance is made first and a compute instance in it then, so a crash between them
leaves half a partition; what overlaps or asks for more engines than are left is refused, and so is destroying what is
in use; each instance has a new UUID; a boot leaves none, and keeps the mode only where switching it takes a reset.
The state is a few files in a folder per accelerator, changed under a lock that works between processes. It must not
know steps or claims.
"""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from driver.model.devices import Accelerator, Profile

SWITCH_MODE: Final = "switch-mode"
CREATE_GPU_INSTANCE: Final = "create-gpu-instance"
CREATE_COMPUTE_INSTANCE: Final = "create-compute-instance"
DESTROY_COMPUTE_INSTANCE: Final = "destroy-compute-instance"
DESTROY_GPU_INSTANCE: Final = "destroy-gpu-instance"
CHANGES: Final = (
    SWITCH_MODE,
    CREATE_GPU_INSTANCE,
    CREATE_COMPUTE_INSTANCE,
    DESTROY_COMPUTE_INSTANCE,
    DESTROY_GPU_INSTANCE,
)
"""The calls that change something."""

ENGINES: Final = ("multiprocessors", "copy_engines", "decoders", "encoders", "jpeg_engines", "ofa_engines")
FIXED: Final = 0
_WORDS: Final = {True: "enabled", False: "disabled"}
_MODES: Final = {word: mode for mode, word in _WORDS.items()}


class InstanceError(Exception):
    """The hardware refuses. The text is its reason, without a full stop."""


@dataclass(frozen=True, slots=True)
class Chip:
    """One accelerator as its node file has it."""

    accelerator: Accelerator
    live: bool = True
    """Whether partition mode can be switched at once; else it takes a reset, and then survives a boot, too."""
    pending: bool | None = None
    """What partition mode becomes with the next reset."""
    faults: Mapping[str, str] = field(default_factory=dict)
    """Reason by the name of a call that is refused."""
    delay: float = 0.0
    """Seconds that each call takes which changes something."""

    def find_profile(self, name: str) -> Profile | None:
        """Return one of the profiles by name, or None."""
        return next((profile for profile in self.accelerator.profiles if profile.name == name), None)


@dataclass(frozen=True, slots=True)
class Instance:
    """A GPU instance, and the compute instance in it if there is one."""

    number: int
    """The id that calls know it by; `FIXED` if it belongs to the node file and is there for good."""
    profile: Profile
    placement: int
    uuid: str | None
    """Of the compute instance; None: there is none (yet)."""

    def overlaps(self, placement: int, size: int) -> bool:
        """Return whether it occupies one of the memory slices."""
        return self.placement < placement + size and placement < self.placement + self.profile.size

    def __str__(self) -> str:
        return f"{self.profile.name} at {self.placement} ({self.uuid or 'without compute instance'})"


@dataclass(frozen=True, slots=True)
class Layout:
    """What is on one accelerator at a moment."""

    partitioned: bool
    fault: str | None
    """Why partition mode cannot be switched."""
    instances: tuple[Instance, ...]
    """By placement."""


class _File(msgspec.Struct, frozen=True):
    """A GPU instance on disk."""

    profile: str
    placement: int


_decode_file: Final = msgspec.json.Decoder(_File).decode


class Instances:
    """The state of all accelerators of a node, below one folder."""

    def __init__(self, folder: Path, boot_id: Path) -> None:
        """`boot_id`: the file with the kernel's; while it cannot be read, no boot is noticed."""
        self._folder = folder
        self._boot_id = boot_id
        self.before_change: Callable[[str], None] = lambda _: None
        """Is called with the name of each call that changes something, before it does. Tests interrupt it here."""

    def fingerprint(self) -> str:
        """Return a text that changes with the mode or the instances of any accelerator."""
        seen = [f"{path} {_stamp(path)}" for name in ("mode", "pending", "[gc]i-*") for path in self._glob(name)]
        return "\n".join([self._read_boot(), *sorted(seen)])

    def look(self, chip: Chip) -> Layout:
        """Return what is on an accelerator. Waits for a change that is under way; changes nothing."""
        folder = self._find_folder(chip)
        if not folder.exists():
            return _lay_out(chip, None, booted=False)
        with _lock(folder, fcntl.LOCK_SH):
            return _lay_out(chip, folder, booted=_read(folder / "boot") != self._read_boot())

    @contextmanager
    def open(self, chip: Chip) -> Iterator[Gpu]:
        """Hold an accelerator against other processes and threads, to change it. Raises OSError if the disk refuses."""
        folder = self._find_folder(chip)
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder, fcntl.LOCK_EX):
            gpu = Gpu(chip, folder, self.before_change)
            boot, known = self._read_boot(), _read(folder / "boot")
            if boot != known:
                if known is not None:
                    gpu.boot()
                _write(folder / "boot", boot)
            yield gpu

    def _find_folder(self, chip: Chip) -> Path:
        return self._folder / chip.accelerator.pci_address.replace(":", "-")

    def _glob(self, name: str) -> Iterator[Path]:
        return self._folder.glob(f"*/{name}")

    def _read_boot(self) -> str:
        return (_read(self._boot_id) or "").strip()


class Gpu:
    """One accelerator, held by `Instances.open`. Every method raises `InstanceError` if the hardware refuses."""

    def __init__(self, chip: Chip, folder: Path, before_change: Callable[[str], None]) -> None:
        self._chip = chip
        self._folder = folder
        self._before_change = before_change

    def look(self) -> Layout:
        """Return what is on it."""
        return _lay_out(self._chip, self._folder, booted=False)

    def switch_mode(self, *, enabled: bool) -> None:
        """Switch partition mode, at once or, if it takes a reset, with the next one."""
        layout = self.look()
        if layout.partitioned == enabled:
            return
        if layout.instances:
            raise InstanceError(f"in use: it has partitions, such as {layout.instances[0]}")
        self._change(SWITCH_MODE)
        if self._chip.live and self._chip.pending is None and enabled == self._chip.accelerator.partitioned:
            (self._folder / "mode").unlink(missing_ok=True)  # as the node file says
        else:
            _write(self._folder / ("mode" if self._chip.live else "pending"), _WORDS[enabled])

    def create_gpu_instance(self, profile: Profile, placement: int) -> int:
        """Make one at exactly this place; return its number, the lowest that is free."""
        layout = self.look()
        self._check_room(layout, profile, placement)
        self._change(CREATE_GPU_INSTANCE)
        taken = {each.number for each in layout.instances}
        number = next(number for number in range(1, len(taken) + 2) if number not in taken)
        _write(self._folder / f"gi-{number}", msgspec.json.encode(_File(profile.name, placement)).decode())
        return number

    def create_compute_instance(self, number: int) -> str:
        """Make one that fills a GPU instance, which is a partition then; return its UUID."""
        if self._get(number).uuid is not None:
            raise InstanceError(f"insufficient resources: GPU instance {number} has a compute instance")
        self._change(CREATE_COMPUTE_INSTANCE)
        identity = f"MIG-{uuid.uuid4()}"
        _write(self._folder / f"ci-{number}", identity)
        return identity

    def destroy_compute_instance(self, number: int) -> None:
        """Destroy it unless it is in use."""
        self._get(number)
        if (self._folder / f"used-{number}").exists():
            raise InstanceError("in use by another client")
        self._change(DESTROY_COMPUTE_INSTANCE)
        (self._folder / f"ci-{number}").unlink(missing_ok=True)

    def destroy_gpu_instance(self, number: int) -> None:
        """Destroy it once it has no compute instance."""
        if self._get(number).uuid is not None:
            raise InstanceError(f"in use: GPU instance {number} has a compute instance")
        self._change(DESTROY_GPU_INSTANCE)
        (self._folder / f"gi-{number}").unlink()

    def occupy(self, number: int, *, used: bool = True) -> None:
        """Say that processes run on a partition, or that none does any more."""
        self._get(number)
        marker = self._folder / f"used-{number}"
        marker.touch() if used else marker.unlink(missing_ok=True)

    def reset(self) -> None:
        """Reset the device: nothing is left on it, and a pending mode takes effect."""
        self._clear()
        pending = _read_mode(self._folder / "pending")
        pending = self._chip.pending if pending is None and not (self._folder / "mode").exists() else pending
        if pending is not None:
            _write(self._folder / "mode", _WORDS[pending])
        (self._folder / "pending").unlink(missing_ok=True)

    def boot(self) -> None:
        """Do what a boot of the machine does."""
        if self._chip.live:
            (self._folder / "mode").unlink(missing_ok=True)
        self.reset()

    def _clear(self) -> None:
        for path in (*self._folder.glob("[gc]i-*"), *self._folder.glob("used-*")):
            path.unlink(missing_ok=True)

    def _get(self, number: int) -> Instance:
        found = next((each for each in self.look().instances if each.number == number), None)
        if found is None or number == FIXED:
            raise InstanceError(f"not found: GPU instance {number}")
        return found

    def _check_room(self, layout: Layout, profile: Profile, placement: int) -> None:
        if not layout.partitioned:
            raise InstanceError("not supported: it is not in partition mode")
        if placement not in profile.placements:
            raise InstanceError(f"invalid argument: {profile.name} cannot begin at {placement}")
        for each in layout.instances:
            if each.overlaps(placement, profile.size):
                raise InstanceError(f"insufficient resources: {each} is in the way")
        for engine in ENGINES:
            there = max(getattr(each, engine) for each in self._chip.accelerator.profiles)
            taken = sum(getattr(each.profile, engine) for each in layout.instances)
            if taken + getattr(profile, engine) > there:
                raise InstanceError(f"insufficient resources: {there - taken} {engine.replace('_', ' ')} are left")

    def _change(self, call: str) -> None:
        self._before_change(call)
        if self._chip.delay:
            time.sleep(self._chip.delay)
        if call in self._chip.faults:
            raise InstanceError(self._chip.faults[call])


def _lay_out(chip: Chip, folder: Path | None, *, booted: bool) -> Layout:
    """Return what the files of an accelerator say; with `booted` what they would say after the boot that was."""
    mode = None if folder is None or (booted and chip.live) else _read_mode(folder / "mode")
    pending = None if folder is None else _read_mode(folder / "pending")
    pending = chip.pending if pending is None and mode is None else pending
    if booted and pending is not None:
        mode, pending = pending, None
    partitioned = chip.accelerator.partitioned if mode is None else mode
    made = () if folder is None or booted else _read_instances(chip, folder)
    instances = sorted((*_list_fixed(chip), *made), key=lambda each: each.placement) if partitioned else ()
    return Layout(partitioned, _find_fault(chip, pending), tuple(instances))


def _find_fault(chip: Chip, pending: bool | None) -> str | None:  # noqa: FBT001 - the value, not a switch
    """Return why partition mode cannot be switched now."""
    if not chip.accelerator.profiles:
        return None
    if pending is not None:
        return f"the device requires a reset: partition mode is to be {_WORDS[pending]}"
    return None if chip.live else "partition mode of this model is switched with a reset of the device"


def _list_fixed(chip: Chip) -> Iterator[Instance]:
    for part in chip.accelerator.partitions:
        profile = chip.find_profile(part.profile)
        if profile is not None:
            yield Instance(FIXED, profile, part.placement, part.uuid)


def _read_instances(chip: Chip, folder: Path) -> Iterator[Instance]:
    for path in folder.glob("gi-*"):
        file = _decode_file(path.read_bytes())
        profile = chip.find_profile(file.profile)
        if profile is not None:
            number = int(path.name.removeprefix("gi-"))
            yield Instance(number, profile, file.placement, _read(folder / f"ci-{number}"))


def _read_mode(path: Path) -> bool | None:
    return _MODES.get(_read(path) or "")


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


def _write(path: Path, text: str) -> None:
    """Replace a file at once. What is not on the disk before a power failure is gone after the boot anyway."""
    fresh = path.with_name(f".{path.name}")
    fresh.write_text(text)
    fresh.replace(path)


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except FileNotFoundError:
        return "gone"
    return f"{status.st_ino} {status.st_mtime_ns}"


@contextmanager
def _lock(folder: Path, kind: int) -> Iterator[None]:
    descriptor = os.open(folder / "lock", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)
