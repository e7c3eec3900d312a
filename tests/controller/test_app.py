"""The controller as a process among others: election, a server that goes away, kill -9, the end, and what it says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from driver.controller import settings as settings_module
from driver.controller.settings import ControllerSettings
from driver.core.fencing import Authority
from driver.model.errors import InvalidInput
from driver.simulation.access import LEASES
from driver.simulation.processes import DriverProcess
from tests.controller.site import GPU, Site
from tests.fakes.waiting import wait_until


def read(site: Site, page: str) -> tuple[int, str]:
    url = f"http://127.0.0.1:{site.controllers[-1].port}{page}"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def metric(site: Site, name: str) -> float:
    """Return the sum of all series of a metric, or the value of one with its labels."""
    lines = [line for line in read(site, "/metrics")[1].splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def start_process(site: Site, name: str) -> DriverProcess:
    options = {key.replace("_", "-"): str(value) for key, value in site.settings().items()}
    process = DriverProcess("controller", {**options, "pod-name": name}, site.folder / f"{name}.log")
    site.stack.callback(process.stop)
    return process


def holder(site: Site) -> str:
    if site.objects.find(LEASES, "accel-dra-controller", "accel-dra") is None:
        return ""
    body = json.loads(site.objects.client.get(LEASES.path("accel-dra", "accel-dra-controller")))
    return str(body["spec"].get("holderIdentity", "")).partition("_")[0]


def test_of_two_controllers_one_leads_and_the_other_goes_on_when_it_ends(site: Site) -> None:
    site.machine("a")
    slow = {"lease_duration": 120, "renew_deadline": 100.0}
    first = site.controller(**slow)
    wait_until(lambda: first.leads)
    second = site.controller(**slow)
    site.workload("c", 4)
    site.wait_allocated("c")
    assert not second.leads
    first.stop()
    wait_until(lambda: second.leads)  # the lease was given back, nobody waits for it to run out
    site.workload("d", 4)
    assert not set(site.wait_allocated("d")) & set(site.devices("c"))


def test_a_leader_that_is_killed_in_the_middle_is_succeeded(site: Site) -> None:
    site.machine("a")
    site.machine("b")
    first = start_process(site, "first")
    wait_until(lambda: holder(site) == "first")
    start_process(site, "second")
    for index in range(16):
        site.workload(f"c{index}")
    wait_until(lambda: any(site.devices(f"c{index}") for index in range(16)))
    first.kill()
    devices = site.wait_allocated(*(f"c{index}" for index in range(16)))
    assert len(set(devices)) == 16
    wait_until(lambda: holder(site) == "second")


def test_a_server_that_restarts_is_found_again_and_nothing_is_given_twice(site: Site) -> None:
    site.machine("a")
    controller = site.controller()
    site.workload("c", 4)
    site.wait_allocated("c")
    site.server.stop()
    wait_until(lambda: not controller.leads)
    site.server.start()
    site.workload("d", 4)
    assert not set(site.wait_allocated("d", deadline=40)) & set(site.devices("c"))
    assert controller.alive


def test_it_ends_within_seconds_on_sigterm_and_gives_the_lease_back(site: Site) -> None:
    process = start_process(site, "c")
    wait_until(lambda: holder(site) == "c")
    os.kill(process.pid, signal.SIGTERM)
    wait_until(lambda: process.exit_code is not None, deadline=10)
    assert process.exit_code == 0, process.read_log()
    assert holder(site) == ""


def test_it_ends_within_seconds_while_the_server_is_away(site: Site) -> None:
    process = start_process(site, "c")
    wait_until(lambda: holder(site) == "c")
    site.server.stop()
    os.kill(process.pid, signal.SIGTERM)
    wait_until(lambda: process.exit_code is not None, deadline=15)
    site.server.start()
    assert process.exit_code == 0, process.read_log()


def test_a_claim_that_waits_is_explained_on_itself_and_on_its_pod_once(site: Site) -> None:
    site.machine("a")
    site.controller()
    site.workload("large", 9)
    message = site.wait_event("ResourceClaim", "large", "NoSuitableDevices")
    assert "request gpu" in message
    assert site.wait_event("Pod", "large", "NoSuitableDevices") == f"claim large: {message}"
    site.workload("small")
    site.wait_allocated("small")
    site.wait_event("ResourceClaim", "small", "Allocated")
    assert len(site.events("ResourceClaim", "large")) == 1


def test_claims_of_kube_scheduler_are_explained_as_well(site: Site) -> None:
    site.machine("theirs", authority=Authority.SCHEDULER)
    site.controller()
    site.workload("large", 9, class_name=GPU)
    assert "request gpu" in site.wait_event("ResourceClaim", "large", "NoSuitableDevices")


def test_a_wrong_policy_is_told_to_its_author(site: Site) -> None:
    site.machine("a")
    site.controller()
    site.workload("c", policy={"when": "Never"})
    assert "when" in site.wait_event("ResourceClaim", "c", "InvalidAllocationPolicy")
    site.claim("lonely")
    assert site.wait_event("ResourceClaim", "lonely", "WaitingForConsumer") == "waiting for a pod that uses the claim"


def test_pages_tell_how_it_is(site: Site) -> None:
    site.machine("a")
    site.controller(metrics_address="127.0.0.1:0")
    site.workload("c")
    site.workload("large", 9)
    site.wait_allocated("c")
    wait_until(lambda: metric(site, 'accel_dra_pending_claims{reason="NoSuitableDevices"}') == 1)
    assert read(site, "/healthz") == (200, "ok\n")
    assert read(site, "/readyz") == (200, "ok\n")
    assert metric(site, "accel_dra_leader") == 1
    assert metric(site, 'accel_dra_allocations_total{result="ok"}') == 1
    assert metric(site, "accel_dra_time_to_allocation_seconds_count") == 1
    assert metric(site, 'accel_dra_cache_objects{kind="nodes"}') == 1
    assert metric(site, "accel_dra_free_devices") in (7, 8)  # measured from time to time
    assert metric(site, "accel_dra_largest_free_memory_bytes") > 2**36


def test_it_is_not_ready_before_it_has_read_the_cluster(site: Site) -> None:
    site.server.stop()
    site.controller(metrics_address="127.0.0.1:0")
    status, text = read(site, "/readyz")
    assert status == 503
    assert text == "not read yet: pods, nodes, slices, classes\n"
    assert read(site, "/healthz")[0] == 200
    site.server.start()
    wait_until(lambda: read(site, "/readyz")[0] == 200)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"lease_duration": 5, "renew_deadline": 5.0}, "renew-deadline"),
        ({"grace": 0.0}, "grace"),
        ({"driver_name": "Not A Name"}, "driver-name"),
        ({"metrics_address": "nonsense"}, "metrics-address"),
        ({"explain_again": float("inf")}, "explain-again"),
    ],
)
def test_wrong_settings_are_refused(change: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        settings_module.check(ControllerSettings(**change))  # type: ignore[arg-type]
    assert caught.value.field == field


def test_the_command_names_a_wrong_setting_and_ends() -> None:
    command = [sys.executable, "-m", "driver", "controller", "--lease-duration", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert ended.returncode == 2
    assert "lease-duration: 0 is not allowed" in ended.stderr
