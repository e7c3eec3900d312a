"""Benchmarks of selectors: compile once, look at each device once, evaluate often; and what hostile ones cost."""

from __future__ import annotations

from contextlib import suppress
from time import perf_counter, process_time
from typing import Final

from driver.core import cel
from driver.core.cel import programs, scopes
from driver.model.slices import Device, DeviceAttribute, DeviceCapacity
from hack.bench.figures import Report

DEVICES: Final = 1_000
ROUNDS: Final = 20
DRIVER: Final = "gpu.example.com"
PROMISE: Final = ">= 400,000/s"
SELECTORS: Final = {
    "three clauses": (
        f'device.driver == "{DRIVER}" && '
        f'device.attributes["{DRIVER}"].productName.lowerAscii().matches("^.*h100.*$") && '
        f'device.capacity["{DRIVER}"].memory.compareTo(quantity("40Gi")) >= 0'
    ),
    "one comparison": f'device.attributes["{DRIVER}"].uuid == "GPU-7"',
    "a version": f'device.attributes["{DRIVER}"].driverVersion.isGreaterThan(semver("570.0.0"))',
    "a class of ours": f'device.attributes["{DRIVER}"].?type.orValue("") == "gpu"',
}
HOSTILE: Final = {
    "10,000 parentheses": "(" * 10_000 + "true" + ")" * 10_000,
    "10 KiB of alternatives": " || ".join(f'device.attributes["{DRIVER}"].uuid == "{i}"' for i in range(180)),
    "exponential regex": f'device.attributes["{DRIVER}"].uuid.matches("(a+)+$")',
    "a list of 4,000": "[" + ",".join(["1"] * 4000) + "].size() > 0",
    "a text that doubles": "cel.bind(a, 'aa', "
    + "".join(f"cel.bind({'a' * (i + 1)}, {'a' * i} + {'a' * i}, " for i in range(1, 60))
    + "true"
    + ")" * 60,
    "the cost limit": "lists.range(1000).all(i, lists.range(1000).all(j, i + j >= 0))",
}


def measure(report: Report, count: int) -> None:
    """Measure selectors on 1,000 devices with twelve attributes and two capacities."""
    devices = [make_device(index) for index in range(DEVICES)]
    report.add("cel: view of a device", "us", [_view_time(devices) for _ in range(count)])
    views = [cel.view(DRIVER, device) for device in devices]
    for name, expression in SELECTORS.items():
        report.add(f"cel: compile, {name}", "us", [_compile_time(expression) for _ in range(count)])
        rates = [_rate(expression, views) for _ in range(count)]
        report.add(f"cel: evaluate, {name}", "1/s", rates, PROMISE if name == "three clauses" else "")
    for name, expression in HOSTILE.items():
        report.add(f"cel: hostile, {name}", "ms", [_hostile_time(expression, views[0]) for _ in range(3)])


def make_device(index: int) -> Device:
    """Return a GPU as a driver publishes it."""
    texts = {"productName": "NVIDIA H100 80GB HBM3", "architecture": "Hopper", "brand": "Nvidia", "type": "gpu"}
    versions = {"cudaComputeCapability": "9.0.0", "cudaDriverVersion": "13.0.0", "driverVersion": "580.126.9"}
    numbers = {"index": index % 8, "minor": index % 8, "numaNode": index % 2}
    return Device(
        name=f"gpu-{index}",
        attributes={
            **{name: DeviceAttribute(string=text) for name, text in texts.items()},
            **{name: DeviceAttribute(version=version) for name, version in versions.items()},
            **{name: DeviceAttribute(int_=number) for name, number in numbers.items()},
            "uuid": DeviceAttribute(string=f"GPU-{index}"),
            "resource.kubernetes.io/pcieRoot": DeviceAttribute(string=f"pci0000:{index % 16:02x}"),
        },
        capacity={"memory": DeviceCapacity(value="80Gi"), "multiprocessors": DeviceCapacity(value="132")},
    )


def _view_time(devices: list[Device]) -> float:
    start = perf_counter()
    for device in devices:
        cel.view(DRIVER, device)
    return (perf_counter() - start) / len(devices) * 1e6


def _compile_time(expression: str) -> float:
    start = perf_counter()
    programs.compile(expression, scopes.DEVICE)
    return (perf_counter() - start) * 1e6


def _rate(expression: str, views: list[cel.View]) -> float:
    program = cel.compile_selector(expression)
    start = perf_counter()
    for _ in range(ROUNDS):
        for view in views:
            cel.matches(program, view)
    return ROUNDS * len(views) / (perf_counter() - start)


def _hostile_time(expression: str, view: cel.View) -> float:
    """Return the milliseconds until the answer, in time of the processor."""
    start = process_time()
    with suppress(cel.CelError):
        programs.compile(expression, scopes.DEVICE).evaluate_device(view)
    return (process_time() - start) * 1000
