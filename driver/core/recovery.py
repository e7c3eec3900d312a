"""What to repair: records against CDI files against the boot when the plugin starts, records against claims later.

`plan_repairs` is called by `node.recovery` before the plugin registers, under the lock of the records, so that a
record in the phase `preparing` is always one whose writer died. Promises that after the repairs every claim is as if
it had never been touched or had always been complete. It must not touch files of anyone else.
`explain_stale` is called by `node.collecting`, `agrees` by `node.preparer` and `node.transactions`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from driver.core import cdi
from driver.model.claims import ResourceClaim
from driver.model.prepared import Phase, Record


@dataclass(frozen=True, slots=True)
class Repairs:
    """What has to be done, in this order."""

    remove: tuple[str, ...]
    """CDI files of ours that belong to no claim, or describe the hardware of an earlier boot."""
    roll_back: tuple[Record, ...]
    """Claims whose preparing or unpreparing was interrupted."""
    restore: tuple[Record, ...]
    """Prepared claims: files that are missing are written again as they were, the machine was not booted since."""
    renew: tuple[Record, ...]
    """Claims from before the last boot: device numbers may be others now, the hardware has to be asked."""


def plan_repairs(
    driver: str, records: Collection[Record], files: Collection[str], boot_id: str, set_aside: Collection[str]
) -> Repairs:
    """Compare `records` with the `files` of the CDI folder.

    `set_aside` are UIDs whose record could not be read: their containers may be running, so their files stay until
    the kubelet unprepares the claim.
    """
    prepared = [record for record in records if record.phase is Phase.PREPARED]
    current = tuple(record for record in prepared if record.boot_id == boot_id)
    wanted = {name for record in current for name in record.cdi}
    owners = {name: cdi.find_owner(driver, name) for name in sorted(files)}
    return Repairs(
        remove=tuple(
            name for name, uid in owners.items() if uid is not None and name not in wanted and uid not in set_aside
        ),
        roll_back=tuple(record for record in records if record.phase is Phase.PREPARING),
        restore=current,
        renew=tuple(record for record in prepared if record.boot_id != boot_id),
    )


def explain_stale(record: Record, claim: ResourceClaim | None, driver: str, pool: str) -> str:
    """Return why a record belongs to no claim any more, an empty text if it does.

    `claim` is what the API server has under the record's name, None if it has nothing.
    """
    if claim is None:
        return "the claim does not exist any more"
    if claim.metadata.uid != record.uid:
        return f"the claim was replaced by one with UID {claim.metadata.uid}"
    if claim.status.allocation is None:
        return "the claim is not allocated any more"
    results = claim.status.allocation.devices.results
    if not any(result.driver == driver and result.pool == pool for result in results):
        return "the claim is allocated elsewhere now"
    return "" if agrees(record, claim, driver, pool) else "the claim was given other devices"


def agrees(record: Record, claim: ResourceClaim, driver: str, pool: str) -> bool:
    """Say whether a claim still has the devices that were prepared for it, or says nothing about it.

    A claim may be deallocated and allocated anew under the same UID without having been unprepared here, if its pod
    was deleted by force.
    """
    if claim.metadata.uid != record.uid or claim.status.allocation is None:
        return True
    results = claim.status.allocation.devices.results
    given = {(r.main_request, r.device, r.share_id) for r in results if r.driver == driver and r.pool == pool}
    return given == {(request, held.device, held.share_id) for held in record.devices for request in held.requests}
