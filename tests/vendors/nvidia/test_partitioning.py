"""MIG devices on demand: made at exactly one place, removed again, others' left alone, whatever happens meanwhile."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec
import pynvml
import pytest

from driver.contract import Target
from driver.model.devices import Accelerator, Partition
from driver.model.errors import InvalidInput, StepFailed, StepRefused, Unavailable, Unsupported
from driver.model.prepared import PARTITION, PARTITION_MODE, Step
from driver.vendors.nvidia.vendor import Nvidia
from tests.fakes.nvml.calls import Refused
from tests.fakes.nvml.hardware import FakeGpu, FakeInstance
from tests.fakes.nvml.tree import capability_minor
from tests.vendors.machines import Killed
from tests.vendors.nvidia.conftest import Build
from tests.vendors.nvidia.machine import Rig

IN_USE = pynvml.NVML_ERROR_IN_USE
UNKNOWN = pynvml.NVML_ERROR_UNKNOWN


def aim(gpu: Accelerator, profile: str, placement: int, *, admin_access: bool = False) -> Target:
    """Return a target for a partition that does not exist yet."""
    shape = next((each for each in gpu.profiles if each.name == profile), None)
    part = Partition(
        profile=profile,
        placement=placement,
        subplacement=None,
        uuid=None,
        memory_bytes=shape.memory_bytes if shape else None,
        multiprocessors=None,
        size=shape.size if shape else None,
    )
    name = f"{gpu.pci_address}-{profile}-{placement}"
    return Target(name, gpu, part, admin_access=admin_access, share_id=None, claim="claim-1")


def whole(gpu: Accelerator, *, admin_access: bool = False) -> Target:
    return Target(gpu.pci_address, gpu, None, admin_access=admin_access, share_id=None)


def look(vendor: Nvidia, index: int = 0) -> Accelerator:
    return vendor.snapshot().accelerators[index]


def run(vendor: Nvidia, steps: Sequence[Step]) -> list[Step]:
    done: list[Step] = []
    for step in steps:
        done.append(vendor.run(step, tuple(done)))
    return done


def undo(vendor: Nvidia, steps: Sequence[Step]) -> None:
    for step in reversed(steps):
        vendor.undo(step)


def shape(gpu: FakeGpu) -> list[tuple[str, int, int | None]]:
    """Return what is on a GPU: profile, place, and the id of the compute instance."""
    return sorted((each.profile, each.start, each.compute_instance) for each in gpu.instances)


def stand(rig: Rig) -> object:
    """Return all that steps may change, but for identities."""
    return [(gpu.mig, gpu.pending, shape(gpu)) for gpu in rig.node.gpus]


def test_a_partition_is_made_at_its_place_and_removed(rig: Rig) -> None:
    """Mode off, mode on, instance; and back. The answer carries all that undoing and edits need."""
    vendor, before = rig.create(), stand(rig)
    gpu = look(vendor)
    steps = vendor.plan([aim(gpu, "2g.20gb", 4)])
    assert stand(rig) == before, "planning changes nothing"
    assert steps == (
        Step(
            name=PARTITION_MODE,
            arguments={"pciAddress": "0000:1b:00.0", "mode": "on"},
            facts={"before": "off"},
            key="partition-mode/0000:1b:00.0",
        ),
        Step(
            name=PARTITION,
            arguments={
                "pciAddress": "0000:1b:00.0",
                "profile": "2g.20gb",
                "placement": "4",
                "size": "2",
                "gpuInstanceProfile": "14",
                "slices": "2",
            },
            facts={"present": "", "claim": "claim-1"},
            key="partition/0000:1b:00.0/2g.20gb/4",
        ),
    )
    done = run(vendor, steps)
    (made,) = rig.node.gpus[0].instances
    assert (made.profile, made.start, made.gpu_instance, made.compute_instance) == ("2g.20gb", 4, 1, 0)
    assert done[1].facts == {
        "present": "",
        "claim": "claim-1",
        "uuid": made.uuid,
        "gpuInstance": "1",
        "computeInstance": "0",
        "minor": "0",
    }
    undo(vendor, done)
    assert stand(rig) == before


def test_edits_come_from_what_the_step_has_learnt(rig: Rig) -> None:
    vendor = rig.create()
    target = aim(look(vendor), "1g.10gb", 2)
    done = run(vendor, vendor.plan([target]))
    rig.library.calls.clear()
    nodes = [node.path for node in vendor.prepare([target], done).devices[target.key].device_nodes]
    caps = [f"/dev/nvidia-caps/nvidia-cap{capability_minor(0, 1, part)}" for part in (None, 0)]
    assert nodes == ["/dev/nvidia0", *caps]
    assert rig.library.calls == [], "the library is not needed for it"
    with pytest.raises(Unavailable, match="its MIG device has not been made"):
        vendor.prepare([target])


def test_a_minor_number_that_changes_with_the_mode_is_read_again(rig: Rig) -> None:
    vendor = rig.create()
    target = aim(look(vendor), "1g.10gb", 2)
    steps = vendor.plan([target])
    rig.node.gpus[0].minor = 11
    rig.tree.sync()
    done = run(vendor, steps)
    nodes = [node.path for node in vendor.prepare([target], done).devices[target.key].device_nodes]
    assert nodes[0] == "/dev/nvidia11"


def test_seven_claims_share_a_gpu_and_the_last_switches_it_back(rig: Rig) -> None:
    vendor, before = rig.create(), stand(rig)
    claims = []
    for start in range(7):
        planned = vendor.plan([aim(look(vendor), "1g.10gb", start)])
        claims.append(run(vendor, planned))
    assert shape(rig.node.gpus[0]) == [("1g.10gb", start, 0) for start in range(7)]
    assert len({done[1].facts["uuid"] for done in claims}) == 7
    assert [done[0].facts["before"] for done in claims] == ["off"] + ["on"] * 6, "the first one's is kept for the last"
    for done in claims[1:]:
        vendor.undo(done[1])
        assert rig.node.gpus[0].mig is True
    undo(vendor, claims[0])
    assert stand(rig) == before


def test_one_claim_with_several_partitions_of_two_gpus(rig: Rig) -> None:
    vendor, before = rig.create(), stand(rig)
    one, two = look(vendor, 0), look(vendor, 3)
    targets = [aim(one, "3g.40gb", 0), aim(two, "7g.80gb", 0), aim(one, "3g.40gb", 4)]
    steps = vendor.plan(targets)
    assert [step.name for step in steps] == [PARTITION_MODE, PARTITION, PARTITION, PARTITION_MODE, PARTITION]
    done = run(vendor, steps)
    assert shape(rig.node.gpus[0]) == [("3g.40gb", 0, 0), ("3g.40gb", 4, 0)]
    assert shape(rig.node.gpus[3]) == [("7g.80gb", 0, 0)]
    assert len(vendor.prepare(targets, done).devices) == 3
    undo(vendor, done)
    assert stand(rig) == before


def test_an_older_gpu_that_is_in_mig_mode_needs_no_switch(build: Build) -> None:
    rig = build("a100-mig")
    vendor, before = rig.create(), stand(rig)
    steps = vendor.plan([aim(look(vendor, 2), "3g.40gb", 4)])
    assert [step.name for step in steps] == [PARTITION]
    done = run(vendor, steps)
    assert shape(rig.node.gpus[2]) == [("3g.40gb", 4, 0)]
    undo(vendor, done)
    assert stand(rig) == before


def test_what_cannot_be_switched_is_not_planned(build: Build) -> None:
    rig = build("a100-mig")
    vendor = rig.create()
    with pytest.raises(Unsupported, match="switched with a reset of the GPU"):
        vendor.plan([aim(look(vendor, 3), "3g.40gb", 4)])
    with pytest.raises(Unsupported, match="switched with a reset of the GPU"):
        vendor.plan([whole(look(vendor, 2))])


@pytest.mark.parametrize(("profile", "placement"), [("9g.90gb", 0), ("2g.20gb", 1), ("3g.40gb", 8)])
def test_a_shape_that_the_gpu_does_not_have_is_named(rig: Rig, profile: str, placement: int) -> None:
    vendor = rig.create()
    with pytest.raises(InvalidInput, match=profile if profile == "9g.90gb" else f"placement: {placement}"):
        vendor.plan([aim(look(vendor), profile, placement)])


def test_administrative_access_changes_nothing(rig: Rig) -> None:
    vendor = rig.create()
    rig.node.gpus[0].mig = True
    gpu = look(vendor)
    assert vendor.plan([whole(gpu, admin_access=True)]) == ()
    with pytest.raises(InvalidInput, match="administrative access makes no partitions"):
        vendor.plan([aim(gpu, "1g.10gb", 0, admin_access=True)])


def test_nothing_is_asked_where_nothing_is_to_be_done(build: Build) -> None:
    """A plain claim costs no session with the library."""
    rig = build("a100-mig")
    vendor = rig.create()
    gpus = vendor.snapshot().accelerators
    existing = Target("x", gpus[0], gpus[0].partitions[0], admin_access=False, share_id=None)
    rig.library.calls.clear()
    assert vendor.plan([existing, whole(gpus[3])]) == ()
    assert rig.library.calls == []


def test_sessions_of_a_claim_are_one_to_plan_and_one_a_step(rig: Rig) -> None:
    vendor = rig.create()
    target = aim(look(vendor), "1g.10gb", 0)
    rig.loader.paths.clear()
    done = run(vendor, vendor.plan([target]))
    vendor.prepare([target], done)
    assert len(rig.loader.paths) == 3
    assert (rig.library.open, rig.loader.opened) == (0, 0)


# -- others' instances ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [4, 5])
def test_what_others_made_is_named_and_stays(rig: Rig, start: int) -> None:
    vendor = rig.create()
    rig.node.gpus[0].mig = True
    foreign = FakeInstance.make(rig.node.gpus[0], "1g.10gb", start)
    before = stand(rig)
    steps = vendor.plan([aim(look(vendor), "2g.20gb", 4)])
    assert steps[1].facts == {"present": foreign.uuid, "claim": "claim-1"}
    vendor.run(steps[0], ())
    with pytest.raises(StepRefused) as caught:
        vendor.run(steps[1], steps[:1])
    assert str(caught.value) == (
        f"step partition: GPU 0000:1b:00.0 has no room for 2g.20gb at memory slice 4: "
        f"GPU instance 40 ({foreign.uuid}) is on memory slices {start} to {start}, not made for this claim"
    )
    undo(vendor, steps)
    assert stand(rig) == before


@pytest.mark.parametrize("bare", [True, False])
def test_the_very_same_shape_that_was_there_before_is_anothers(rig: Rig, bare: bool) -> None:
    """Exactly this profile at exactly this place: only that it was there when the step was planned tells it apart."""
    vendor = rig.create()
    rig.node.gpus[0].mig = True
    FakeInstance.make(rig.node.gpus[0], "2g.20gb", 4, bare=bare)
    before = stand(rig)
    steps = vendor.plan([aim(look(vendor), "2g.20gb", 4)])
    with pytest.raises(StepRefused, match="no MIG device" if bare else "MIG-admin-0-40"):
        run(vendor, steps)
    undo(vendor, steps)
    assert stand(rig) == before


def test_an_id_that_was_given_out_again_is_not_ours(rig: Rig) -> None:
    vendor = rig.create()
    done = run(vendor, vendor.plan([aim(look(vendor), "2g.20gb", 4)]))
    gpu = rig.node.gpus[0]
    gpu.instances.clear()
    other = dataclasses.replace(FakeInstance.make(gpu, "2g.20gb", 4), gpu_instance=1)
    gpu.instances[:] = [other]
    undo(vendor, done)
    assert gpu.instances == [other]
    assert gpu.mig is True, "it is in use by others"


def test_a_gpu_instance_that_somebody_divided_is_not_ours(rig: Rig) -> None:
    vendor = rig.create()
    steps = vendor.plan([aim(look(vendor), "2g.20gb", 4)])
    gpu = rig.node.gpus[0]
    gpu.mig = True
    first = FakeInstance.make(gpu, "2g.20gb", 4)
    gpu.instances.append(dataclasses.replace(first, slot=1, compute_instance=1, uuid="MIG-second"))
    vendor.undo(steps[1])
    assert len(gpu.instances) == 2


@pytest.mark.parametrize("users", [[], [4711]])
def test_the_very_same_shape_that_came_after_the_plan_is_anothers(rig: Rig, users: list[int]) -> None:
    """No file says that making it has begun."""
    vendor = rig.create()
    steps = vendor.plan([aim(look(vendor), "2g.20gb", 4)])
    gpu = rig.node.gpus[0]
    gpu.mig = True
    FakeInstance.make(gpu, "2g.20gb", 4).processes.extend(users)
    with pytest.raises(StepRefused, match="has no room"):
        vendor.run(steps[1], ())
    vendor.undo(steps[1])
    assert len(gpu.instances) == 1


def test_what_another_claim_has_begun_is_anothers(rig: Rig) -> None:
    vendor = rig.create()
    target = aim(look(vendor), "2g.20gb", 4)
    run(vendor, vendor.plan([target]))
    steps = vendor.plan([dataclasses.replace(target, claim="claim-2")])
    with pytest.raises(StepRefused, match="has no room"):
        vendor.run(steps[1], ())
    vendor.undo(steps[1])
    assert len(rig.node.gpus[0].instances) == 1


def test_what_was_begun_and_is_in_use_by_now_is_left_alone(rig: Rig) -> None:
    """The process ended before it knew what it had made; whoever computes there now is no container of ours."""
    vendor = rig.create()
    steps = vendor.plan([aim(look(vendor), "2g.20gb", 4)])
    vendor.run(steps[0], ())
    with kill_before(rig, "nvmlDeviceGetMinorNumber"):
        rig.create().run(steps[1], ())
    rig.node.gpus[0].instances[0].processes.append(4711)
    rig.create().undo(steps[1])
    assert len(rig.node.gpus[0].instances) == 1


@contextmanager
def kill_before(rig: Rig, call: str) -> Iterator[None]:
    """Let the process end before this call has an effect."""

    def end(*_arguments: object) -> None:
        raise Killed(call)

    rig.library.replaced[call] = end
    with pytest.raises(Killed):
        yield
    rig.library.replaced.clear()


def test_a_folder_that_cannot_be_written_refuses_the_step(rig: Rig) -> None:
    (rig.tree.folder / "state").write_text("not a folder")
    vendor, before = rig.create(), stand(rig)
    steps = vendor.plan([aim(look(vendor), "2g.20gb", 4)])
    with pytest.raises(StepFailed, match="cannot be written"):
        run(vendor, steps)
    undo(vendor, steps)
    assert stand(rig) == before


def test_a_file_that_was_damaged_is_no_file(rig: Rig) -> None:
    vendor, before = rig.create(), stand(rig)
    done = run(vendor, vendor.plan([aim(look(vendor), "2g.20gb", 4)]))
    (file,) = (rig.tree.folder / "state/nvidia/partitions").iterdir()
    file.write_bytes(b'{"claim": 3}')
    undo(vendor, done)
    assert stand(rig) == before, "the record knows the UUID"


def test_nothing_is_kept_of_what_was_undone(rig: Rig) -> None:
    vendor = rig.create()
    done = run(vendor, vendor.plan([aim(look(vendor), "2g.20gb", 4)]))
    folder = rig.tree.folder / "state/nvidia/partitions"
    assert [path.name for path in folder.iterdir()] == ["0000-1b-00.0-2g.20gb-4"]
    undo(vendor, done)
    assert list(folder.iterdir()) == []


def test_shares_of_a_whole_gpu_count_each(rig: Rig) -> None:
    vendor = rig.create()
    share = dataclasses.replace(whole(look(vendor)), share_id="a")
    (step,) = vendor.plan([share])
    assert (step.key, step.arguments["mode"]) == ("partition-mode/0000:1b:00.0", "off")
    undo(vendor, run(vendor, [step]))


def test_a_gpu_instance_that_nobody_can_use_is_told(build: Build) -> None:
    rig = build("a100-mig")
    FakeInstance.make(rig.node.gpus[2], "2g.20gb", 4, bare=True)
    (failure,) = rig.create().snapshot().failures
    expected = "GPU instance 40 (no MIG device) is on memory slices 4 to 5, and takes its room"
    assert (failure.pci_address, failure.reason) == (rig.node.gpus[2].address, expected)


def test_engines_that_are_used_up_are_a_reason_too(rig: Rig) -> None:
    """NVML does not say what is missing: the message tells what is there."""
    vendor = rig.create()
    run(vendor, vendor.plan([aim(look(vendor), "4g.40gb", 0)]))
    rig.node.gpus[0].profiles = tuple(
        dataclasses.replace(each, multiprocessors=100) if each.name == "3g.40gb" else each
        for each in rig.node.gpus[0].profiles
    )
    before = stand(rig)
    steps = vendor.plan([aim(look(vendor), "3g.40gb", 4)])
    with pytest.raises(StepRefused, match=r"takes no 3g\.40gb at memory slice 4.*GPU instance 1 \(MIG-"):
        run(vendor, steps)
    assert stand(rig) == before


# -- modes ------------------------------------------------------------------------------------------------------------


def test_a_gpu_in_mig_mode_is_made_whole_and_put_back(rig: Rig) -> None:
    rig.node.gpus[0].mig = True
    vendor, before = rig.create(), stand(rig)
    target = whole(look(vendor))
    (step,) = vendor.plan([target])
    assert (step.name, step.arguments["mode"], step.facts) == (PARTITION_MODE, "off", {"before": "on"})
    done = run(vendor, [step])
    assert rig.node.gpus[0].mig is False
    assert [node.path for node in vendor.prepare([target], done).devices[target.key].device_nodes] == ["/dev/nvidia0"]
    undo(vendor, done)
    assert stand(rig) == before


def test_a_gpu_with_instances_is_not_made_whole(rig: Rig) -> None:
    vendor = rig.create()
    rig.node.gpus[0].mig = True
    FakeInstance.make(rig.node.gpus[0], "1g.10gb", 3)
    before = stand(rig)
    steps = vendor.plan([whole(look(vendor))])
    with pytest.raises(StepRefused, match=r"is wanted whole, but GPU instance 40 \(MIG-admin-0-40\)"):
        run(vendor, steps)
    undo(vendor, steps)
    assert stand(rig) == before


def test_a_gpu_that_is_in_use_is_not_switched_and_nothing_stays_pending(rig: Rig) -> None:
    vendor, before = rig.create(), stand(rig)
    steps = vendor.plan([aim(look(vendor), "1g.10gb", 0)])
    rig.node.gpus[0].clients = [4711, 12]
    with pytest.raises(StepRefused) as caught:
        vendor.run(steps[0], ())
    assert str(caught.value) == (
        "step partition-mode: GPU 0000:1b:00.0: MIG mode cannot be switched on now: the GPU is in use, by processes "
        "12, 4711 (nvmlDeviceSetMigMode: fake error 19 (NVML error 19))"
    )
    assert stand(rig) == before
    rig.node.gpus[0].clients.clear()
    assert look(vendor).partition_fault is None, "it can be switched, while it is idle"
    run(vendor, steps)


def test_who_lets_go_in_time_is_waited_for(rig: Rig) -> None:
    vendor = rig.create()
    steps = vendor.plan([aim(look(vendor), "1g.10gb", 0)])
    rig.node.gpus[0].clients = [4711]
    rig.pauses = Waits(rig.node.gpus[0].clients.clear)
    rig_vendor = rig.create()
    run(rig_vendor, steps)
    assert rig.node.gpus[0].mig is True


class Waits(list[float]):
    """Seconds that were waited; something happens meanwhile."""

    def __init__(self, happens: Callable[[], None]) -> None:
        super().__init__()
        self._happens = happens

    def append(self, seconds: float) -> None:
        """Wait."""
        super().append(seconds)
        self._happens()


def test_a_gpu_that_needs_a_reset_is_not_offered_any_more(rig: Rig) -> None:
    """As in virtual machines with a GPU passed through: NVML tells it only when it is tried."""
    vendor, before = rig.create(), stand(rig)
    steps = vendor.plan([aim(look(vendor), "1g.10gb", 0)])
    fingerprint = vendor.fingerprint()
    rig.node.gpus[0].needs_reset = True
    with pytest.raises(StepRefused, match="only with a reset of the GPU, or a restart of its virtual machine"):
        vendor.run(steps[0], ())
    assert stand(rig) == before
    assert vendor.fingerprint() != fingerprint
    assert "only with a reset" in (look(vendor).partition_fault or "")
    assert look(vendor, 1).partition_fault is None
    with pytest.raises(Unsupported, match="only with a reset"):
        vendor.plan([aim(look(vendor), "1g.10gb", 0)])
    rig.node.gpus[0].mig = True
    assert look(vendor).partition_fault is None, "somebody has switched it: it is tried again"


def test_a_mode_that_nvml_only_claims_to_have_switched(rig: Rig) -> None:
    vendor = rig.create()
    steps = vendor.plan([aim(look(vendor), "1g.10gb", 0)])
    rig.library.replaced["nvmlDeviceSetMigMode"] = lambda _gpu, _mode, _status: None
    with pytest.raises(StepRefused, match="NVML says that MIG mode was switched on, and that it is not"):
        vendor.run(steps[0], ())


def test_a_mode_that_is_pending_since_is_told(rig: Rig) -> None:
    vendor = rig.create()
    steps = vendor.plan([aim(look(vendor), "1g.10gb", 0)])
    rig.node.gpus[0].needs_reset = True
    rig.library.replaced["nvmlDeviceSetMigMode"] = rig.only_once("nvmlDeviceSetMigMode", then=UNKNOWN)
    with pytest.raises(StepFailed) as caught:
        vendor.run(steps[0], ())
    assert not isinstance(caught.value, StepRefused), "a mode is pending: it has to be undone"
    assert "which is pending" in (look(vendor).partition_fault or "")


def test_a_gpu_that_falls_silent_after_it_was_switched_is_switched_back(rig: Rig) -> None:
    vendor, before = rig.create(), stand(rig)
    steps = vendor.plan([aim(look(vendor), "1g.10gb", 0)])
    rig.library.replaced["nvmlDeviceGetMinorNumber"] = rig.only_once(
        "nvmlDeviceGetMinorNumber", first=UNKNOWN, then=None
    )
    with pytest.raises(StepFailed, match="was switched and does not answer") as caught:
        vendor.run(steps[0], ())
    assert not isinstance(caught.value, StepRefused)
    vendor.undo(steps[0])
    assert stand(rig) == before


@pytest.mark.parametrize("call", ["nvmlDeviceGetMigMode", "nvmlDeviceGetComputeRunningProcesses_v3"])
def test_questions_that_fail_on_the_way_do_not_hide_why_a_mode_was_not_switched(rig: Rig, call: str) -> None:
    vendor, before = rig.create(), stand(rig)
    steps = vendor.plan([aim(look(vendor), "1g.10gb", 0)])
    rig.node.gpus[0].clients = [4711]
    if call == "nvmlDeviceGetMigMode":
        # asked before each of three tries, and once for the reason
        codes = iter([None, None, None, UNKNOWN])
        real = rig.library.function(call)

        def answer(*arguments: object) -> bytes | None:
            code = next(codes, None)
            if code is not None:
                raise Refused(code)
            return real(*arguments)

        rig.library.replaced[call] = answer
    else:
        rig.node.gpus[0].errors[call] = UNKNOWN
    with pytest.raises(StepFailed, match="the GPU is in use"):
        vendor.run(steps[0], ())
    rig.node.gpus[0].errors.clear()
    vendor.undo(steps[0])
    assert stand(rig) == before


@pytest.mark.parametrize("obstacle", ["clients", "needs_reset"])
def test_a_mode_that_cannot_be_switched_back_keeps_no_pod_waiting(rig: Rig, obstacle: str) -> None:
    vendor = rig.create()
    done = run(vendor, vendor.plan([aim(look(vendor), "1g.10gb", 0)]))
    setattr(rig.node.gpus[0], obstacle, [4711] if obstacle == "clients" else True)
    undo(vendor, done)
    assert (rig.node.gpus[0].mig, rig.node.gpus[0].pending, rig.node.gpus[0].instances) == (True, None, [])
    assert look(vendor).profiles, "it is as usable as before"


def test_a_partition_that_finds_the_mode_switched_off_is_refused(rig: Rig) -> None:
    vendor = rig.create()
    steps = vendor.plan([aim(look(vendor), "1g.10gb", 0)])
    with pytest.raises(StepRefused, match="MIG mode is off"):
        vendor.run(steps[1], ())


# -- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        "nvmlGpuInstanceGetComputeInstanceProfileInfo",
        "nvmlGpuInstanceCreateComputeInstance",
        "nvmlComputeInstanceGetInfo_v2",
        "nvmlDeviceGetUUID",
        "nvmlDeviceGetMinorNumber",
    ],
)
def test_a_gpu_instance_whose_compute_instance_fails_is_taken_back(rig: Rig, call: str) -> None:
    vendor = rig.create()
    steps = vendor.plan([aim(look(vendor), "2g.20gb", 4)])
    vendor.run(steps[0], ())
    before = stand(rig)
    rig.library.replaced[call] = rig.only_once(call, then=None, first=UNKNOWN)
    with pytest.raises(StepRefused, match=f"GPU 0000:1b:00.0: {call.removesuffix('_v2')}"):
        vendor.run(steps[1], steps[:1])
    assert stand(rig) == before


def test_what_cannot_be_taken_back_is_left_to_undo(rig: Rig) -> None:
    vendor = rig.create()
    before = stand(rig)
    steps = vendor.plan([aim(look(vendor), "2g.20gb", 4)])
    vendor.run(steps[0], ())
    rig.node.gpus[0].errors = {"nvmlGpuInstanceCreateComputeInstance": UNKNOWN, "nvmlGpuInstanceDestroy": UNKNOWN}
    with pytest.raises(StepFailed, match="what was begun could not be removed") as caught:
        vendor.run(steps[1], steps[:1])
    assert not isinstance(caught.value, StepRefused)
    with pytest.raises(StepFailed, match="nvmlGpuInstanceDestroy"):
        vendor.undo(steps[1])
    rig.node.gpus[0].errors.clear()
    undo(rig.create(), steps)
    assert stand(rig) == before


def test_capabilities_that_come_late_are_waited_for(rig: Rig) -> None:
    late = rig.library.changed
    rig.library.changed = lambda: None
    rig.pauses = Waits(late)
    vendor = rig.create()
    target = aim(look(vendor), "1g.10gb", 0)
    done = run(vendor, vendor.plan([target]))
    assert len(rig.pauses) == 1
    assert len(vendor.prepare([target], done).devices[target.key].device_nodes) == 3


def test_capabilities_that_never_come_fail_the_step_and_leave_nothing(rig: Rig) -> None:
    rig.library.changed = lambda: None
    vendor, before = rig.create(), stand(rig)
    steps = vendor.plan([aim(look(vendor), "1g.10gb", 0)])
    vendor.run(steps[0], ())
    with pytest.raises(StepRefused, match="has no capability gpu0/mig/gi1/access"):
        vendor.run(steps[1], steps[:1])
    assert sum(rig.pauses) < 2
    vendor.undo(steps[0])
    assert stand(rig) == before


def test_a_partition_that_is_in_use_names_the_processes_and_is_tried_again(rig: Rig) -> None:
    vendor, before = rig.create(), stand(rig)
    done = run(vendor, vendor.plan([aim(look(vendor), "1g.10gb", 6)]))
    rig.node.gpus[0].instances[0].processes = [31, 7]
    with pytest.raises(StepFailed, match=r"1g\.10gb at memory slice 6 is in use by processes 7, 31: .*NVML error 19"):
        undo(vendor, done)
    rig.node.gpus[0].instances[0].processes.clear()
    undo(vendor, done)
    assert stand(rig) == before


def test_a_destruction_that_stopped_half_way_goes_on(rig: Rig) -> None:
    """The compute instance is gone, and its UUID with it; the GPU instance was in use by another client."""
    vendor, before = rig.create(), stand(rig)
    done = run(vendor, vendor.plan([aim(look(vendor), "1g.10gb", 6)]))
    rig.node.gpus[0].errors["nvmlGpuInstanceDestroy"] = IN_USE
    with pytest.raises(StepFailed, match="is in use"):
        undo(vendor, done)
    assert shape(rig.node.gpus[0]) == [("1g.10gb", 6, None)]
    rig.node.gpus[0].errors.clear()
    undo(rig.create(), done)
    assert stand(rig) == before


def test_the_driver_away_is_told_and_tried_again(rig: Rig) -> None:
    vendor = rig.create()
    steps = vendor.plan([aim(look(vendor), "1g.10gb", 0)])
    rig.library.errors["nvmlInitWithFlags"] = pynvml.NVML_ERROR_DRIVER_NOT_LOADED
    with pytest.raises(StepRefused, match="Driver Not Loaded"):
        vendor.run(steps[0], ())
    with pytest.raises(StepFailed, match="Driver Not Loaded"):
        vendor.undo(steps[1])


def test_a_gpu_that_left_took_its_partitions_along(rig: Rig) -> None:
    vendor = rig.create()
    done = run(vendor, vendor.plan([aim(look(vendor), "1g.10gb", 0)]))
    rig.unload()
    undo(vendor, done)
    rig.library.errors.clear()
    rig.tree.load()
    rig.tree.unplug(rig.node.gpus[0].address)
    undo(vendor, done)


def test_a_gpu_that_was_reset_has_nothing_left_to_undo(rig: Rig) -> None:
    vendor = rig.create()
    done = run(vendor, vendor.plan([aim(look(vendor), "1g.10gb", 0)]))
    rig.node.gpus[0].mig = False
    rig.node.gpus[0].reset()
    before = stand(rig)
    undo(vendor, done)
    assert stand(rig) == before


def test_a_step_that_was_run_is_found_done_also_by_a_later_process(rig: Rig) -> None:
    vendor = rig.create()
    steps = vendor.plan([aim(look(vendor), "1g.10gb", 0)])
    done = run(vendor, steps)
    assert run(vendor, steps) == run(rig.create(), steps) == run(rig.create(), done) == done
    assert len(rig.node.gpus[0].instances) == 1


def test_steps_survive_being_written_down(rig: Rig) -> None:
    vendor, before = rig.create(), stand(rig)
    steps = vendor.plan([aim(look(vendor), "1g.10gb", 0)])
    done = run(vendor, steps)
    undo(rig.create(), msgspec.json.decode(msgspec.json.encode(done), type=list[Step]))
    assert stand(rig) == before


def test_a_step_of_a_newer_version_is_not_guessed_at(rig: Rig) -> None:
    with pytest.raises(Unsupported, match="step tune is unknown"):
        rig.create().undo(Step(name="tune"))
