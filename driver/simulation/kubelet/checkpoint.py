"""The kubelet's memory of prepared claims: what it keeps in `dra_manager_state`. Called by claims.

Layout of the file: pkg/kubelet/cm/dra/state (checkpoint.dra.kubelet.k8s.io/v1): JSON text inside JSON, with a CRC-32.
After a restart everything is "not prepared" again, though devices and pods are remembered.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from driver.model.errors import Corrupt
from driver.model.prepared import ClaimRef
from driver.simulation.kubelet.wire import Device

FILE_NAME: Final = "dra_manager_state"
_API_VERSION: Final = "checkpoint.dra.kubelet.k8s.io/v1"


@dataclass(slots=True)
class ClaimInfo:
    """One claim that pods on this node use."""

    claim: ClaimRef
    pod_uids: set[str] = field(default_factory=set)
    prepared: bool = False
    drivers: dict[str, list[Device]] = field(default_factory=dict)
    """Devices by driver, in the order in which they were answered; answered twice, they are here twice."""


class _Device(msgspec.Struct, rename="pascal", omit_defaults=True):
    """DeviceState."""

    pool_name: str
    device_name: str
    request_names: tuple[str, ...] = ()
    cdi_device_ids: tuple[str, ...] = msgspec.field(default=(), name="CDIDeviceIDs")
    share_id: str | None = msgspec.field(default=None, name="ShareID")


class _DriverState(msgspec.Struct, rename="pascal"):
    devices: tuple[_Device, ...] = ()


class _ClaimState(msgspec.Struct, rename="pascal"):
    claim_uid: str = msgspec.field(name="ClaimUID")
    claim_name: str
    namespace: str
    pod_uids: dict[str, dict[str, str]] = msgspec.field(name="PodUIDs")
    driver_state: dict[str, _DriverState]


class _Checkpoint(msgspec.Struct, rename="pascal"):
    kind: str = msgspec.field(default="DRACheckpoint", name="kind")
    api_version: str = msgspec.field(default=_API_VERSION, name="apiVersion")
    claim_info_state_list: tuple[_ClaimState, ...] = ()


_checkpoints: Final = msgspec.json.Decoder(_Checkpoint)


def write(folder: Path, claims: list[ClaimInfo]) -> None:
    """Replace the file, atomically."""
    data = msgspec.json.encode(_Checkpoint(claim_info_state_list=tuple(map(_describe, claims)))).decode()
    document = json.dumps({"Data": data, "Checksum": zlib.crc32(data.encode())})
    temporary = folder / f".{FILE_NAME}.tmp"
    temporary.write_text(document)
    temporary.replace(folder / FILE_NAME)


def read(folder: Path) -> list[ClaimInfo]:
    """Return what was written; nothing if there is no file. Raises `Corrupt`: a kubelet does not start then."""
    path = folder / FILE_NAME
    if not path.exists():
        return []
    try:
        document = json.loads(path.read_text())
        data = str(document["Data"])
        if zlib.crc32(data.encode()) != document["Checksum"]:
            raise Corrupt(str(path), "checkpoint is corrupted: the checksum does not match")
        states = _checkpoints.decode(data).claim_info_state_list
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(str(path), f"checkpoint is corrupted: {error}") from error
    return [_restore(state) for state in states]


def _describe(info: ClaimInfo) -> _ClaimState:
    drivers = {
        name: _DriverState(
            tuple(
                _Device(each.pool_name, each.device_name, each.request_names, each.cdi_device_ids, each.share_id)
                for each in devices
            )
        )
        for name, devices in info.drivers.items()
    }
    pods: dict[str, dict[str, str]] = {uid: {} for uid in sorted(info.pod_uids)}
    return _ClaimState(info.claim.uid, info.claim.name, info.claim.namespace, pods, drivers)


def _restore(state: _ClaimState) -> ClaimInfo:
    drivers = {
        name: [
            Device(each.request_names, each.pool_name, each.device_name, each.cdi_device_ids, each.share_id)
            for each in driver.devices
        ]
        for name, driver in state.driver_state.items()
    }
    claim = ClaimRef(state.namespace, state.claim_name, state.claim_uid)
    return ClaimInfo(claim, set(state.pod_uids), prepared=False, drivers=drivers)
