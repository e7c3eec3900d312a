"""What to repair when the plugin starts: records against CDI files against the boot.

Called by `node.transactions` before the plugin registers, under the lock of the records, so that a record in the
phase `preparing` is always one whose writer died. Promises that after the repairs every claim is as if it had never
been touched or had always been complete. It must not touch files of anyone else.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from driver.core import cdi
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
