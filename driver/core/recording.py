"""From a decision and a vendor's answer to the record of a claim: what the kubelet is told and what is remembered.

Called by `node.transactions` between asking the vendor and doing anything. Promises that a record holds all that a
repeat, an unprepare and a restart need, without the API server and without the hardware.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from driver.core import cdi, shares
from driver.core.metadata import RequestMetadata
from driver.core.preparing import Grant, Place
from driver.model.prepared import ClaimRef, Phase, Preparation, PreparedDevice, Record, Step

_JSON: Final = ("[", "{")


def draft(
    ref: ClaimRef,
    place: Place,
    grants: Sequence[Grant],
    preparation: Preparation,
    metadata: Sequence[RequestMetadata],
    boot_id: str,
) -> Record:
    """Return the record of a claim as it shall be when everything is done, but for its steps."""
    devices = [_hold(grant, place) for grant in grants]
    spec = _describe_edits(place.driver, ref.uid, devices, preparation)
    mounts = _assign(grants, metadata)
    files = [*([spec.file] if spec.file else []), *(entry.spec for entry in metadata)]
    return Record(
        uid=ref.uid,
        namespace=ref.namespace,
        name=ref.name,
        phase=Phase.PREPARED,
        boot_id=boot_id,
        devices=tuple(
            msgspec.structs.replace(held, cdi_device_ids=ids + extra)
            for held, ids, extra in zip(devices, spec.ids, mounts, strict=True)
        ),
        cdi={file.name: msgspec.Raw(file.text) for file in files},
        metadata={entry.request: msgspec.Raw(entry.document.strip()) for entry in metadata},
    )


def renew(record: Record, driver: str, preparation: Preparation, boot_id: str) -> Record:
    """Return a record from before the last boot with the CDI documents that hold now. The answer stays the same.

    Its steps are those of before.
    """
    spec = _describe_edits(driver, record.uid, record.devices, preparation)
    mounted = {name: text for name, text in record.cdi.items() if name != cdi.name_file(driver, record.uid)}
    own = {spec.file.name: msgspec.Raw(spec.file.text)} if spec.file else {}
    return msgspec.structs.replace(record, boot_id=boot_id, cdi={**own, **mounted})


def with_steps(record: Record, steps: Sequence[Step]) -> Record:
    """Return the record with these steps: as planned, or as done."""
    return msgspec.structs.replace(record, steps=tuple(steps))


def with_metadata(record: Record, documents: Mapping[str, bytes]) -> Record:
    """Return the record with these texts of its metadata documents, by request."""
    return msgspec.structs.replace(record, metadata={name: msgspec.Raw(text) for name, text in documents.items()})


def interrupted(record: Record) -> Record:
    """Return the record as it stands while its steps are being done or undone."""
    return msgspec.structs.replace(record, phase=Phase.PREPARING)


def describe(step: Step) -> str:
    """Return what a step is about, for people: `pciAddress 0000:1a:00.0, profile 1g.10gb, …`; no JSON in facts."""
    said = (step.arguments | step.facts).items()
    return ", ".join(f"{name} {value}" for name, value in said if value and not value.startswith(_JSON))


def _hold(grant: Grant, place: Place) -> PreparedDevice:
    return PreparedDevice(
        requests=grant.main_requests,
        pool=place.pool,
        device=grant.entry.name,
        share_id=grant.share_id,
        admin_access=grant.admin_access,
        consumed_capacity=dict(grant.consumed_capacity),
        shared=grant.is_shared,
        sharing=grant.sharing,
    )


def _describe_edits(
    driver: str, uid: str, devices: Sequence[PreparedDevice], preparation: Preparation
) -> cdi.ClaimSpec:
    named = [(held.device, held.share_id) for held in devices]
    return cdi.describe_claim(driver, uid, named, shares.announce(preparation, devices))


def _assign(grants: Sequence[Grant], metadata: Sequence[RequestMetadata]) -> list[tuple[str, ...]]:
    """Return for each grant the ids of metadata mounts: a request's mount comes with its first device."""
    first: dict[str, int] = {}
    for position, grant in enumerate(grants):
        for request in grant.main_requests:
            first.setdefault(request, position)
    return [
        tuple(entry.cdi_id for entry in metadata if first.get(entry.request) == position)
        for position in range(len(grants))
    ]
