"""CDI documents as a runtime reads them: strict, file by file, into devices by their full name.

Called by the runtime for every container. A file that is not valid is set aside with its reason and hides nothing
else, as the CDI library does; a device that two files of the same folder define is ambiguous and cannot be resolved.
Source: cncf-tags/container-device-interface SPEC.md 1.1.0 and pkg/cdi (cache.go, spec.go, version.go).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
import yaml

VERSIONS: Final = ("0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0")
_VENDOR: Final = re.compile(r"[A-Za-z]([A-Za-z0-9_.-]*[A-Za-z0-9])?")
_CLASS: Final = re.compile(r"[A-Za-z]([A-Za-z0-9_-]*[A-Za-z0-9])?")
_DEVICE: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?")
_Text = Annotated[str, msgspec.Meta(min_length=1)]
_Number = Annotated[int, msgspec.Meta(ge=0)]


class _Strict(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Base: an unknown field is an error, because the library refuses it too."""


class DeviceNode(_Strict, frozen=True):
    """A device node for the container."""

    path: _Text
    host_path: str = ""
    type: Literal["", "b", "c", "u", "p"] = ""
    major: int = 0
    minor: int = 0
    file_mode: _Number | None = None
    permissions: Annotated[str, msgspec.Meta(pattern="^[rwm]*$")] = ""
    uid: _Number | None = None
    gid: _Number | None = None


class Mount(_Strict, frozen=True):
    """A mount for the container."""

    host_path: _Text
    container_path: _Text
    options: tuple[str, ...] = ()
    type: str = ""


class Hook(_Strict, frozen=True):
    """An OCI hook."""

    hook_name: Literal["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
    path: _Text
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: _Number | None = None


class Edits(_Strict, frozen=True):
    """CDI containerEdits."""

    env: tuple[Annotated[str, msgspec.Meta(pattern="^[^=]+=")], ...] = ()
    device_nodes: tuple[DeviceNode, ...] = ()
    mounts: tuple[Mount, ...] = ()
    hooks: tuple[Hook, ...] = ()
    additional_gids: tuple[_Number, ...] = ()

    @property
    def is_empty(self) -> bool:
        """True for edits that change nothing."""
        return self == Edits()


class Device(_Strict, frozen=True):
    """One device of a document; its edits must not be empty."""

    name: str
    container_edits: Edits
    annotations: dict[str, str] = {}


class Document(_Strict, frozen=True):
    """One CDI spec file."""

    cdi_version: str
    kind: str
    devices: Annotated[tuple[Device, ...], msgspec.Meta(min_length=1)]
    container_edits: Edits = Edits()
    annotations: dict[str, str] = {}


_documents: Final = msgspec.json.Decoder(Document)


@dataclass(frozen=True, slots=True)
class Resolved:
    """A device that a runtime can inject, and the file it is from."""

    path: Path
    document: Document
    device: Device


@dataclass(slots=True)
class Registry:
    """All devices of the CDI folders at one moment."""

    devices: dict[str, Resolved] = field(default_factory=dict)
    invalid: dict[Path, str] = field(default_factory=dict)
    """Files that were set aside, with the reason."""
    ambiguous: set[str] = field(default_factory=set)
    """Names that two files of one folder define."""


def load(folders: Iterable[Path]) -> Registry:
    """Read the folders; a device of a later folder replaces one of the same name of an earlier folder."""
    registry = Registry()
    for folder in folders:
        _load_folder(folder, registry)
    return registry


def _load_folder(folder: Path, registry: Registry) -> None:
    found: dict[str, Resolved] = {}
    twice: set[str] = set()
    files = sorted(path for path in folder.glob("*") if path.suffix in (".json", ".yaml")) if folder.is_dir() else []
    for path in files:
        try:
            document = parse(path.read_bytes(), path.suffix)
        except (ValueError, OSError) as error:
            registry.invalid[path] = str(error)
            continue
        for device in document.devices:
            name = f"{document.kind}={device.name}"
            if name in found:
                twice.add(name)
            found[name] = Resolved(path, document, device)
    registry.devices.update(found)
    registry.ambiguous = (registry.ambiguous - set(found)) | twice
    for name in twice:
        registry.devices.pop(name, None)


def parse(content: bytes, suffix: str = ".json") -> Document:
    """Return a valid document. Raises ValueError with the first thing that is wrong."""
    if suffix == ".yaml":
        try:
            document = _documents.decode(msgspec.json.encode(yaml.safe_load(content)))
        except yaml.YAMLError as error:
            raise ValueError(f"no YAML: {error}") from error
    else:
        document = _documents.decode(content)
    _check_names(document)
    needed = required_version(document)
    if document.cdi_version not in VERSIONS:
        raise ValueError(f"cdiVersion {document.cdi_version!r} is not one of {', '.join(VERSIONS)}")
    if VERSIONS.index(document.cdi_version) < VERSIONS.index(needed):
        raise ValueError(f"the spec version must be at least {needed}, it is {document.cdi_version}")
    return document


def _check_names(document: Document) -> None:
    vendor, _, class_ = document.kind.partition("/")
    if not _VENDOR.fullmatch(vendor) or not _CLASS.fullmatch(class_.replace(".", "-")):
        raise ValueError(f"kind {document.kind!r} is not vendor/class")
    names = [device.name for device in document.devices]
    for device in document.devices:
        if not _DEVICE.fullmatch(device.name):
            raise ValueError(f"invalid device name {device.name!r}")
        if device.container_edits.is_empty:
            raise ValueError(f"device {device.name!r} has empty containerEdits")
        if names.count(device.name) > 1:
            raise ValueError(f"device {device.name!r} occurs more than once")


def required_version(document: Document) -> str:
    """Return the lowest version that has every field the document uses (pkg/cdi version.go)."""
    all_edits = [document.container_edits, *(device.container_edits for device in document.devices)]
    if any(edits.additional_gids for edits in all_edits):
        return "0.7.0"
    if "." in document.kind.partition("/")[2] or document.annotations or any(d.annotations for d in document.devices):
        return "0.6.0"
    has_host_path = any(node.host_path for edits in all_edits for node in edits.device_nodes)
    if has_host_path or any(device.name[0].isdigit() for device in document.devices):
        return "0.5.0"
    return "0.4.0" if any(mount.type for edits in all_edits for mount in edits.mounts) else "0.3.0"
