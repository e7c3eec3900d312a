"""Benchmarks of the node plugin as the kubelet sees it: prepare, unprepare, start to published, resident memory."""

from __future__ import annotations

import time
from pathlib import Path

from driver.kube import slices
from driver.kube.client import Client
from driver.model.claims import ResourceClaim
from hack.bench.figures import Report, resident_mebibytes
from hack.bench.site import Claims, Kubelet, Options, connect, list_devices, run_plugin, serve_api, wait_for

STARTS = 7
PREPARE = "p50 <= 5, p99 <= 12"
START = "p50 <= 1000"
MEMORY = "max <= 60, flat within 2"


def measure(report: Report, options: Options, count: int, cycles: int) -> None:
    """Measure everything that a plugin process does, against the API server of `options`."""
    with serve_api(options) as kubeconfig:
        client = connect(kubeconfig)
        try:
            if options.plugin:
                _measure_start(report, options, kubeconfig, client)
                with run_plugin(options, kubeconfig) as plugin:
                    wait_for(lambda: list_devices(client, options), "publishing")
                    _measure_calls(report, options, client, count)
                    _measure_memory(report, options, client, plugin.pid, cycles)
            else:
                _measure_calls(report, options, client, count)
        finally:
            client.close()


def _measure_start(report: Report, options: Options, kubeconfig: str, client: Client) -> None:
    samples = []
    for _ in range(STARTS):
        started = time.perf_counter()
        with run_plugin(options, kubeconfig):
            wait_for(lambda: list_devices(client, options), "publishing")
            samples.append((time.perf_counter() - started) * 1000)
        for each in slices.fetch(client, options.driver, options.node):
            client.delete(f"{slices.PATH}/{each.metadata.name}")
    report.add("start to published", "ms", samples, START)


def _measure_calls(report: Report, options: Options, client: Client, count: int) -> None:
    claims = Claims(client, options)
    wait_for(lambda: Path(options.socket).is_socket(), "the DRA socket")
    kubelet = Kubelet(options.socket)
    try:
        device = list_devices(client, options)[0]
        for claim in claims.make(5, device):
            _cycle(kubelet, claim)
        made = claims.make(count, device)
        times = [_cycle(kubelet, claim) for claim in made]
        report.add("prepare", "ms", [prepare for prepare, _ in times], PREPARE)
        report.add("unprepare", "ms", [unprepare for _, unprepare in times])
    finally:
        kubelet.close()
        claims.remove()


def _cycle(kubelet: Kubelet, claim: ResourceClaim) -> tuple[float, float]:
    started = time.perf_counter()
    kubelet.prepare(claim)
    prepared = time.perf_counter()
    kubelet.unprepare(claim)
    return (prepared - started) * 1000, (time.perf_counter() - prepared) * 1000


def _measure_memory(report: Report, options: Options, client: Client, pid: int, cycles: int) -> None:
    claims = Claims(client, options)
    kubelet = Kubelet(options.socket)
    try:
        (claim,) = claims.make(1, list_devices(client, options)[0])
        report.add("resident memory, start", "MiB", [resident_mebibytes(pid)], MEMORY)
        samples = []
        for number in range(cycles):
            _cycle(kubelet, claim)
            if number % max(1, cycles // 20) == 0:
                samples.append(resident_mebibytes(pid))
        samples.append(resident_mebibytes(pid))
        report.add(f"resident memory, during {cycles} cycles", "MiB", samples, MEMORY)
        report.add("resident memory, end", "MiB", samples[-1:], MEMORY)
    finally:
        kubelet.close()
        claims.remove()
