"""What preparing a claim produces: container edits, steps on the hardware, the record, the kubelet's answer.

Container edits use the words of the CDI specification (github.com/cncf-tags/container-device-interface SPEC.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

import msgspec

from driver.model.sharing import Sharing


class Frozen(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of values that are also written to disk."""


class DeviceNode(Frozen, frozen=True):
    """A device node in the container. `path` in the container, `host_path` on the host if it differs."""

    path: str
    host_path: str | None = None
    type: str | None = None
    major: int | None = None
    minor: int | None = None
    file_mode: int | None = None
    permissions: str | None = None
    uid: int | None = None
    gid: int | None = None


class Mount(Frozen, frozen=True):
    """A bind mount from the host (as the host's root sees it) into the container."""

    host_path: str
    container_path: str
    options: tuple[str, ...] = ()
    type: str | None = None


class Hook(Frozen, frozen=True):
    """An OCI hook (`createContainer`, …)."""

    hook_name: str
    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: int | None = None


class ContainerEdits(Frozen, frozen=True):
    """CDI containerEdits."""

    env: tuple[str, ...] = ()
    device_nodes: tuple[DeviceNode, ...] = ()
    mounts: tuple[Mount, ...] = ()
    hooks: tuple[Hook, ...] = ()
    additional_gids: tuple[int, ...] = msgspec.field(default=(), name="additionalGids")


class Step(Frozen, frozen=True):
    """One change of hardware, small enough to be undone by its vendor at any later time, also twice.

    It is written to the claim's record before it is run, so it must carry all that undoing needs.
    """

    name: str
    arguments: dict[str, str] = {}
    """What is to be done: the same for every claim that shares the change."""
    facts: dict[str, str] = {}
    """What was found when it was planned (the value before) and learnt when it was run (identities), for undoing it
    and for edits. A claim that shares the change takes them over."""
    key: str = ""
    """What it changes, if claims may share the change: steps with one key in the records of several claims are one
    change, undone with the last of them. Planned also where nothing is left to do, because it counts the claim in."""
    upkeep: bool = False
    """It needs a process of the plugin's to hold (a daemon), so it is run again whenever the plugin starts."""


BEFORE: Final = "before"
"""How facts begin that tell what was there before a change, and so what undoing it brings back, also after a boot."""
UUID: Final = "uuid"
"""The fact that is the identity of what a step made: one of a kind, so that it can be found in what was written."""
PARTITION: Final = "partition"
"""Name of the step that makes a partition, for all vendors: the driver has to tell partitions it made from others.

Arguments `pciAddress`, `profile`, `placement`; facts `present` (UUIDs of the partitions that were on the accelerator
when it was planned, with a space between them) and, once it was run, `uuid`.
"""
PARTITION_MODE: Final = "partition-mode"
"""Name of the step that switches an accelerator into partition mode; its key is the accelerator's. Facts: `before`."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """A vendor's answer for one claim: what containers get.

    `common` applies once however many devices a container gets; `devices` is keyed by `Target.key`.
    """

    common: ContainerEdits
    devices: Mapping[str, ContainerEdits]


class Phase(Enum):
    """Life of a record. `PREPARING` means: hardware may have been changed, undo everything after a crash."""

    PREPARING = "preparing"
    PREPARED = "prepared"


class PreparedDevice(Frozen, frozen=True):
    """One device of the kubelet's answer (dra/v1 Device): what it injects and shows to monitoring agents."""

    requests: tuple[str, ...]
    pool: str
    device: str
    cdi_device_ids: tuple[str, ...] = msgspec.field(default=(), name="cdiDeviceIDs")
    share_id: str | None = msgspec.field(default=None, name="shareID")
    admin_access: bool = False
    consumed_capacity: dict[str, str] = {}
    """What a share takes of the device, as allocated."""
    shared: bool = False
    """Other claims may have shares of the device beside this one."""
    sharing: Sharing | None = None
    """How it is set up for the processes that use it, if anything said how; the same after a boot."""


class Record(Frozen, frozen=True):
    """The durable truth about one prepared claim. The claim object may be gone when it is needed."""

    uid: str
    namespace: str
    name: str
    phase: Phase
    boot_id: str = msgspec.field(name="bootID")
    devices: tuple[PreparedDevice, ...] = ()
    steps: tuple[Step, ...] = ()
    """In the order in which they were run; undone in reverse."""
    cdi: dict[str, msgspec.Raw] = {}
    """CDI documents by file name, exactly as written, so that they can be restored without the hardware."""
    metadata: dict[str, msgspec.Raw] = {}
    """KEP-5304 device metadata documents by main request name, exactly as written."""


CLAIM_UID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,127}")
"""What a claim's UID may look like, because it becomes part of file names; Kubernetes makes UUIDs."""


@dataclass(frozen=True, slots=True)
class ClaimRef:
    """A claim as the kubelet names it (dra/v1 Claim)."""

    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name} ({self.uid})"


@dataclass(frozen=True, slots=True)
class PrepareAnswer:
    """One entry of NodePrepareResourcesResponse: devices, or an error and no devices."""

    devices: tuple[PreparedDevice, ...] = ()
    error: str = ""
