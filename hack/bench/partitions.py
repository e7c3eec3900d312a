"""Benchmarks of partitions made on demand, as the kubelet sees them: one at a time, and 56 of them again and again.

The hardware is simulated: files, which take their time as well. What it takes is measured by itself and subtracted in a
figure of its own, which is what the driver costs; a real driver's time for making an instance comes on top of that.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Final

from driver import vendors
from driver.contract import Steps, Target
from driver.core import inventory
from driver.core.offering import Mode, Offer
from driver.kube.client import Client
from driver.model.claims import ResourceClaim
from driver.model.prepared import Step
from driver.settings import Settings
from hack.bench.figures import Report, resident_mebibytes
from hack.bench.site import HARDWARE, Claims, Kubelet, Options, connect, list_devices, run_plugin, serve_api, wait_for

_SMALL: Final = re.compile(r"-1g-10gb-\d$")
PREPARE: Final = "p50 <= 8"
ROUNDS: Final = 100
MEMORY: Final = "flat within 2"
Device = tuple[str, str]


def measure(report: Report, options: Options, count: int, cycles: int) -> None:
    """Measure a plugin that makes partitions of eight simulated GPUs."""
    if not options.plugin:
        return  # whatever runs behind a socket that was given
    options = replace(options, plugin=(*options.plugin, "--partitions", "dynamic"))
    with serve_api(options) as kubeconfig, _run(options, kubeconfig) as (client, pid):
        wait_for(lambda: list_devices(client, options), "publishing")
        small = [device for device in list_devices(client, options) if _SMALL.search(device[1])]
        _measure_one(report, client, options, small[:2], count)
        _measure_all(report, client, options, small, min(ROUNDS, cycles), pid)
        _check_empty(options)


@contextmanager
def _run(options: Options, kubeconfig: str) -> Iterator[tuple[Client, int]]:
    client = connect(kubeconfig)
    try:
        with run_plugin(options, kubeconfig) as plugin:
            yield client, plugin.pid
    finally:
        client.close()


def _measure_one(report: Report, client: Client, options: Options, devices: Sequence[Device], count: int) -> None:
    """Measure one partition: alone on its GPU, whose mode is switched for it, and beside another."""
    wait_for(lambda: Path(options.socket).is_socket(), "the DRA socket")
    with _claims(client, options) as (claims, kubelet):
        made = [claim for _ in range(count + 3) for claim in claims.make(1, devices[0])]
        (neighbour,) = claims.make(1, devices[1])
        alone = [_cycle(kubelet, claim) for claim in made][3:]
        report.add("prepare a partition, switching the mode", "ms", [prepare for prepare, _ in alone])
        report.add("unprepare a partition, switching the mode", "ms", [unprepare for _, unprepare in alone])
        kubelet.prepare(neighbour)
        beside = [_cycle(kubelet, claim) for claim in made]
        report.add("prepare a partition beside another", "ms", [prepare for prepare, _ in beside])
        report.add("unprepare a partition beside another", "ms", [unprepare for _, unprepare in beside])
        kubelet.unprepare(neighbour)
    hardware = _time_hardware(options.folder / "alone", count)
    report.add("the simulated hardware's part of it", "ms", hardware)
    own = statistics.median(hardware)
    report.add(
        "prepare a partition, beyond the hardware's part", "ms", [prepare - own for prepare, _ in beside], PREPARE
    )


def _measure_all(
    report: Report, client: Client, options: Options, devices: Sequence[Device], rounds: int, pid: int
) -> None:
    """Measure whether it stays as it is when all of them come and go many times."""
    with _claims(client, options) as (claims, kubelet):
        made = [claim for device in devices for claim in claims.make(1, device)]
        samples: list[list[float]] = []
        memory: list[float] = []
        opened: list[float] = []
        for _ in range(rounds):
            samples.append([_time(kubelet, claim) for claim in made])
            for claim in made:
                kubelet.unprepare(claim)
            memory.append(resident_mebibytes(pid))
            opened.append(len(list(Path(f"/proc/{pid}/fd").iterdir())))
        tenth = max(1, rounds // 10)
        what = f"prepare one of {len(made)} partitions"
        report.add(f"{what}, first rounds of {rounds}", "ms", [*chain(*samples[:tenth])])
        report.add(f"{what}, last rounds of {rounds}", "ms", [*chain(*samples[-tenth:])])
        report.add(f"resident memory, {rounds} rounds of {len(made)} partitions", "MiB", memory, MEMORY)
        report.add(f"open files, {rounds} rounds of {len(made)} partitions", "", opened, MEMORY)


@contextmanager
def _claims(client: Client, options: Options) -> Iterator[tuple[Claims, Kubelet]]:
    claims, kubelet = Claims(client, options), Kubelet(options.socket)
    try:
        yield claims, kubelet
    finally:
        kubelet.close()
        claims.remove()


def _cycle(kubelet: Kubelet, claim: ResourceClaim) -> tuple[float, float]:
    prepare = _time(kubelet, claim)
    started = time.perf_counter()
    kubelet.unprepare(claim)
    return prepare, (time.perf_counter() - started) * 1000


def _time(kubelet: Kubelet, claim: ResourceClaim) -> float:
    started = time.perf_counter()
    kubelet.prepare(claim)
    return (time.perf_counter() - started) * 1000


def _time_hardware(folder: Path, count: int) -> list[float]:
    """Return how long the same steps take without a driver around them: looking, planning and running them."""
    folder.mkdir()
    roots = Settings(state_dir=str(folder)).roots
    vendor = vendors.load("simulated", roots, {"node": HARDWARE})
    assert isinstance(vendor, Steps)
    offered = inventory.build(vendor.snapshot(), offer=Offer(mode=Mode.DYNAMIC)).entries
    entry = next(entry for entry in offered if _SMALL.search(entry.name))
    target = Target(entry.name, entry.accelerator, entry.partition, admin_access=False, share_id=None, claim="bench")
    return [_time_steps(vendor, target) for _ in range(count)]


def _time_steps(vendor: Steps, target: Target) -> float:
    started = time.perf_counter()
    done: list[Step] = []
    for step in vendor.plan([target]):
        done.append(vendor.run(step, tuple(done)))
    taken = (time.perf_counter() - started) * 1000
    for step in reversed(done):
        vendor.undo(step)
    return taken


def _check_empty(options: Options) -> None:
    """End the benchmark with an error if anything is left of what was made."""
    left = [
        *options.folder.rglob("claims/*.json"),
        *options.folder.rglob("gi-*"),
        *options.folder.rglob("begun/*"),
        *options.folder.glob("cdi/*claim*"),
    ]
    if left:
        raise SystemExit(f"benchmark: {len(left)} files are left, such as {left[0]}")
