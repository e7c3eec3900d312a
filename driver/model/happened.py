"""The base of what happens: `occurrences` and `reviewing`.

Structs and not dataclasses: making a dataclass costs most of a millisecond, a struct none to speak of, and the plugin
makes all of these before it publishes.
"""

from __future__ import annotations

import msgspec


class Happened(msgspec.Struct, frozen=True):
    """Something that happened, as a frozen value."""
