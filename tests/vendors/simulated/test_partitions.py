"""Steps that make partitions of simulated devices, beyond the suite for all vendors: faults, boots, who made what."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from driver import vendors
from driver.contract import Target
from driver.model.devices import Partition, Profile
from driver.model.errors import InvalidInput, StepFailed, StepRefused, Unavailable, Unsupported
from driver.model.prepared import PARTITION, Step
from driver.vendors.simulated.instances import Gpu
from driver.vendors.simulated.vendor import Simulated
from tests.vendors.machines import make_roots

ADDRESS = "0000:1b:00.0"


class Site:
    """A machine with one H100 whose file can be changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "node.json"
        self.boot("boot-1")
        self.write()

    def write(self, *, model: str = "h100-80gb", **fields: object) -> None:
        device = {"model": model, "pciAddress": ADDRESS, **fields}
        self.path.write_text(json.dumps({"driverVersion": "580.126.09", "devices": [device]}))

    def boot(self, identity: str) -> None:
        path = self.folder / "proc" / "sys" / "kernel" / "random" / "boot_id"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{identity}\n")

    def create(self) -> Simulated:
        vendor = vendors.load("simulated", make_roots(self.folder), {"node": str(self.path)})
        assert isinstance(vendor, Simulated)
        return vendor

    def aim(self, profile: str = "1g.10gb", placement: int = 2, claim: str = "claim-1", **changes: object) -> Target:
        accelerator = self.create().look().chips[ADDRESS].accelerator
        part = Partition(profile, placement, None, None, None, None)
        target = Target(f"gpu-{profile}-{placement}", accelerator, part, admin_access=False, share_id=None, claim=claim)
        return replace(target, **changes)  # type: ignore[arg-type]

    def aim_whole(self, **changes: object) -> Target:
        device = self.create().look().snapshot.accelerators[0]
        target = Target("gpu-0", device, None, admin_access=False, share_id=None, claim="claim-1")
        return replace(target, **changes)  # type: ignore[arg-type]

    def list_partitions(self) -> list[str]:
        layout = self.create().instances.look(self.create().look().chips[ADDRESS])
        return [f"{each.profile.name}@{each.placement}" for each in layout.instances]

    def list_begun(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "state" / "simulated" / "begun").glob("*"))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def run(vendor: Simulated, steps: Sequence[Step]) -> list[Step]:
    return [vendor.run(step, ()) for step in steps]


def undo(vendor: Simulated, steps: Sequence[Step]) -> None:
    for step in reversed(steps):
        vendor.undo(step)


def make_foreign(site: Site, profile: str, placement: int) -> None:
    vendor = site.create()
    chip = vendor.look().chips[ADDRESS]
    with vendor.instances.open(chip) as gpu:
        gpu.switch_mode(enabled=True)
        gpu.create_compute_instance(gpu.create_gpu_instance(get(chip.find_profile(profile)), placement))


def get(profile: Profile | None) -> Profile:
    assert profile is not None
    return profile


def test_the_steps_of_a_partition(site: Site) -> None:
    make_foreign(site, "1g.10gb", 6)
    foreign = site.create().snapshot().accelerators[0].partitions[0].uuid
    mode, part = site.create().plan([site.aim()])
    assert mode == Step(
        name="partition-mode",
        arguments={"pciAddress": ADDRESS, "mode": "on"},
        facts={"before": "on"},
        key=f"partition-mode/{ADDRESS}",
    )
    assert part == Step(
        name="partition",
        arguments={"pciAddress": ADDRESS, "profile": "1g.10gb", "placement": "2"},
        facts={"present": str(foreign), "claim": "claim-1"},
        key=f"partition/{ADDRESS}/1g.10gb/2",
    )


def test_two_shares_of_one_partition_are_made_once(site: Site) -> None:
    targets = [site.aim(share_id=share) for share in ("a", "b")]
    vendor = site.create()
    steps = vendor.plan(targets)
    assert [step.name for step in steps] == ["partition-mode", "partition"]
    done = run(vendor, steps)
    edits = vendor.prepare(targets, done).devices
    assert set(edits) == {"gpu-1g.10gb-2-a", "gpu-1g.10gb-2-b"}
    assert all(done[1].facts["uuid"] in each.env[0] for each in edits.values())


def test_who_looks_on_sees_what_is_there(site: Site) -> None:
    vendor = site.create()
    watcher = site.aim(claim="claim-2", admin_access=True)
    done = run(vendor, vendor.plan([site.aim()]))
    assert vendor.plan([watcher]) == ()
    assert done[-1].facts["uuid"] in vendor.prepare([watcher]).devices[watcher.key].env[0]


def test_partitions_of_one_claim_on_one_device_switch_its_mode_once(site: Site) -> None:
    steps = site.create().plan([site.aim(), site.aim("3g.40gb", 4)])
    assert [step.name for step in steps] == ["partition-mode", "partition", "partition"]


def test_an_existing_partition_and_a_whole_device_need_no_steps(site: Site) -> None:
    make_foreign(site, "1g.10gb", 6)
    vendor = site.create()
    device = vendor.snapshot().accelerators[0]
    assert vendor.plan([site.aim(partition=device.partitions[0])]) == ()
    site.write(model="t4")
    assert vendor.plan([site.aim_whole()]) == ()


def test_a_device_that_is_in_partition_mode_is_made_whole_and_given_back_as_it_was(site: Site) -> None:
    site.write(partitions={})
    vendor = site.create()
    steps = vendor.plan([site.aim_whole()])
    assert [(step.name, step.arguments["mode"], step.facts["before"]) for step in steps] == [
        ("partition-mode", "off", "on")
    ]
    run(vendor, steps)
    assert not vendor.snapshot().accelerators[0].partitioned
    assert vendor.plan([site.aim_whole()]) == ()
    undo(site.create(), steps)
    assert vendor.snapshot().accelerators[0].partitioned


def test_each_share_of_a_whole_device_keeps_it_whole(site: Site) -> None:
    (step,) = site.create().plan([site.aim_whole(share_id="a")])
    assert (step.arguments["mode"], step.facts["before"], step.key) == ("off", "off", f"partition-mode/{ADDRESS}")


def test_a_device_with_partitions_of_others_does_not_become_whole(site: Site) -> None:
    site.write(partitions={})
    make_foreign(site, "1g.10gb", 2)
    steps = site.create().plan([site.aim_whole()])
    with pytest.raises(StepRefused, match=r"0000:1b:00\.0: 1g\.10gb at 2 \(MIG-.*\) is in the way"):
        run(site.create(), steps)


def test_a_device_that_cannot_leave_partition_mode_is_not_had_whole(site: Site) -> None:
    site.write(model="a100-80gb", partitions={})
    with pytest.raises(Unsupported, match=f"{ADDRESS} is in partition mode, and partition mode of this model"):
        site.create().plan([site.aim_whole()])


@pytest.mark.parametrize(
    ("profile", "placement", "told"),
    [("1g.11gb", 0, "profile: '1g.11gb' is not allowed; allowed: 1g.10gb, "), ("3g.40gb", 2, "3g.40gb: placement: 2")],
)
def test_a_place_that_does_not_exist_is_refused(site: Site, profile: str, placement: int, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        site.create().plan([site.aim(profile, placement)])


def test_a_device_whose_mode_takes_a_reset_offers_no_partitions(site: Site) -> None:
    site.write(model="a100-80gb")
    with pytest.raises(Unsupported, match=f"{ADDRESS} is not in partition mode, and partition mode of this model"):
        site.create().plan([site.aim()])
    site.write(model="a100-80gb", partitions={})
    (step,) = site.create().plan([site.aim()])
    assert step.name == PARTITION, "the mode is as it must be and cannot be switched"
    run(site.create(), [step])
    assert site.list_partitions() == ["1g.10gb@2"]


def test_a_mode_that_can_no_longer_be_switched_refuses_the_step(site: Site) -> None:
    steps = site.create().plan([site.aim()])
    site.write(pendingMode="enabled")
    with pytest.raises(StepRefused, match="requires a reset: partition mode is to be enabled"):
        run(site.create(), steps)


def test_a_device_that_is_gone(site: Site) -> None:
    target = site.aim()
    done = run(site.create(), site.create().plan([target]))
    site.write(model="t4")
    vendor = site.create()
    with pytest.raises(Unsupported, match=f"{ADDRESS} is not there or cannot be partitioned"):
        vendor.plan([target])
    for step in done:
        with pytest.raises(StepRefused, match=f"{ADDRESS} is not there"):
            vendor.run(step, ())
    undo(vendor, done)


def test_a_device_that_fails_keeps_its_partition_until_it_answers(site: Site) -> None:
    done = run(site.create(), site.create().plan([site.aim()]))
    site.write(failure="it does not answer")
    with pytest.raises(StepFailed, match=f"step partition: {ADDRESS}: it does not answer"):
        undo(site.create(), done)
    site.write()
    undo(site.create(), done)
    assert site.list_partitions() == []


def test_a_creation_that_the_hardware_refuses_changes_nothing(site: Site) -> None:
    vendor = site.create()
    mode, part = vendor.plan([site.aim()])
    site.write(faults={"create-gpu-instance": "insufficient resources"})
    vendor.run(mode, ())
    with pytest.raises(StepRefused, match="insufficient resources"):
        vendor.run(part, ())
    assert site.list_begun() == []
    make_at = site.aim(claim="admin")
    site.write()
    make_foreign(site, make_at.partition.profile if make_at.partition else "", 2)
    vendor.undo(part)
    assert site.list_partitions() == ["1g.10gb@2"], "what came later is not the step's"


def test_a_profile_without_engines_left_is_refused(site: Site) -> None:
    make_foreign(site, "1g.10gb+me", 0)
    with pytest.raises(StepRefused, match="0 ofa engines are left"):
        run(site.create(), site.create().plan([site.aim("1g.10gb+me", 1)]))


def test_half_of_a_partition_is_reported_and_undone(site: Site) -> None:
    site.write(faults={"create-compute-instance": "an unknown error"})
    vendor = site.create()
    steps = vendor.plan([site.aim()])
    with pytest.raises(StepFailed, match="an unknown error") as failed:
        run(vendor, steps)
    assert not isinstance(failed.value, StepRefused), "something was done"
    (failure,) = vendor.snapshot().failures
    assert failure.pci_address == ADDRESS
    assert failure.reason == "GPU instance 1 has no compute instance: 1g.10gb at 2 (without compute instance)"
    assert vendor.snapshot().accelerators[0].partitions == ()
    undo(vendor, steps)
    assert (site.list_partitions(), site.list_begun()) == ([], [])
    assert not vendor.snapshot().accelerators[0].partitioned


def test_half_of_a_partition_of_others_is_in_the_way(site: Site) -> None:
    vendor = site.create()
    chip = vendor.look().chips[ADDRESS]
    with vendor.instances.open(chip) as gpu:
        gpu.switch_mode(enabled=True)
        gpu.create_gpu_instance(get(chip.find_profile("1g.10gb")), 2)
    steps = vendor.plan([site.aim()])
    with pytest.raises(StepRefused, match=r"1g\.10gb at 2 \(without compute instance\) is in the way"):
        run(vendor, steps)
    undo(vendor, steps)
    assert site.list_partitions() == ["1g.10gb@2"]


def test_what_another_made_since_the_step_was_planned_is_not_its_own(site: Site) -> None:
    """Written down, then the plugin is away; meanwhile an administrator makes the same partition at the same place."""
    steps = site.create().plan([site.aim()])
    make_foreign(site, "1g.10gb", 2)
    undo(site.create(), steps)
    assert site.list_partitions() == ["1g.10gb@2"]


def test_what_another_made_at_the_place_of_a_killed_run_is_not_its_own(site: Site) -> None:
    vendor = site.create()
    steps = vendor.plan([site.aim()])
    run(vendor, steps)
    with vendor.instances.open(vendor.look().chips[ADDRESS]) as gpu:
        destroy(gpu, 1)
    make_foreign(site, "1g.10gb", 2)
    undo(site.create(), steps)
    assert site.list_partitions() == ["1g.10gb@2"]


def destroy(gpu: Gpu, number: int) -> None:
    gpu.destroy_compute_instance(number)
    gpu.destroy_gpu_instance(number)


def test_what_has_begun_for_one_claim_is_not_undone_for_another(site: Site) -> None:
    vendor = site.create()
    other = vendor.plan([site.aim(claim="claim-2")])
    done = run(vendor, vendor.plan([site.aim()]))
    undo(vendor, other[1:])
    assert site.list_partitions() == ["1g.10gb@2"]
    undo(vendor, done)
    assert site.list_begun() == []


def test_after_a_boot_there_is_nothing_to_undo_and_all_to_do(site: Site) -> None:
    done = run(site.create(), site.create().plan([site.aim()]))
    site.boot("boot-2")
    assert not site.create().snapshot().accelerators[0].partitioned
    undo(site.create(), done)
    assert (site.list_partitions(), site.list_begun()) == ([], [])
    again = run(site.create(), site.create().plan([site.aim()]))
    site.boot("boot-3")
    anew = run(site.create(), again)
    assert anew[1].facts["uuid"] != again[1].facts["uuid"]
    assert site.list_partitions() == ["1g.10gb@2"]


def test_a_mode_that_does_not_go_back_is_told(site: Site) -> None:
    done = run(site.create(), site.create().plan([site.aim()]))
    site.write(faults={"switch-mode": "in use by another client"})
    with pytest.raises(StepFailed, match=f"step partition-mode: {ADDRESS}: in use by another client"):
        undo(site.create(), done)
    site.write()
    undo(site.create(), done)
    assert not site.create().snapshot().accelerators[0].partitioned


def test_a_disk_that_does_not_take_the_state_is_told(site: Site) -> None:
    steps = site.create().plan([site.aim()])
    (site.folder / "state").write_text("in the way")
    for step in steps:
        with pytest.raises(StepFailed, match=f"step {step.name}: .*Not a directory"):
            site.create().run(step, ())


def test_every_place_of_a_device_can_be_had(site: Site) -> None:
    vendor = site.create()
    for profile in vendor.snapshot().accelerators[0].profiles:
        for placement in profile.placements:
            done = run(vendor, vendor.plan([site.aim(profile.name, placement)]))
            assert site.list_partitions() == [f"{profile.name}@{placement}"]
            assert [step.name for step in done if "uuid" in step.facts] == [PARTITION]
            undo(vendor, done)
    assert site.list_partitions() == []


def test_a_state_that_cannot_be_read_is_no_empty_device(site: Site) -> None:
    run(site.create(), site.create().plan([site.aim()]))
    (folder,) = (site.folder / "state" / "simulated" / "instances").iterdir()
    folder.rename(folder.with_name("away"))
    folder.write_text("in the way")
    with pytest.raises(Unavailable, match=r"0000-1b-00\.0/lock cannot be read: Not a directory"):
        site.create().snapshot()
