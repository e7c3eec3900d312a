"""From prepared devices to CDI documents: names, versions, text.

Called by `node.transactions` and `core.metadata`. Promises documents that the CDI specification allows (no empty
containerEdits, the lowest version that covers what is used) and the same bytes for the same input. It must not know
where the documents are kept. Facts: cncf-tags/container-device-interface SPEC.md and specs-go/version.go, 1.1.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from driver.model.prepared import ContainerEdits, Frozen, Preparation

DEVICE_VARIABLE: Final = "ACCEL_DRA_DEVICE"
"""Environment variable of a device that has no edits of its own: CDI refuses a device without any."""
_NO_EDITS: Final = ContainerEdits()


class SpecDevice(Frozen, frozen=True):
    """One entry of `devices`."""

    name: str
    container_edits: ContainerEdits


class Spec(Frozen, frozen=True):
    """A CDI document."""

    cdi_version: str
    kind: str
    devices: tuple[SpecDevice, ...]
    container_edits: ContainerEdits | None = None


class _Name(msgspec.Struct, frozen=True):
    name: str


class _Names(msgspec.Struct, frozen=True):
    """What is read back of a CDI document."""

    devices: tuple[_Name, ...]


_names: Final = msgspec.json.Decoder(_Names)


@dataclass(frozen=True, slots=True)
class SpecFile:
    """A CDI document as it is written: file name in the CDI folder and text."""

    name: str
    text: bytes


@dataclass(frozen=True, slots=True)
class ClaimSpec:
    """What one claim's containers get: the document (None: nothing to inject), and the CDI ids of each device."""

    file: SpecFile | None
    ids: tuple[tuple[str, ...], ...]


def describe_claim(
    driver: str, uid: str, devices: Sequence[tuple[str, str | None]], preparation: Preparation
) -> ClaimSpec:
    """Return the document of claim `uid` with an entry for each of `devices` (published name, share id), in order.

    A device for which there is nothing to inject, neither of its own nor in common, gets no entry and no id.
    """
    kind = f"k8s.{driver}/claim"
    entries: list[SpecDevice] = []
    ids: list[tuple[str, ...]] = []
    for device, share_id in devices:
        key = device if share_id is None else f"{device}-{share_id}"
        edits = preparation.devices.get(key, _NO_EDITS)
        if edits == _NO_EDITS and preparation.common != _NO_EDITS:
            edits = ContainerEdits(env=(f"{DEVICE_VARIABLE}={device}",))
        if edits == _NO_EDITS:
            ids.append(())
            continue
        name = "-".join(part for part in (uid, device, share_id) if part)
        entries.append(SpecDevice(name=name, container_edits=edits))
        ids.append((qualify(kind, name),))
    if not entries:
        return ClaimSpec(None, tuple(ids))
    text = encode(kind, entries, preparation.common)
    return ClaimSpec(SpecFile(name_file(driver, uid), text), tuple(ids))


def name_file(driver: str, uid: str) -> str:
    """Return the file name of a claim's document, as CDI names transient specs: vendor, class, what it is for."""
    return f"k8s.{driver}-claim_{uid}.json"


def list_devices(text: bytes, uid: str) -> tuple[str, ...]:
    """Return what a claim's document gives, as published name or name-shareID; nothing if it is not our document."""
    try:
        entries = _names.decode(text).devices
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()
    return tuple(entry.name.removeprefix(f"{uid}-") for entry in entries if entry.name.startswith(f"{uid}-"))


def encode(kind: str, devices: Iterable[SpecDevice], common: ContainerEdits = _NO_EDITS) -> bytes:
    """Return the text of a CDI document."""
    entries = tuple(devices)
    version = _require_version(entries, common)
    shared = None if common == _NO_EDITS else common
    return msgspec.json.encode(Spec(cdi_version=version, kind=kind, devices=entries, container_edits=shared))


def qualify(kind: str, name: str) -> str:
    """Return a fully qualified CDI device name."""
    return f"{kind}={name}"


def find_owner(driver: str, file_name: str) -> str | None:
    """Return the UID of the claim to which a file of the CDI folder belongs, None if it is not of this driver."""
    match = re.fullmatch(rf"k8s\.{re.escape(driver)}-claim_([^_/]+)\.json", file_name) or re.fullmatch(
        rf"{re.escape(driver)}_metadata_([^_/]+)_[^_/]+\.json", file_name
    )
    return match[1] if match else None


def _require_version(devices: Sequence[SpecDevice], common: ContainerEdits) -> str:
    """Return the lowest version of the specification with everything that is used; runtimes skip one they lack."""
    edits = [common, *(device.container_edits for device in devices)]
    if any(edit.additional_gids for edit in edits):
        return "0.7.0"
    digits = any(device.name[:1].isdigit() for device in devices)
    if digits or any(node.host_path for edit in edits for node in edit.device_nodes):
        return "0.5.0"
    return "0.4.0" if any(mount.type for edit in edits for mount in edit.mounts) else "0.3.0"
