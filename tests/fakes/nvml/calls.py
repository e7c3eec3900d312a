"""What the functions of a fake NVML share: handles, pointers, and how a call ends with a code."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from tests.fakes.nvml.hardware import FakeGpu, FakeInstance


class Refused(Exception):  # noqa: N818 - it carries a return code, it is not an error of the fake
    """A call ends with this code."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(code)


class Kind(Enum):
    """What a handle is of."""

    DEVICE = "MIG device"
    GPU_INSTANCE = "GPU instance"
    COMPUTE_INSTANCE = "compute instance"


@dataclass
class Part:
    """What a handle stands for beside a GPU."""

    gpu: FakeGpu
    instance: FakeInstance
    kind: Kind = Kind.DEVICE

    def exists(self) -> bool:
        """Whether it has not been destroyed."""
        if self.kind is Kind.GPU_INSTANCE:
            return any(each.gpu_instance == self.instance.gpu_instance for each in self.gpu.instances)
        return self.instance in self.gpu.instances and self.instance.compute_instance is not None


def behind(reference: Any) -> Any:
    """Return what a pointer of ctypes points to."""
    return reference._obj


def write_text(buffer: Any, text: str | bytes) -> None:
    """Write a text into a buffer of the caller's."""
    buffer.value = text.encode() if isinstance(text, str) else text
