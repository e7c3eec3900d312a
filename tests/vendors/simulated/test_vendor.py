"""What is this vendor's own beyond the contract suite: hot-plug by file, power steps, health from a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from driver import vendors
from driver.contract import Health, Steps, Target, Vendor
from driver.model.errors import InvalidInput, StepFailed, Unavailable
from driver.model.health import HealthEvent, Severity
from driver.model.prepared import Step
from driver.vendors.simulated.vendor import Simulated
from tests.vendors.machines import make_roots


def create(folder: Path, **options: str) -> Simulated:
    vendor = vendors.load("simulated", make_roots(folder), options)
    assert isinstance(vendor, Simulated)
    return vendor


def aim(vendor: Vendor, **changes: object) -> list[Target]:
    plain = {"partition": None, "admin_access": False, "share_id": None, **changes}
    devices = vendor.snapshot().accelerators
    return [Target(f"gpu-{number}", device, **plain) for number, device in enumerate(devices)]  # type: ignore[arg-type]


def test_it_is_loaded_by_name_and_has_the_optional_powers(tmp_path: Path) -> None:
    vendor = create(tmp_path)
    assert isinstance(vendor, Steps)
    assert isinstance(vendor, Health)
    assert len(vendor.snapshot().accelerators) == 8


def test_unknown_options_and_nodes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="vendor option: 'nodes' is not allowed; allowed: health, node, seed"):
        create(tmp_path, nodes="t4")
    with pytest.raises(InvalidInput, match="vendor option node: 't5'"):
        create(tmp_path, node="t5")


def test_a_device_that_a_virtual_machine_has_is_not_seen(tmp_path: Path) -> None:
    roots = make_roots(tmp_path)
    vendor = vendors.load("simulated", roots, {"node": "hgx-h100"})
    address = vendor.snapshot().accelerators[2].pci_address
    before = vendor.fingerprint()
    taken = Path(roots.sys_root, "bus/pci/drivers/vfio-pci", address)
    taken.mkdir(parents=True)
    assert vendor.fingerprint() != before
    assert len(vendor.snapshot().accelerators) == 7
    assert address not in [each.pci_address for each in vendor.snapshot().accelerators]
    taken.rmdir()
    assert vendor.fingerprint() == before
    assert len(vendor.snapshot().accelerators) == 8


def test_devices_come_and_go_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "node.json"
    vendor = create(tmp_path, node=str(path))
    assert vendor.fingerprint() == "absent"
    with pytest.raises(Unavailable):
        vendor.snapshot()
    path.write_text(json.dumps({"driverVersion": "1.0.0", "devices": []}))
    empty = vendor.fingerprint()
    assert vendor.snapshot().accelerators == ()
    device = {"model": "t4", "pciAddress": "0000:3b:00.0"}
    path.write_text(json.dumps({"driverVersion": "1.0.0", "devices": [device]}))
    assert vendor.fingerprint() != empty
    assert [found.model for found in vendor.snapshot().accelerators] == ["Tesla T4"]


def test_a_bad_file_is_bad_input_and_a_good_one_repairs_it(tmp_path: Path) -> None:
    path = tmp_path / "node.json"
    vendor = create(tmp_path, node=str(path))
    path.write_text("{}")
    with pytest.raises(InvalidInput, match=r"node\.json: \$"):
        vendor.snapshot()
    path.write_text(json.dumps({"driverVersion": "1.0.0"}))
    assert vendor.snapshot().driver_version == "1.0.0"


def test_a_container_gets_a_node_that_any_user_may_open(tmp_path: Path) -> None:
    vendor = create(tmp_path, node="t4")
    target = aim(vendor)[1]
    (node,) = vendor.prepare([target]).devices["gpu-1"].device_nodes
    assert (node.path, node.host_path, node.type, node.major, node.minor) == (
        "/dev/simulated-gpu1",
        "/dev/null",
        "c",
        1,
        3,
    )
    assert node.file_mode == 0o666


def test_a_container_is_told_the_identity_of_what_it_got(tmp_path: Path) -> None:
    vendor = create(tmp_path, node="a100-mig")
    parent = vendor.snapshot().accelerators[1]
    target = Target("gpu-0000-46-00-0-3g-40gb-0", parent, parent.partitions[0], admin_access=False, share_id=None)
    edits = vendor.prepare([target]).devices[target.name]
    assert edits.env == (f"SIMULATED_GPU_0000_46_00_0_3G_40GB_0={parent.partitions[0].uuid}",)
    assert [node.path for node in edits.device_nodes] == ["/dev/simulated-gpu1-3g-40gb-0"]


def test_devices_that_are_always_on_need_no_steps(tmp_path: Path) -> None:
    vendor = create(tmp_path, node="l40s")
    assert vendor.plan(aim(vendor)) == ()


def power(folder: Path) -> set[str]:
    return {path.name for path in (folder / "state" / "simulated" / "power").glob("*")}


def test_managed_devices_are_powered_on_and_off(tmp_path: Path) -> None:
    vendor = create(tmp_path, node="t4")
    targets = aim(vendor)
    steps = vendor.plan(targets)
    assert [step.name for step in steps] == ["power-on", "power-on"]
    assert power(tmp_path) == set()
    for step in steps:
        vendor.run(step, ())
    assert power(tmp_path) == {target.accelerator.uuid for target in targets}
    vendor.undo(steps[0])
    assert power(tmp_path) == {targets[1].accelerator.uuid}


def test_looking_on_needs_no_power(tmp_path: Path) -> None:
    vendor = create(tmp_path, node="t4")
    assert vendor.plan(aim(vendor, admin_access=True)) == ()


def test_one_share_does_not_power_off_another(tmp_path: Path) -> None:
    vendor = create(tmp_path, node="t4")
    (one, *_), (other, *_) = (vendor.plan(aim(vendor, share_id=share)) for share in ("a", "b"))
    vendor.run(one, ())
    vendor.run(other, ())
    vendor.undo(one)
    assert power(tmp_path) == {other.arguments["switch"]}


def test_a_step_says_why_it_failed(tmp_path: Path) -> None:
    path = tmp_path / "node.json"
    device = {"model": "t4", "pciAddress": "0000:3b:00.0", "powerFault": "the fan does not turn"}
    path.write_text(json.dumps({"driverVersion": "1.0.0", "managedPower": True, "devices": [device]}))
    vendor = create(tmp_path, node=str(path))
    (step,) = vendor.plan(aim(vendor))
    with pytest.raises(StepFailed, match="step power-on: the fan does not turn"):
        vendor.run(step, ())
    vendor.undo(step)
    assert power(tmp_path) == set()


def test_a_step_that_cannot_be_written_down_failed(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way")
    vendor = create(tmp_path, node="t4")
    step = vendor.plan(aim(vendor))[0]
    with pytest.raises(StepFailed, match="Not a directory"):
        vendor.run(step, ())


def test_undoing_needs_neither_the_file_nor_the_device(tmp_path: Path) -> None:
    step = Step(name="power-on", arguments={"pciAddress": "0000:3b:00.0", "switch": "GPU-gone"})
    folder = tmp_path / "state" / "simulated" / "power"
    folder.mkdir(parents=True)
    (folder / "GPU-gone").touch()
    create(tmp_path, node=str(tmp_path / "gone.json")).undo(step)
    assert power(tmp_path) == set()


def line(**fields: object) -> str:
    return json.dumps({"pciAddress": "0000:3b:00.0", "cause": "xid-79", "severity": "unhealthy", "time": 1.0, **fields})


def until(events: list[HealthEvent], wanted: int, looks: int = 200) -> Callable[[], bool]:
    """Return a stop that waits for a number of events, but not for ever."""
    left = iter(range(looks))
    return lambda: len(events) >= wanted or next(left, None) is None


def watch(vendor: Simulated, wanted: int, meanwhile: Callable[[HealthEvent], object]) -> list[HealthEvent]:
    events: list[HealthEvent] = []
    for event in vendor.watch_health(until(events, wanted)):
        events.append(event)
        meanwhile(event)
    return events


def test_health_events_are_read_as_they_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "health.jsonl"
    path.write_text(line() + "\n")

    def append(event: HealthEvent) -> None:
        if event.severity is Severity.UNHEALTHY:
            with path.open("a") as file:
                file.write(line(severity="healthy", partitionUUID="MIG-a", message="better") + "\n" + line()[:10])

    first, second = watch(create(tmp_path, node="t4", health=str(path)), 2, append)
    assert first == HealthEvent("0000:3b:00.0", "xid-79", Severity.UNHEALTHY, "", 1.0, None)
    assert second == HealthEvent("0000:3b:00.0", "xid-79", Severity.HEALTHY, "better", 1.0, "MIG-a")


def test_a_health_file_that_is_begun_anew_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "health.jsonl"
    path.write_text(line(cause="a") + "\n" + line(cause="b") + "\n")

    def begin_anew(event: HealthEvent) -> None:
        if event.cause == "b":
            path.write_text(line(cause="c") + "\n")

    causes = [event.cause for event in watch(create(tmp_path, node="t4", health=str(path)), 3, begin_anew)]
    assert causes == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "line 1"),
        (line(severity="bad"), "line 1: severity: 'bad' is not allowed; allowed: healthy, degraded, unhealthy"),
        (line(colour="red"), "unknown field `colour`"),
    ],
)
def test_a_bad_health_event_is_bad_input(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "health.jsonl"
    path.write_text(text + "\n")
    with pytest.raises(InvalidInput, match=said):
        list(create(tmp_path, node="t4", health=str(path)).watch_health(until([], 1)))
