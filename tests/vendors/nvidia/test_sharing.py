"""Sharing of NVIDIA devices: compute mode, time-slice, MPS, with programs that act as those of the driver."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pynvml
import pytest

from driver.contract import Target
from driver.daemons import processes
from driver.daemons.places import Place
from driver.model.devices import Partition
from driver.model.errors import InvalidInput, StepFailed, Unavailable, Unsupported
from driver.model.occurrences import DaemonStarted
from driver.model.prepared import PARTITION, ContainerEdits, Step
from driver.model.sharing import Interval, Sharing, Strategy
from tests.fakes.waiting import wait_until
from tests.vendors.nvidia.sharers import Shop

GIB = 1 << 30
MPS = Sharing(Strategy.MPS)
Open = Callable[..., Shop]


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Open]:
    shops: list[Shop] = []

    def make(node: str = "l40s", **options: bool) -> Shop:
        shops.append(Shop(tmp_path, node, **options))
        return shops[-1]

    yield make
    for shop in shops:
        shop.sweep()


@pytest.fixture
def shop(build: Open) -> Shop:
    return build()


def names(steps: list[Step]) -> list[str]:
    return [step.name for step in steps]


def host(edits: ContainerEdits, path: str) -> Path:
    """Return the host's folder behind a path of the container."""
    return next(Path(mount.host_path) for mount in edits.mounts if mount.container_path == path)


def test_what_is_not_shared_has_no_steps_and_no_edits(shop: Shop) -> None:
    steps, edits = shop.prepare(shop.target(), shop.target(1, Sharing()), shop.target(2, MPS, admin_access=True))
    assert steps == []
    assert set(map(repr, edits.values())) == {repr(ContainerEdits())}
    assert shop.rig.loader.paths.count(str(shop.rig.loader_path)) == 3, "only the looks of this test asked NVML"


def test_time_slicing_sets_what_nvidia_smi_calls_it_and_gives_it_back(shop: Shop) -> None:
    target = shop.target(0, Sharing(Strategy.TIME_SLICING, Interval.LONG))
    steps, edits = shop.prepare(target)
    uuid = target.accelerator.uuid
    assert [(step.name, step.key) for step in steps] == [
        ("compute-mode", f"compute-mode/{uuid}"),
        ("time-slice", f"time-slice/{uuid}"),
    ]
    assert edits["gpu-0"] == ContainerEdits()
    shop.unprepare(steps)
    assert shop.slices() == [f"compute-policy --id {uuid} --set-timeslice {number}" for number in (3, 0)]


@pytest.mark.parametrize(("interval", "number"), [("Default", 0), ("Short", 1), ("Medium", 2), ("Long", 3)])
def test_each_interval_has_its_number(shop: Shop, interval: str, number: int) -> None:
    shop.prepare(shop.target(0, Sharing(Strategy.TIME_SLICING, Interval(interval))))
    assert shop.slices()[0].endswith(f"--set-timeslice {number}")


def test_time_slicing_without_an_interval_leaves_the_interval(shop: Shop) -> None:
    steps, _ = shop.prepare(shop.target(0, Sharing(Strategy.TIME_SLICING)))
    assert names(steps) == ["compute-mode"]
    assert shop.slices() == []


def test_an_interval_that_the_gpu_does_not_take_fails_with_the_programs_words(shop: Shop) -> None:
    (shop.bin / "smi.refuses").touch()
    with pytest.raises(StepFailed) as caught:
        shop.prepare(shop.target(0, Sharing(Strategy.TIME_SLICING, Interval.SHORT)))
    assert str(caught.value) == (
        "step time-slice: nvidia-smi: exit status 3: Timeslice is not supported on this device."
    )


def test_processes_of_one_gpu_are_let_in_together_for_time_slicing_only(shop: Shop) -> None:
    """A GPU that an admin has left in exclusive mode would refuse the second container."""
    gpu = shop.rig.node.gpus[0]
    gpu.compute_mode = pynvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS
    steps, _ = shop.prepare(shop.target(0, Sharing(Strategy.TIME_SLICING)))
    assert gpu.compute_mode == pynvml.NVML_COMPUTEMODE_DEFAULT
    shop.unprepare(steps)
    assert gpu.compute_mode == pynvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS
    shop.unprepare(steps)
    assert gpu.compute_mode == pynvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS


def test_a_mode_that_somebody_else_has_set_since_is_left(shop: Shop) -> None:
    gpu = shop.rig.node.gpus[0]
    steps, _ = shop.prepare(shop.target(0, MPS))
    assert gpu.compute_mode == pynvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS
    gpu.compute_mode = pynvml.NVML_COMPUTEMODE_PROHIBITED
    shop.unprepare(steps)
    assert gpu.compute_mode == pynvml.NVML_COMPUTEMODE_PROHIBITED


def test_a_gpu_without_compute_modes_is_shared_without(shop: Shop) -> None:
    shop.rig.node.gpus[0].errors["nvmlDeviceGetComputeMode"] = pynvml.NVML_ERROR_NOT_SUPPORTED
    steps, _ = shop.prepare(shop.target(0, MPS))
    assert names(steps) == ["mps-daemon", "mps-limits"]
    shop.unprepare(steps)


def test_a_mode_that_may_not_be_set_is_a_failure(shop: Shop) -> None:
    shop.rig.node.gpus[0].errors["nvmlDeviceSetComputeMode"] = pynvml.NVML_ERROR_NO_PERMISSION
    with pytest.raises(StepFailed, match="step compute-mode: nvmlDeviceSetComputeMode: "):
        shop.prepare(shop.target(0, MPS))


@pytest.mark.parametrize("how", ["gone", "lost"])
def test_the_steps_of_a_gpu_that_is_no_more_can_be_undone(shop: Shop, how: str) -> None:
    target = shop.target(0, Sharing(Strategy.TIME_SLICING, Interval.LONG))
    steps, _ = shop.prepare(target)
    if how == "gone":
        del shop.rig.node.gpus[0]
    else:
        shop.rig.node.gpus[0].lose()
    (shop.bin / "smi.refuses").touch()
    shop.unprepare(steps)


def test_a_driver_that_is_away_cannot_say_what_to_plan(shop: Shop) -> None:
    target = shop.target(0, MPS)
    shop.rig.unload()
    with pytest.raises(Unavailable):
        shop.sharer.plan([target])


def test_mps_runs_one_daemon_with_the_limits_of_the_claim(shop: Shop) -> None:
    target = shop.target(0, Sharing(Strategy.MPS, None, 40, 2 * GIB))
    steps, edits = shop.prepare(target)
    assert names(steps) == ["compute-mode", "mps-daemon", "mps-limits"]
    assert [step.upkeep for step in steps] == [False, True, False]
    assert shop.rig.node.gpus[0].compute_mode == pynvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS
    assert shop.ask("claim-c1", "fake_environment") == f"{target.accelerator.uuid} ['-f']"
    assert shop.ask("claim-c1", "get_default_active_thread_percentage") == "40.0"
    assert shop.ask("claim-c1", "get_default_device_pinned_mem_limit 0") == "2048M"
    assert edits["gpu-0"].env == ("CUDA_MPS_PIPE_DIRECTORY=/tmp/nvidia-mps",)
    assert host(edits["gpu-0"], "/tmp/nvidia-mps") == shop.service.root / "claim-c1/pipe"
    assert host(edits["gpu-0"], "/dev/shm") == shop.service.root / "claim-c1/shm"
    assert shop.memory.mounted == {shop.service.root / "claim-c1/shm"}
    shop.unprepare(steps)
    assert shop.rig.node.gpus[0].compute_mode == pynvml.NVML_COMPUTEMODE_DEFAULT
    assert (shop.left(), shop.memory.mounted) == ([], set())
    shop.unprepare(steps)


def test_without_limits_the_daemon_is_told_of_none_but_all_threads(shop: Shop) -> None:
    steps, _ = shop.prepare(shop.target(0, MPS))
    heard = set(shop.ask("claim-c1", "fake_heard").split(" | "))
    assert heard == {
        "set_default_active_thread_percentage 100",
        "get_server_list",
        "get_default_active_thread_percentage",
    }
    shop.unprepare(steps)


def test_many_users_are_an_option_of_the_daemon(build: Open) -> None:
    shop = build(many_users=True)
    steps, _ = shop.prepare(shop.target(0, MPS))
    assert shop.ask("claim-c1", "fake_environment").endswith("['-f', '-M']")
    shop.unprepare(steps)


def test_the_whole_gpus_of_a_claim_have_one_daemon_together(shop: Shop) -> None:
    """A CUDA process speaks with one daemon only."""
    one, two = shop.target(0, Sharing(Strategy.MPS, None, 50, GIB)), shop.target(1, Sharing(Strategy.MPS, None, 50))
    steps, edits = shop.prepare(one, two)
    assert names(steps) == ["compute-mode", "compute-mode", "mps-daemon", "mps-limits"]
    uuids = f"{one.accelerator.uuid},{two.accelerator.uuid}"
    assert shop.ask("claim-c1", "fake_environment") == f"{uuids} ['-f']"
    assert shop.ask("claim-c1", "get_default_device_pinned_mem_limit 0") == "1024M"
    assert shop.ask("claim-c1", "get_default_device_pinned_mem_limit 1") == "46068M"
    assert edits["gpu-0"] == edits["gpu-1"], "they can be applied together"
    shop.unprepare(steps)


def test_gpus_that_could_be_shared_and_are_taken_as_a_whole_have_one_daemon_together(shop: Shop) -> None:
    """Where claims can have shares, a claim that leaves no room has a share id, too."""
    _, edits = shop.prepare(shop.target(0, MPS, "c1", share_id="s1"), shop.target(1, MPS, "c1", share_id="s2"))
    assert edits["gpu-0-s1"] == edits["gpu-1-s2"], "they can be applied together"


def test_one_daemon_cannot_have_two_percentages(shop: Shop) -> None:
    targets = [shop.target(0, Sharing(Strategy.MPS, None, 50)), shop.target(1, MPS)]
    with pytest.raises(InvalidInput, match=r"activeThreadPercentage: .* same for all whole GPUs of a claim"):
        shop.sharer.plan(targets)


def test_claims_with_shares_of_a_gpu_meet_in_its_daemon_and_keep_their_own_limits(shop: Shop) -> None:
    big = shop.target(0, Sharing(Strategy.MPS, None, 60, 8 * GIB), "c1", share_id="s1", shared=True)
    small = shop.target(0, Sharing(Strategy.MPS, None, 20, 2 * GIB), "c2", share_id="s2", shared=True)
    first, _ = shop.prepare(big)
    server = shop.ask("gpu-0", "fake_client")
    assert shop.ask("gpu-0", f"fake_server {server}") == "60.0 {'0': '8192M'}"
    second, edits = shop.prepare(small)
    assert edits["gpu-0-s2"].env == (
        "CUDA_MPS_PIPE_DIRECTORY=/tmp/nvidia-mps",
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=20",
        f"CUDA_MPS_PINNED_DEVICE_MEM_LIMIT={small.accelerator.uuid}=2048M",
    )
    assert shop.ask("gpu-0", "get_default_active_thread_percentage") == "60.0"
    shop.unprepare(first[2:])
    assert shop.ask("gpu-0", "get_default_active_thread_percentage") == "20.0"
    assert shop.ask("gpu-0", f"fake_server {server}") == "20.0 {'0': '2048M'}", "a running server is told, too"
    third, _ = shop.prepare(shop.target(0, MPS, "c3", share_id="s3", shared=True))
    assert shop.ask("gpu-0", f"fake_server {server}") == "100.0 {'0': '46068M'}"
    shop.unprepare(third[2:])
    shop.unprepare([*first[:2], *second[2:]])
    assert shop.left() == []


def test_a_mig_device_has_a_daemon_of_its_own_and_no_modes(build: Open) -> None:
    shop = build("hgx-h100-mig")
    gpu = next(gpu for gpu in shop.rig.create().snapshot().accelerators if gpu.partitions)
    target = Target("gpu-0-1g", gpu, gpu.partitions[0], admin_access=False, share_id=None, claim="c1", sharing=MPS)
    steps, edits = shop.prepare(target)
    assert names(steps) == ["mps-daemon", "mps-limits"]
    assert shop.ask("gpu-0-1g", "fake_environment") == f"{gpu.partitions[0].uuid} ['-f']"
    assert host(edits["gpu-0-1g"], "/dev/shm") == shop.service.root / "gpu-0-1g/shm"
    shop.unprepare(steps)


def test_a_mig_device_that_the_claim_makes_is_known_from_the_step_that_made_it(build: Open) -> None:
    shop = build("hgx-h100-mig")
    gpu = next(gpu for gpu in shop.rig.create().snapshot().accelerators if gpu.partitions)
    part: Partition = replace(gpu.partitions[0], uuid=None)
    sharing = Sharing(Strategy.MPS, None, 50, GIB)
    target = Target("gpu-0-1g", gpu, part, admin_access=False, share_id=None, claim="c1", sharing=sharing)
    daemon, limits = shop.sharer.plan([target])
    with pytest.raises(StepFailed, match="the MIG device of gpu-0-1g has not been made"):
        shop.sharer.run(daemon, ())
    place = {"pciAddress": gpu.pci_address, "profile": part.profile, "placement": str(part.placement)}
    made = Step(name=PARTITION, arguments=place, facts={"uuid": "MIG-new", "present": ""})
    other = Step(name=PARTITION, arguments={**place, "placement": "9"}, facts={"uuid": "MIG-other"})
    done = [other, made]
    done.append(shop.sharer.run(daemon, tuple(done)))
    done.append(shop.sharer.run(limits, tuple(done)))
    assert done[2].facts == {"uuids": "MIG-new"}
    assert shop.ask("gpu-0-1g", "fake_environment") == "MIG-new ['-f']"
    assert "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT=MIG-new=1024M" in shop.sharer.edit(target, done).env
    shop.unprepare(done[2:])
    assert shop.sharer.run(done[2], ()).facts == {"uuids": "MIG-new"}, "as when the plugin starts: without the others"
    shop.unprepare(done[2:])


def test_a_claim_makes_a_mig_device_and_shares_it_and_both_are_gone_afterwards(build: Open) -> None:
    shop = build("hgx-h100")
    vendor = shop.rig.create()
    vendor._sharer = shop.sharer
    gpu = vendor.snapshot().accelerators[0]
    profile = gpu.profiles[0]
    part = Partition(profile.name, profile.placements[0], None, None, profile.memory_bytes, None, size=profile.size)
    sharing = Sharing(Strategy.MPS, None, 50, GIB)
    target = Target("gpu-0-part", gpu, part, admin_access=False, share_id=None, claim="c1", sharing=sharing)
    done: list[Step] = []
    for step in vendor.plan([target]):
        done.append(vendor.run(step, tuple(done)))
    assert names(done)[-3:] == ["partition", "mps-daemon", "mps-limits"]
    (made,) = vendor.snapshot().accelerators[0].partitions
    assert shop.ask("gpu-0-part", "fake_environment") == f"{made.uuid} ['-f']"
    edits = vendor.prepare([target], done).devices["gpu-0-part"]
    assert f"CUDA_MPS_PINNED_DEVICE_MEM_LIMIT={made.uuid}=1024M" in edits.env
    for step in reversed(done):
        vendor.undo(step)
    assert vendor.snapshot().accelerators[0].partitions == ()
    assert shop.left() == []


def test_a_daemon_that_was_killed_is_told_its_limits_again(shop: Shop) -> None:
    steps, _ = shop.prepare(shop.target(0, Sharing(Strategy.MPS, None, 30, GIB)))
    process = Place(shop.root / "state/daemons/nvidia-mps-claim-c1").read()
    assert process
    os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: [each.how for each in shop.told if isinstance(each, DaemonStarted)] == ["started", "again"])
    assert shop.ask("claim-c1", "get_default_active_thread_percentage") == "30.0"
    assert shop.ask("claim-c1", "get_default_device_pinned_mem_limit 0") == "1024M"
    shop.unprepare(steps)


def test_a_daemon_and_its_server_live_on_while_the_plugin_is_restarted(shop: Shop) -> None:
    steps, _ = shop.prepare(shop.target(0, MPS))
    server = shop.ask("claim-c1", "fake_client")
    shop.supervisor.close()
    shop.start()
    shop.sharer.run(steps[1], ())
    assert shop.ask("claim-c1", "get_server_list") == server
    shop.unprepare(steps)
    assert processes.identify(int(server)) is None


def test_a_daemon_that_does_not_start_fails_the_step_with_its_words(shop: Shop) -> None:
    target = shop.target(0, MPS)
    (shop.service.root / "claim-c1").mkdir(parents=True)
    (shop.service.root / "claim-c1/broken").touch()
    steps = shop.sharer.plan([target])
    with pytest.raises(StepFailed, match=r"nvidia-cuda-mps-control ended at once \(exit status 1\).*Cannot find a dev"):
        shop.sharer.run(steps[1], ())
    shop.unprepare(steps)
    assert shop.left() == []


def test_limits_that_a_daemon_does_not_take_are_a_failure(shop: Shop) -> None:
    steps, _ = shop.prepare(shop.target(0, MPS))
    shop.supervisor.stop("nvidia-mps-claim-c1")
    with pytest.raises(StepFailed, match=r"does not take the limits: .*Cannot find MPS control daemon process"):
        shop.sharer.run(steps[2], ())
    shop.unprepare(steps)


def test_a_driver_without_the_program_does_not_support_mps(shop: Shop) -> None:
    target = shop.target(0, MPS)
    (shop.bin / "nvidia-cuda-mps-control").unlink()
    with pytest.raises(Unsupported, match="nvidia-cuda-mps-control is not in the driver root"):
        shop.sharer.plan([target])


def test_memory_that_the_host_would_not_see_is_refused_before_anything_is_done(shop: Shop) -> None:
    shop.memory.visible = False
    with pytest.raises(Unsupported, match="is not seen by the host"):
        shop.sharer.plan([shop.target(0, MPS)])
    assert shop.left() == []


def test_limits_need_a_gpu_that_keeps_them(shop: Shop) -> None:
    target = shop.target(0, Sharing(Strategy.MPS, None, 50))
    old = replace(target, accelerator=replace(target.accelerator, compute_capability="6.1"))
    with pytest.raises(Unsupported, match=r"gpu-0: MPS limits need compute capability 7\.0, this one has 6\.1"):
        shop.sharer.plan([old])
    assert names(list(shop.sharer.plan([replace(old, sharing=MPS)]))) == ["compute-mode", "mps-daemon", "mps-limits"]


@pytest.mark.parametrize(("memory", "limit"), [(None, GIB), (8 * GIB, 4096)])
def test_a_memory_limit_that_means_nothing_is_refused(shop: Shop, memory: int | None, limit: int) -> None:
    target = shop.target(0, Sharing(Strategy.MPS, None, None, limit))
    odd = replace(target, accelerator=replace(target.accelerator, memory_bytes=memory))
    with pytest.raises(InvalidInput, match=f"device gpu-0: pinnedMemoryLimit: {limit}"):
        shop.sharer.plan([odd])


def test_steps_that_were_never_run_can_be_undone(shop: Shop) -> None:
    shop.unprepare(shop.sharer.plan([shop.target(0, MPS), shop.target(1, MPS)]))
    assert shop.left() == []
