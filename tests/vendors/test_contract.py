"""One suite for every vendor: what `driver.contract` promises, tried on each folder of driver/vendors.

A vendor takes part by having a folder. Its tests then provide `tests/vendors/<name>/machine.py` with a function
`machines(folder: Path) -> Sequence[Machine]` (see tests/vendors/machines.py): the hardware it is tried on. A vendor
without that module fails here. At least one of its machines can break a device, and one can lose its driver.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec
import pytest

from driver.contract import Health, Steps, Target, Vendor
from driver.core import inventory, specification
from driver.model import vocabulary
from driver.model.devices import Accelerator, Snapshot
from driver.model.errors import InvalidInput, Unavailable
from driver.model.prepared import ContainerEdits, Preparation, Step
from tests.vendors.machines import Machine

ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*", re.DOTALL)
HOOKS = {"createRuntime", "createContainer", "startContainer", "poststart", "poststop", "prestart"}


@runtime_checkable
class StepsVendor(Vendor, Steps, Protocol):
    """A vendor that also runs steps."""


def aim(snapshot: Snapshot) -> list[Target]:
    """Return a target for every device that would be published."""
    return [
        Target(
            name=entry.name, accelerator=entry.accelerator, partition=entry.partition, admin_access=False, share_id=None
        )
        for entry in inventory.build(snapshot).entries
    ]


def prepare_all(vendor: Vendor) -> tuple[list[Target], Preparation]:
    targets = aim(vendor.snapshot())
    return targets, vendor.prepare(targets)


def plan_all(vendor: Vendor) -> tuple[Step, ...]:
    return vendor.plan(aim(vendor.snapshot())) if isinstance(vendor, Steps) else ()


def find_identities(targets: Sequence[Target]) -> dict[str, str]:
    """Return the UUID of each target that has one by its name."""
    found = {target.name: (target.partition or target.accelerator).uuid for target in targets}
    return {name: uuid for name, uuid in found.items() if uuid}


def encode(value: object) -> bytes:
    return msgspec.json.encode(value, order="deterministic")


def test_the_name_is_that_of_the_folder(name: str, machines: Sequence[Machine]) -> None:
    for machine in machines:
        vendor = machine.create({})
        assert vendor.name == name
        assert vendor.snapshot().vendor == name


def test_an_option_that_does_not_exist_is_refused(machines: Sequence[Machine]) -> None:
    for machine in machines:
        with pytest.raises(InvalidInput, match="no-such-option"):
            machine.create({"no-such-option": "1"})


def test_a_look_is_the_same_each_time_and_in_each_process(machines: Sequence[Machine]) -> None:
    for machine in machines:
        vendor = machine.create({})
        first = vendor.snapshot()
        assert vendor.snapshot() == first, machine.title
        assert machine.create({}).snapshot() == first, machine.title
        assert vendor.fingerprint() == vendor.fingerprint(), machine.title


def test_several_threads_see_the_same(machines: Sequence[Machine]) -> None:
    for machine in machines:
        vendor = machine.create({})
        expected = vendor.snapshot()
        targets = aim(expected)
        preparation = vendor.prepare(targets)
        with ThreadPoolExecutor(4) as pool:
            looks = [pool.submit(vendor.snapshot) for _ in range(8)]
            answers = [pool.submit(vendor.prepare, targets) for _ in range(8)]
        assert all(look.result() == expected for look in looks), machine.title
        assert all(answer.result() == preparation for answer in answers), machine.title


def test_every_accelerator_has_an_identity_of_its_own(machines: Sequence[Machine]) -> None:
    for machine in machines:
        devices = machine.create({}).snapshot().accelerators
        uuids = [device.uuid for device in devices]
        uuids += [partition.uuid or "" for device in devices for partition in device.partitions]
        addresses = [device.pci_address for device in devices]
        assert all(uuids), machine.title
        assert len(set(uuids)) == len(uuids), machine.title
        assert len(set(addresses)) == len(addresses), machine.title
        assert all(ADDRESS.fullmatch(address) for address in addresses), machine.title


def test_every_published_device_keeps_the_specification(name: str, machines: Sequence[Machine]) -> None:
    for machine in machines:
        entries = inventory.build(machine.create({}).snapshot()).entries
        for entry in entries:
            assert specification.check(entry.device) == (), f"{machine.title}: {entry.name}"
            assert vocabulary.PCI_BUS_ID in entry.device.attributes, f"{machine.title}: {entry.name}"
            assert vocabulary.MODEL in entry.device.attributes, f"{machine.title}: {entry.name}"
            assert entry.device.attributes[vocabulary.VENDOR].string == name
    assert any(inventory.build(machine.create({}).snapshot()).entries for machine in machines)


def test_everything_published_by_the_vendor_itself_fits(machines: Sequence[Machine]) -> None:
    for machine in machines:
        for entry in inventory.build(machine.create({}).snapshot()).entries:
            missing = set(entry.accelerator.extra) - set(entry.device.attributes)
            assert not missing, f"{machine.title}: {entry.name} has no room for {missing}, or they are not valid names"


def test_values_are_plain(machines: Sequence[Machine]) -> None:
    for machine in machines:
        vendor = machine.create({})
        _, preparation = prepare_all(vendor)
        assert json.loads(encode(vendor.snapshot()))
        assert json.loads(encode(preparation))
        steps = plan_all(vendor)
        assert msgspec.json.decode(encode(steps), type=tuple[Step, ...]) == steps


def test_one_device_that_fails_is_one_device(machines: Sequence[Machine]) -> None:
    breakable = [machine for machine in machines if machine.break_one]
    assert breakable, "a machine of this vendor can break a device"
    for machine in breakable:
        assert machine.break_one is not None
        vendor = machine.create({})
        before = vendor.snapshot()
        fingerprint = vendor.fingerprint()
        machine.break_one()
        after = vendor.snapshot()
        _assert_one_is_missing(before, after)
        assert vendor.fingerprint() != fingerprint or machine.create({}).snapshot() == after


def _assert_one_is_missing(before: Snapshot, after: Snapshot) -> None:
    lost = [device.pci_address for device in before.accelerators if not _find(after, device.pci_address)]
    reported = [failure for failure in after.failures if failure not in before.failures]
    assert len(lost) == 1
    assert len(reported) == 1
    assert reported[0].pci_address in (lost[0], None)
    assert len(reported[0].reason) > 5, "the reason is a sentence"
    for device in after.accelerators:
        assert (device.uuid, device.partitions) == _identity(_find(before, device.pci_address))


def _find(snapshot: Snapshot, address: str) -> Accelerator | None:
    return next((device for device in snapshot.accelerators if device.pci_address == address), None)


def _identity(device: Accelerator | None) -> tuple[str, object]:
    assert device is not None
    return device.uuid, device.partitions


def test_a_driver_that_goes_away_is_waited_for(machines: Sequence[Machine]) -> None:
    fragile = [machine for machine in machines if machine.take_away]
    assert fragile, "a machine of this vendor can lose its driver"
    for machine in fragile:
        assert machine.take_away is not None
        vendor = machine.create({})
        vendor.snapshot()
        before = vendor.fingerprint()
        machine.take_away()
        with pytest.raises(Unavailable):
            vendor.snapshot()
        assert vendor.fingerprint() != before
        with pytest.raises(Unavailable):
            machine.create({}).snapshot()


def test_preparing_changes_nothing_and_answers_the_same(machines: Sequence[Machine]) -> None:
    for machine in machines:
        vendor = machine.create({})
        targets, preparation = prepare_all(vendor)
        assert vendor.prepare(targets) == preparation, machine.title
        assert encode(machine.create({}).prepare(targets)) == encode(preparation), machine.title
        assert vendor.snapshot() == machine.create({}).snapshot(), machine.title


def test_every_target_gets_its_own_edits(machines: Sequence[Machine]) -> None:
    for machine in machines:
        targets, preparation = prepare_all(machine.create({}))
        assert set(preparation.devices) == {target.name for target in targets}, machine.title
        for edits in (preparation.common, *preparation.devices.values()):
            _assert_valid(edits)


def test_edits_of_a_device_do_not_depend_on_the_others_of_the_claim(machines: Sequence[Machine]) -> None:
    for machine in machines:
        vendor = machine.create({})
        targets, together = prepare_all(vendor)
        for target in targets:
            alone = vendor.prepare([target])
            assert alone.devices[target.name] == together.devices[target.name], machine.title
            assert alone.common == together.common, machine.title


def test_without_targets_there_is_what_comes_with_every_device(machines: Sequence[Machine]) -> None:
    """A claim with admin access may have been given only partitions that nobody has made."""
    for machine in machines:
        vendor = machine.create({})
        targets, together = prepare_all(vendor)
        alone = vendor.prepare([])
        assert alone.devices == {}, machine.title
        assert alone.common == together.common or not targets, machine.title


def test_a_container_learns_nothing_of_devices_it_did_not_get(machines: Sequence[Machine]) -> None:
    for machine in machines:
        targets, preparation = prepare_all(machine.create({}))
        uuids = find_identities(targets)
        for name, edits in {"": preparation.common, **preparation.devices}.items():
            text = encode(edits).decode()
            told = {other for other, uuid in uuids.items() if uuid in text}
            assert told <= {name}, f"{machine.title}: {name or 'common'} tells of {told}"


def test_edits_of_several_devices_can_be_applied_together(machines: Sequence[Machine]) -> None:
    for machine in machines:
        _, preparation = prepare_all(machine.create({}))
        variables: dict[str, str] = {}
        nodes: dict[str, object] = {}
        for edits in (preparation.common, *preparation.devices.values()):
            for variable, _, value in (item.partition("=") for item in edits.env):
                assert variables.setdefault(variable, value) == value, f"{machine.title}: {variable} has two values"
            for node in edits.device_nodes:
                assert nodes.setdefault(node.path, node) == node, f"{machine.title}: {node.path} is two nodes"


def _assert_valid(edits: ContainerEdits) -> None:
    """Check what the CDI specification demands of containerEdits."""
    assert all(VARIABLE.fullmatch(variable) for variable in edits.env)
    for node in edits.device_nodes:
        assert node.path.startswith("/dev/")
        assert node.host_path is None or node.host_path.startswith("/")
        assert node.type in (None, "c", "b", "u", "p")
        assert node.permissions is None or (node.permissions and not set(node.permissions) - set("rwm"))
    for mount in edits.mounts:
        assert mount.host_path.startswith("/")
        assert mount.container_path.startswith("/")
    for hook in edits.hooks:
        assert hook.hook_name in HOOKS
        assert hook.path.startswith("/")
    assert len(set(edits.additional_gids)) == len(edits.additional_gids)


def test_steps_are_run_and_undone_as_often_as_one_likes(machines: Sequence[Machine]) -> None:
    for vendor, machine, steps in _with_steps(machines):
        later = machine.create({})
        assert isinstance(later, Steps)
        _undo(later, steps)
        done = [_run(each, steps) for each in (vendor, vendor, later)]
        assert done[0] == done[1] == done[2], machine.title
        for each in (vendor, later, vendor):
            _undo(each, done[0])
            _undo(each, steps)
        assert vendor.snapshot() == machine.create({}).snapshot(), machine.title


def test_steps_of_one_device_are_no_others_business(machines: Sequence[Machine]) -> None:
    for vendor, machine, steps in _with_steps(machines):
        assert len(set(map(encode, steps))) == len(steps), machine.title
        _undo(vendor, _run(vendor, steps))


def _run(vendor: Steps, steps: Sequence[Step]) -> list[Step]:
    done: list[Step] = []
    for step in steps:
        done.append(vendor.run(step, tuple(done)))
    return done


def _undo(vendor: Steps, steps: Sequence[Step]) -> None:
    for step in reversed(steps):
        vendor.undo(step)


def _with_steps(machines: Sequence[Machine]) -> Iterator[tuple[StepsVendor, Machine, tuple[Step, ...]]]:
    for machine in machines:
        vendor = machine.create({})
        if isinstance(vendor, StepsVendor):
            yield vendor, machine, plan_all(vendor)


def test_nothing_is_held_open_between_calls(machines: Sequence[Machine]) -> None:
    for machine in machines:
        _use(machine)  # the first use may load a library, which stays
        before = _list_open_files()
        _use(machine)
        assert _list_open_files() == before, machine.title


def _use(machine: Machine) -> None:
    vendor = machine.create({})
    vendor.fingerprint()
    prepare_all(vendor)


def _list_open_files() -> list[str]:
    folder = Path("/proc/self/fd")
    return sorted(_read_link(path) for path in folder.iterdir())


def _read_link(path: Path) -> str:
    try:
        return str(path.readlink())
    except FileNotFoundError:
        return "the folder being listed"


def test_watching_health_ends_when_it_is_told_to(machines: Sequence[Machine]) -> None:
    vendor = machines[0].create({})
    if isinstance(vendor, Health):
        assert list(vendor.watch_health(lambda: True)) == []
        assert list(vendor.watch_health(_after_calls(2))) == []


def _after_calls(number: int) -> Callable[[], bool]:
    asked = iter(range(number))
    return lambda: next(asked, None) is None
