"""Names of devices: stable over reboots, hot-plug and driver restarts. Called by `inventory`.

A name is made of where the device is (PCI address; for a partition also profile and placement) and never of an order in
which something was found. Every name is a DNS label (RFC 1123, at most 63 characters), as the API demands.
"""

from __future__ import annotations

import re
import zlib
from typing import Final

from driver.model.devices import Accelerator, Partition

MAX_LABEL: Final = 63
_OTHER: Final = re.compile(r"[^a-z0-9]+")


def name_accelerator(accelerator: Accelerator) -> str:
    """Return the name of a whole device: `0000:1a:00.0` is `gpu-0000-1a-00-0`."""
    return _label(f"{accelerator.type}-{accelerator.pci_address}")


def name_partition(accelerator: Accelerator, partition: Partition) -> str:
    """Return the name of a partition: `1g.10gb` at 3 is `gpu-0000-1a-00-0-1g-10gb-3`.

    A partition that owns only some of the compute slices of its memory share also carries its subplacement. `-me`, as
    NVIDIA names one without media engines, is spelt out, because `+me` and `-me` would be one name: `1g-24gb-no-me`.
    """
    profile = partition.profile.replace("-", "-no-")
    parts = [f"{accelerator.type}-{accelerator.pci_address}", profile, str(partition.placement)]
    if partition.subplacement is not None:
        parts.append(str(partition.subplacement))
    return _label("-".join(parts))


def is_at(name: str, pci_address: str) -> bool:
    """Return whether a device of this name, whole or part and of any type, would be at an address."""
    return f"-{slug(pci_address)}-" in f"{name}-"


def slug(text: str) -> str:
    """Return the text in lower case with every run of other characters as one dash: `1g.10gb+me` is `1g-10gb-me`."""
    return _OTHER.sub("-", text.lower()).strip("-")


def _label(text: str) -> str:
    """Return a DNS label. One that is too long ends in a checksum of all of it, so that it stays one of a kind."""
    label = slug(text)
    if len(label) <= MAX_LABEL:
        return label
    checksum = f"{zlib.crc32(label.encode()):08x}"
    return f"{label[: MAX_LABEL - len(checksum) - 1].rstrip('-')}-{checksum}"
