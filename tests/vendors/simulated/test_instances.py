"""Simulated MIG hardware: it does and refuses what the real one does, and several processes change it at once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from driver.model.devices import Profile
from driver.vendors.simulated import files, hardware
from driver.vendors.simulated.instances import Chip, Gpu, InstanceError, Instances

BOOT = "boot_id"


def find_chip(node: str = "hgx-h100", **changes: object) -> Chip:
    """The first accelerator of a node, with some fields of its file changed."""
    path = files.find_node(node)
    content = files.parse_node(path, files.read(path))
    delay = changes.pop("call_seconds", 0.0)
    first, *others = content.devices
    first = msgspec.structs.replace(first, **changes)
    content = msgspec.structs.replace(content, devices=(first, *others), call_seconds=delay)
    return hardware.look("simulated", content, "seed").chips[first.pci_address]


@pytest.fixture
def instances(tmp_path: Path) -> Instances:
    (tmp_path / BOOT).write_text("boot-1\n")
    return Instances(tmp_path / "instances", tmp_path / BOOT)


@contextmanager
def partitioned(instances: Instances, chip: Chip) -> Iterator[Gpu]:
    with instances.open(chip) as gpu:
        gpu.switch_mode(enabled=True)
        yield gpu


def profile(chip: Chip, name: str) -> Profile:
    found = chip.find_profile(name)
    assert found is not None
    return found


def make(gpu: Gpu, chip: Chip, name: str, placement: int) -> int:
    number = gpu.create_gpu_instance(profile(chip, name), placement)
    gpu.create_compute_instance(number)
    return number


def describe(instances: Instances, chip: Chip) -> list[str]:
    return [f"{each.profile.name}@{each.placement}" for each in instances.look(chip).instances]


def test_looking_writes_nothing(instances: Instances, tmp_path: Path) -> None:
    layout = instances.look(find_chip())
    assert (layout.partitioned, layout.fault, layout.instances) == (False, None, ())
    assert not (tmp_path / "instances").exists()


def test_without_partition_mode_nothing_is_made(instances: Instances) -> None:
    chip = find_chip()
    with instances.open(chip) as gpu, pytest.raises(InstanceError, match="not in partition mode"):
        gpu.create_gpu_instance(profile(chip, "1g.10gb"), 0)


def test_half_a_partition_is_a_state_of_its_own(instances: Instances) -> None:
    chip = find_chip()
    with partitioned(instances, chip) as gpu:
        number = gpu.create_gpu_instance(profile(chip, "1g.10gb"), 3)
    (half,) = instances.look(chip).instances
    assert (half.number, half.placement, half.uuid) == (number, 3, None)
    assert str(half) == "1g.10gb at 3 (without compute instance)"
    with instances.open(chip) as gpu:
        identity = gpu.create_compute_instance(number)
        with pytest.raises(InstanceError, match="GPU instance 1 has a compute instance"):
            gpu.create_compute_instance(number)
    assert instances.look(chip).instances[0].uuid == identity


@pytest.mark.parametrize(
    ("name", "placement", "reason"),
    [
        ("2g.20gb", 2, r"1g\.10gb at 3 \(MIG-.*\) is in the way"),
        ("1g.10gb", 3, "is in the way"),
        ("7g.80gb", 0, "is in the way"),
        ("3g.40gb", 1, "3g.40gb cannot begin at 1"),
        ("1g.10gb", 7, "1g.10gb cannot begin at 7"),
        ("1g.10gb+me", 5, "0 ofa engines are left"),
    ],
)
def test_what_does_not_fit_is_refused(instances: Instances, name: str, placement: int, reason: str) -> None:
    chip = find_chip()
    with partitioned(instances, chip) as gpu:
        make(gpu, chip, "1g.10gb", 3)
        make(gpu, chip, "1g.10gb+me", 6)
        with pytest.raises(InstanceError, match=reason):
            gpu.create_gpu_instance(profile(chip, name), placement)
    assert describe(instances, chip) == ["1g.10gb@3", "1g.10gb+me@6"]


def test_a_full_device_is_full(instances: Instances) -> None:
    chip = find_chip()
    with partitioned(instances, chip) as gpu:
        for name, placement in (("3g.40gb", 4), ("2g.20gb", 0), ("1g.10gb", 2), ("1g.10gb+me", 3)):
            make(gpu, chip, name, placement)
    assert describe(instances, chip) == ["2g.20gb@0", "1g.10gb@2", "1g.10gb+me@3", "3g.40gb@4"]


def test_numbers_come_back_and_identities_do_not(instances: Instances) -> None:
    chip = find_chip()
    seen = set()
    with partitioned(instances, chip) as gpu:
        for _ in range(3):
            number = gpu.create_gpu_instance(profile(chip, "1g.10gb"), 0)
            seen.add((number, gpu.create_compute_instance(number)))
            gpu.destroy_compute_instance(number)
            gpu.destroy_gpu_instance(number)
    assert {number for number, _ in seen} == {1}
    assert len(seen) == 3


def test_what_is_in_use_is_not_destroyed(instances: Instances) -> None:
    chip = find_chip()
    with partitioned(instances, chip) as gpu:
        number = make(gpu, chip, "1g.10gb", 0)
        with pytest.raises(InstanceError, match="GPU instance 1 has a compute instance"):
            gpu.destroy_gpu_instance(number)
        gpu.occupy(number)
        with pytest.raises(InstanceError, match="in use by another client"):
            gpu.destroy_compute_instance(number)
        with pytest.raises(InstanceError, match=r"in use: it has partitions, such as 1g\.10gb at 0"):
            gpu.switch_mode(enabled=False)
        gpu.occupy(number, used=False)
        gpu.destroy_compute_instance(number)
        gpu.destroy_gpu_instance(number)
        gpu.switch_mode(enabled=False)
        with pytest.raises(InstanceError, match="not found: GPU instance 1"):
            gpu.destroy_gpu_instance(number)
    assert not instances.look(chip).partitioned


def test_partitions_of_the_node_file_are_there_for_good(instances: Instances) -> None:
    chip = find_chip(partitions={"3g.40gb": (4,)})
    with instances.open(chip) as gpu:
        (fixed,) = gpu.look().instances
        with pytest.raises(InstanceError, match="not found"):
            gpu.destroy_compute_instance(fixed.number)
        with pytest.raises(InstanceError, match=r"3g\.40gb at 4"):
            gpu.create_gpu_instance(profile(chip, "1g.10gb"), 6)
        make(gpu, chip, "1g.10gb", 0)
    assert describe(instances, chip) == ["1g.10gb@0", "3g.40gb@4"]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, None),
        ({"mode_switch": "reset"}, "partition mode of this model is switched with a reset of the device"),
        ({"pending_mode": "enabled"}, "the device requires a reset: partition mode is to be enabled"),
        (
            {"partitions": {}, "pending_mode": "disabled"},
            "the device requires a reset: partition mode is to be disabled",
        ),
    ],
)
def test_why_the_mode_cannot_be_switched_is_told(instances: Instances, changes: dict[str, object], fault: str) -> None:
    assert instances.look(find_chip("hgx-h100", **changes)).fault == fault


def test_ampere_switches_its_mode_with_a_reset_and_keeps_it_over_a_boot(instances: Instances, tmp_path: Path) -> None:
    chip = find_chip("a100-mesh")
    with instances.open(chip) as gpu:
        gpu.switch_mode(enabled=True)
    before = instances.look(chip)
    assert not before.partitioned
    assert before.fault == "the device requires a reset: partition mode is to be enabled"
    with instances.open(chip) as gpu:
        gpu.reset()
        make(gpu, chip, "1g.10gb", 0)
    assert instances.look(chip).partitioned
    (tmp_path / BOOT).write_text("boot-2\n")
    after = instances.look(chip)
    assert (after.partitioned, after.instances) == (True, ())
    with instances.open(chip) as gpu:
        assert gpu.look() == after
    assert instances.look(chip) == after


def test_hopper_forgets_its_mode_and_instances_at_a_boot(instances: Instances, tmp_path: Path) -> None:
    chip = find_chip()
    with partitioned(instances, chip) as gpu:
        gpu.occupy(make(gpu, chip, "1g.10gb", 0))
    fingerprint = instances.fingerprint()
    (tmp_path / BOOT).write_text("boot-2\n")
    assert instances.fingerprint() != fingerprint
    assert (instances.look(chip).partitioned, instances.look(chip).instances) == (False, ())
    with partitioned(instances, chip) as gpu:
        number = make(gpu, chip, "1g.10gb", 0)
        gpu.destroy_compute_instance(number)


def test_a_pending_mode_of_the_node_file_takes_effect_with_a_boot(instances: Instances, tmp_path: Path) -> None:
    chip = find_chip(pending_mode="enabled")
    with instances.open(chip):
        pass
    (tmp_path / BOOT).write_text("boot-2\n")
    assert instances.look(chip).partitioned
    with instances.open(chip) as gpu:
        assert gpu.look().partitioned
        assert gpu.look().fault is None


@pytest.mark.parametrize("call", ["switch-mode", "create-gpu-instance", "create-compute-instance"])
def test_a_call_is_refused_if_the_node_file_says_so(instances: Instances, call: str) -> None:
    chip = find_chip(faults={call: "it is too hot"})
    with pytest.raises(InstanceError, match="it is too hot"), partitioned(instances, chip) as gpu:
        make(gpu, chip, "1g.10gb", 0)


def test_a_device_that_fails_refuses_every_call(instances: Instances) -> None:
    chip = find_chip(failure="it fell off the bus")
    with instances.open(chip) as gpu, pytest.raises(InstanceError, match="it fell off the bus"):
        gpu.switch_mode(enabled=True)


def test_a_fingerprint_changes_with_each_change_and_with_nothing_else(instances: Instances) -> None:
    chip = find_chip()
    seen = [instances.fingerprint()]
    assert instances.fingerprint() == seen[0]
    with partitioned(instances, chip) as gpu:
        seen.append(instances.fingerprint())
        number = gpu.create_gpu_instance(profile(chip, "1g.10gb"), 0)
        seen.append(instances.fingerprint())
        gpu.create_compute_instance(number)
        seen.append(instances.fingerprint())
        gpu.destroy_compute_instance(number)
        gpu.create_compute_instance(number)
        seen.append(instances.fingerprint())
    assert len(set(seen)) == 5
    instances.look(chip)
    assert instances.fingerprint() == seen[-1]


def test_threads_take_each_place_once(instances: Instances) -> None:
    chip = find_chip()
    with partitioned(instances, chip):
        pass
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda place: try_to_make(instances, chip, place), [*range(7), *range(7)]))
    assert sorted(place for place in taken if place is not None) == list(range(7))
    assert len(instances.look(chip).instances) == 7


def try_to_make(instances: Instances, chip: Chip, placement: int) -> int | None:
    try:
        with instances.open(chip) as gpu:
            make(gpu, chip, "1g.10gb", placement)
    except InstanceError:
        return None
    return placement


def take_all(folder: Path, answers: multiprocessing.SimpleQueue[list[int]]) -> None:
    instances, chip = Instances(folder / "instances", folder / BOOT), find_chip(call_seconds=0.001)
    answers.put([place for place in range(7) if try_to_make(instances, chip, place) is not None])


def test_processes_take_each_place_once(instances: Instances, tmp_path: Path) -> None:
    chip = find_chip()
    with partitioned(instances, chip):
        pass
    context = multiprocessing.get_context("fork")
    answers: multiprocessing.SimpleQueue[list[int]] = context.SimpleQueue()
    workers = [context.Process(target=take_all, args=(tmp_path, answers)) for _ in range(2)]
    for worker in workers:
        worker.start()
    taken = [place for _ in workers for place in answers.get()]
    for worker in workers:
        worker.join()
    assert sorted(taken) == list(range(7))
