"""NVIDIA GPUs and their MIG instances, through NVML. Loaded by name; `create` is all that others see."""

from driver.vendors.nvidia.vendor import create

__all__ = ["create"]
