"""One JSON object while it is read: fields are taken from it, and what is wrong with them is noted and not raised.

Called by the readers of each kind. A reader goes on after a fault, so that all faults of a document are told at once.
A field that is null is as if it were absent, as everywhere in Kubernetes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import TypeVar

from driver.core import quoting
from driver.core.configuring.texts import Fields
from driver.core.quoting import NOTHING
from driver.model.errors import Faulty, InvalidInput

_Choice = TypeVar("_Choice", bound=Enum)


class Reader:
    """Takes the fields of one object."""

    def __init__(
        self,
        fields: Fields,
        known: Iterable[str],
        faults: list[InvalidInput],
        path: str = "",
        hidden: tuple[str, ...] = (),
    ) -> None:
        """`faults` gets what is found; `hidden` are fields that are known and not listed when another is unknown."""
        self.path = path
        self.fields = fields
        self._faults = faults
        self._note_names(tuple(known), hidden)

    def has(self, name: str) -> bool:
        """Say whether the field is there and not null."""
        return self.fields.get(name) is not None

    def locate(self, name: str) -> str:
        """Return the path of a field."""
        return f"{self.path}.{quoting.name(name)}" if self.path else quoting.name(name)

    def refuse(self, name: str, allowed: str) -> None:
        """Note that the value of a field is not allowed, or that it is missing."""
        value = quoting.show(self.fields[name]) if name in self.fields else NOTHING
        self._faults.append(InvalidInput(self.locate(name), value, allowed))

    def choose(self, name: str, choices: Iterable[_Choice]) -> _Choice | None:
        """Return the member of an enumeration that the field names; None if there is none or a wrong one."""
        value = self.fields.get(name)
        if value is None:
            return None
        known = {str(choice.value): choice for choice in choices}
        if isinstance(value, str) and value in known:
            return known[value]
        self.refuse(name, quoting.list_names(known, value))
        return None

    def count(self, name: str, within: range, allowed: str) -> int | None:
        """Return a whole number; None if there is none or a wrong one."""
        value = self.fields.get(name)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and value in within:
            return value
        self.refuse(name, allowed)
        return None

    def open(self, name: str, known: tuple[str, ...]) -> Reader | None:
        """Return a reader of the object that the field holds; None if there is none or something else."""
        value = self.fields.get(name)
        if value is None:
            return None
        if isinstance(value, Fields):
            return Reader(value, known, self._faults, self.locate(name))
        self.refuse(name, f"an object with the fields {', '.join(known)}")
        return None

    def open_each(self, name: str, known: tuple[str, ...], most: int) -> Iterator[Reader]:
        """Yield readers of the objects in the list that the field holds."""
        value = self.fields.get(name)
        if value is None:
            return
        if not isinstance(value, list) or len(value) > most:
            self.refuse(name, f"a list of at most {most} objects with the fields {', '.join(known)}")
            return
        for index, item in enumerate(value):
            path = f"{self.locate(name)}[{index}]"
            if isinstance(item, Fields):
                yield Reader(item, known, self._faults, path)
            else:
                allowed = f"an object with the fields {', '.join(known)}"
                self._faults.append(InvalidInput(path, quoting.show(item), allowed))

    def _note_names(self, known: tuple[str, ...], hidden: tuple[str, ...]) -> None:
        for name in self.fields.repeated:
            self.refuse(name, "each field once; this one is written several times")
        for name in self.fields:
            if name not in known and name not in hidden:
                self.refuse(name, f"no such field; the fields are {quoting.list_names(known, name)}")


def raise_all(faults: Iterable[InvalidInput]) -> None:
    """Raise what was noted, if anything: one fault as it is, several as one `Faulty`."""
    noted = tuple(faults)
    if noted:
        raise noted[0] if len(noted) == 1 else Faulty(noted)


def split(error: InvalidInput) -> tuple[InvalidInput, ...]:
    """Return the faults of a document, one by one."""
    return error.faults if isinstance(error, Faulty) else (error,)


def put(error: InvalidInput, where: str) -> InvalidInput:
    """Return the same faults with the place of their document: `where.path`."""
    faults = tuple(
        InvalidInput(f"{where}.{fault.field}" if fault.field else where, fault.value, fault.allowed)
        for fault in split(error)
    )
    return faults[0] if len(faults) == 1 else Faulty(faults)
