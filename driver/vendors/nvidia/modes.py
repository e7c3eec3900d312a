"""MIG mode of one GPU: whether it can be switched, and switching it without leaving anything pending.

Called by discovery.py (may it be switched?) and partitioning.py (do it). A mode that was noted but not taken up would
come true with the next reset, when nobody expects it; so `switch` takes back what the GPU refuses. Facts: MIG User
Guide (enabling MIG mode), nvml.h (nvmlDeviceSetMigMode).
"""

from __future__ import annotations

import contextlib
from typing import Final

from driver.model.errors import DriverError
from driver.vendors.nvidia import nvml, nvml_mig
from driver.vendors.nvidia.links import optional

_LIVE: Final = (9, 0)
"""Compute capability from which the mode is switched without a reset of the GPU (Hopper)."""
_WORDS: Final = {True: "on", False: "off"}


def name(*, on: bool) -> str:
    """Return `on` or `off`."""
    return _WORDS[on]


class Remembered:
    """What this process learnt about GPUs that NVML does not tell at any time. Used from several threads."""

    def __init__(self) -> None:
        self._refusals: dict[str, tuple[bool, str]] = {}
        self._multiprocessors: dict[str, int] = {}

    def refuse(self, address: str, *, on: bool, why: str) -> None:
        """Take note that a GPU in this mode could not be switched and will not be until something changes."""
        self._refusals[address] = (on, why)

    def refusal(self, address: str, *, on: bool) -> str | None:
        """Return why a GPU could not be switched, if it is in the mode in which it refused."""
        mode, why = self._refusals.get(address, (on, None))
        if mode != on:
            self._refusals.pop(address, None)
            return None
        return why

    def refusals(self) -> list[str]:
        """Return addresses of GPUs that refused, sorted."""
        return sorted(self._refusals)

    def multiprocessors(self, uuid: str, found: int | None, *, partitioned: bool) -> int | None:
        """Return how many a GPU has: as found, or as found before if it is in MIG mode, where NVML keeps quiet."""
        if found is not None:
            self._multiprocessors[uuid] = found
        return self._multiprocessors.get(uuid) if partitioned else found


def find_fault(
    device: nvml.Device, modes: tuple[bool, bool], capability: tuple[int, int] | None, refusal: str | None
) -> str | None:
    """Return why MIG mode cannot be switched; None: it can, while the GPU is idle."""
    current, pending = modes
    if current != pending:
        return (
            f"MIG mode is {name(on=current)} and will be {name(on=pending)} after a reset of the GPU, which is pending"
        )
    if optional(device.is_virtual):
        return "the GPU is a virtual one (vGPU), which its host partitions"
    if capability is None:
        return "NVML does not tell its compute capability, so it may need a reset"
    if capability < _LIVE:
        version = f"{capability[0]}.{capability[1]}"
        return f"MIG mode is switched with a reset of the GPU (compute capability {version}), which is not done here"
    return refusal


def switch(device: nvml.Device, *, on: bool) -> None:
    """Switch MIG mode, or find it as asked. Raises `InUse`, `NeedsReset` or another `DriverError`: it is as before.

    If even taking it back fails, a reset of the GPU is pending, which `find_fault` will name. That NVML answers with
    success and keeps the mode has been seen (kubernetes-sigs/dra-driver-nvidia-gpu pull request 852).
    """
    if nvml_mig.modes(device) == (on, on):
        return
    try:
        nvml_mig.switch(device, on=on)
    except DriverError:
        with contextlib.suppress(DriverError):
            nvml_mig.switch(device, on=not on)
        raise
    if nvml_mig.modes(device) != (on, on):
        raise nvml.DeviceFault(f"NVML says that MIG mode was switched {name(on=on)}, and that it is not")
