"""Shared libraries without code: an ELF file with nothing but a name (SONAME), enough for whoever reads headers."""

from __future__ import annotations

import os
import struct

MACHINES = {"x86_64": 62, "aarch64": 183}
BASE = 0x10000
"""Address at which the file is mapped, so that addresses and offsets differ."""


def build(soname: str | None, *, bits: int = 64, machine: int | None = None) -> bytes:
    """Return a shared library of this machine (or of another)."""
    code = machine if machine is not None else MACHINES[os.uname().machine]
    if bits == 32:
        return b"\x7fELF\x01\x01\x01" + bytes(9) + struct.pack("<HH", 3, code) + bytes(44)
    strings = b"\0" + (soname.encode() + b"\0" if soname else b"")
    header, segments = 64, 2 * 56
    tags = [(5, BASE + header + segments)] + ([(14, 1)] if soname else []) + [(0, 0)]
    dynamic = b"".join(struct.pack("<qQ", *tag) for tag in tags)
    place = header + segments + len(strings)
    total = place + len(dynamic)
    return b"".join(
        (
            b"\x7fELF\x02\x01\x01" + bytes(9),
            struct.pack("<HHIQQQIHHHHHH", 3, code, 1, 0, header, 0, 0, 64, 56, 2, 0, 0, 0),
            struct.pack("<IIQQQQQQ", 1, 5, 0, BASE, BASE, total, total, 4096),
            struct.pack("<IIQQQQQQ", 2, 6, place, BASE + place, BASE + place, len(dynamic), len(dynamic), 8),
            strings,
            dynamic,
        )
    )
