"""How the processes of several containers use one device: what configuration asks for, and what a vendor sets up.

Built by `core` from opaque configuration (GpuConfig, PartitionConfig) or from the capacity a share consumes; read by
vendors. The values are those of `config.accel-dra.dev/v1alpha1`.
"""

from __future__ import annotations

from enum import Enum

import msgspec


class Strategy(Enum):
    """Who is on the device at a time."""

    EXCLUSIVE = "Exclusive"
    """The device as the vendor's driver leaves it: nothing is set up."""
    TIME_SLICING = "TimeSlicing"
    """Processes take turns. Nothing is limited."""
    MPS = "MPS"
    """NVIDIA Multi-Process Service: processes run side by side through a daemon, which can limit each."""


class Interval(Enum):
    """How long a process keeps its turn, in NVIDIA's words (nvidia-smi compute-policy --set-timeslice)."""

    DEFAULT = "Default"
    SHORT = "Short"
    MEDIUM = "Medium"
    LONG = "Long"


class Sharing(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """How one device of a claim is shared. Limits are those of one process (MPS); None: not limited.

    Part of a claim's record, so that what was set up can be set up again after a boot.
    """

    strategy: Strategy = Strategy.EXCLUSIVE
    interval: Interval | None = None
    """Only with TimeSlicing on a whole device; None: as it is."""
    active_thread_percentage: int | None = None
    """1 to 100, of the device's multiprocessors."""
    pinned_memory_bytes: int | None = None
