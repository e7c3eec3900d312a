"""Accelerators from data files: for demo, tests and laptops, and the folder that a hardware vendor copies to begin.

`vendor.py` is the contract in full, `hardware.py` turns data into `driver.model.devices`, `files.py` reads the data.
"""

from __future__ import annotations

from .vendor import create

__all__ = ["create"]
