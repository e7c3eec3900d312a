"""One thing that is wrong (a fault), or will probably not do what was meant (a warning)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from driver.core.configuring import fields
from driver.model.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault or warning about one field of an object."""

    path: str
    """Such as `spec.devices.config[0].opaque.parameters.sharing.strategy`."""
    text: str
    """The rest of the sentence; on one line."""
    is_warning: bool = False

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


def warn(path: str, text: str) -> Finding:
    """Return a warning."""
    return Finding(path, " ".join(text.split()), is_warning=True)


def of_error(error: InvalidInput) -> Iterable[Finding]:
    """Return the faults that an error tells."""
    for fault in fields.split(error):
        yield Finding(fault.field, str(fault).removeprefix(f"{fault.field}: "))
