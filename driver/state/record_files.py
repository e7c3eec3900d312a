"""The format of a record on disk: an API with ourselves, over versions. Used by `records`.

A JSON document with schema version, checksum and the record. Fields may be added to a version and are ignored by
plugins that do not know them; a record says which is the oldest reader that understands it, so that a plugin can be
set back to the version before. Version 2 knows what steps have found and learnt, changes that claims share, and what a
share takes: version 1 would write such a record again without them, and nobody could undo its steps any more.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from driver.core.ownership import Holdings
from driver.model.errors import Corrupt
from driver.model.prepared import Phase, PreparedDevice, Record, Step

FOLDER: Final = "claims"
SUFFIX: Final = ".json"
SCHEMA_VERSION: Final = 2
"""The newest version that is understood. A record is written as the oldest one that understands all of it."""
_FIRST: Final = 1
"""The version that understands a record of whole devices whose steps tell nothing that has to be kept."""


class TooNew(Corrupt):
    """A record that only a later version understands.

    `devices`, `steps` and `boot_id` are those of its claim if that much can be read; None and nothing if not.
    """

    def __init__(
        self,
        path: str,
        why: str,
        devices: tuple[PreparedDevice, ...] | None,
        steps: tuple[Step, ...] = (),
        boot_id: str = "",
    ) -> None:
        self.devices = devices
        self.steps = steps
        self.boot_id = boot_id
        super().__init__(path, why)

    def sketch(self, uid: str) -> Record:
        """Return the record of the claim `uid` with as much as was read. It must not be written."""
        return Record(
            uid=uid,
            namespace="unknown",
            name="unknown",
            phase=Phase.PREPARING,
            boot_id=self.boot_id,
            devices=self.devices or (),
            steps=self.steps,
        )


class _Glimpse(msgspec.Struct, frozen=True):
    """What may be understood of a later version's record."""

    devices: tuple[PreparedDevice, ...] | None = None
    steps: tuple[Step, ...] = ()
    boot_id: str = msgspec.field(name="bootID", default="")


class _Envelope(msgspec.Struct, frozen=True, rename="camel"):
    """What a file holds. The checksum is over the bytes of `record` as they stand."""

    schema_version: int
    min_reader: int
    checksum: str
    record: msgspec.Raw


_envelopes: Final = msgspec.json.Decoder(_Envelope)
_records: Final = msgspec.json.Decoder(Record)
_glimpses: Final = msgspec.json.Decoder(_Glimpse)


def encode(record: Record) -> bytes:
    """Return the file of a record."""
    body = msgspec.json.encode(record)
    version = _find_version(record)
    envelope = _Envelope(schema_version=version, min_reader=version, checksum=_checksum(body), record=msgspec.Raw(body))
    return msgspec.json.encode(envelope) + b"\n"


def decode(text: bytes, path: str) -> Record:
    """Return the record of a file that was read from `path`.

    Raises `Corrupt`, whatever the file holds, and `TooNew` for one that is whole and of a later version.
    """
    try:
        envelope = _envelopes.decode(text)
        if envelope.min_reader > SCHEMA_VERSION:
            why = f"it is of version {envelope.schema_version}; this plugin understands {SCHEMA_VERSION}"
            raise TooNew(path, why, *_glimpse(envelope.record))
        if _checksum(envelope.record) != envelope.checksum:
            raise Corrupt(path, "its checksum does not match: it was damaged or changed by hand")
        return _records.decode(envelope.record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Corrupt(path, f"it is not a record: {error}" if text else "it is empty") from error


def peek(root: Path) -> tuple[Record, ...]:
    """Return the records below a state folder as far as they can be read, for whoever only wants to look.

    Takes no lock and repairs nothing; without the folder, or the right to read it, there are none.
    """
    return tuple(record for record in _read_all(root) if isinstance(record, Record))


def peek_holdings(root: Path) -> Holdings:
    """Return what all claims hold in the same way, also by records of a later version."""
    return sum_up(_read_all(root))


def sum_up(records: Iterable[Record | TooNew], mark: object = None) -> Holdings:
    """Return what records say together."""
    known = tuple(records)
    return Holdings(
        tuple(step for record in known for step in record.steps),
        mark,
        tuple(device for record in known for device in record.devices or ()),
    )


def _read_all(root: Path) -> list[Record | TooNew]:
    found: list[Record | TooNew] = []
    with contextlib.suppress(OSError):
        for path in sorted(Path(root, FOLDER).glob(f"*{SUFFIX}")):
            try:
                found.append(decode(path.read_bytes(), str(path)))
            except TooNew as newer:
                found.append(newer)
            except (OSError, Corrupt):
                continue
    return found


def _find_version(record: Record) -> int:
    """Return the oldest version that understands all of a record."""
    knows_more = any(step.facts or step.key or step.upkeep for step in record.steps)
    is_shared = any(held.consumed_capacity or held.shared or held.sharing for held in record.devices)
    return SCHEMA_VERSION if knows_more or is_shared else _FIRST


def _glimpse(body: msgspec.Raw) -> tuple[tuple[PreparedDevice, ...] | None, tuple[Step, ...], str]:
    try:
        seen = _glimpses.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None, (), ""
    return seen.devices, seen.steps, seen.boot_id


def _checksum(body: bytes | msgspec.Raw) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"
