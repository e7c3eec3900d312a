"""`accel-dra explain` on shared devices: what a claim has of one, what is left, why a share is not to be had."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from click.testing import CliRunner, Result

from driver.cli.explain import EXIT_WAITING, command
from driver.model.sharing import Strategy
from driver.model.slices import ResourceSlice
from driver.simulation.apiserver import ApiServer
from driver.simulation.apiserver.values import JsonObject
from tests.fakes.published_machines import DRIVER, add_classes, add_machine

FIRST = "gpu-0000-2a-00-0"
"""An L40S of 46068 MiB."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(namespaces=("default",)) as server:
        add_classes(server)
        add_machine(server, "l40s", "l40s", shares=Strategy.MPS)
        server.kubeconfig(tmp_path / "config")
        yield server


def run(tmp_path: Path, *arguments: str, text: str | None = None) -> Result:
    options = [*arguments, "--kubeconfig", str(tmp_path / "config")]
    return CliRunner().invoke(command, options, input=text, catch_exceptions=False, standalone_mode=False)


def claim(name: str, memory: str, share: str) -> dict[str, Any]:
    capacity = {"requests": {"accel-dra.dev/memory": memory, "accel-dra.dev/share": share}}
    exactly = {"deviceClassName": "shared.accel-dra.dev", "capacity": capacity}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}},
    }


def hold(server: ApiServer, name: str, device: str, memory: str, share: str) -> None:
    stored = server.store.create(claim(name, memory, share))
    consumed: JsonObject = {"accel-dra.dev/memory": memory, "accel-dra.dev/share": share}
    result: JsonObject = {
        "request": "gpu",
        "driver": DRIVER,
        "pool": "l40s",
        "device": device,
        "shareID": f"00000000-0000-4000-8000-{len(server.store.list('resourceclaims')):012d}",
        "consumedCapacity": consumed,
    }
    server.store.update_status({**stored, "status": {"allocation": {"devices": {"results": [result]}}}})


def test_a_share_is_told_with_what_it_takes_and_what_it_leaves(server: ApiServer, tmp_path: Path) -> None:
    hold(server, "other", FIRST, "10Gi", "20")
    result = run(tmp_path, "-f", "-", text=yaml.safe_dump(claim("mine", "20Gi", "25")))
    assert result.return_value == 0
    assert f"would get gpu: {FIRST} (memory 20Gi, share 25) of l40s" in result.stdout
    assert f"    left of {FIRST} of l40s: memory 15348Mi, share 55\n" in result.stdout
    document = json.loads(run(tmp_path, "claim", "other", "-o", "json").stdout)
    (answer,) = document["claims"]
    assert answer["left"] == {f"{FIRST} of l40s": "memory 35828Mi, share 80"}
    assert answer["devices"][0]["consumedCapacity"] == {"accel-dra.dev/memory": "10Gi", "accel-dra.dev/share": "20"}
    assert answer["devices"][0]["shareID"].startswith("00000000-")


def test_a_claim_that_asks_for_nothing_gets_all_of_a_device(server: ApiServer, tmp_path: Path) -> None:
    whole = claim("whole", "1Gi", "1")
    del whole["spec"]["devices"]["requests"][0]["exactly"]["capacity"]
    hold(server, "other", FIRST, "1Gi", "1")
    result = run(tmp_path, "-f", "-", text=yaml.safe_dump(whole))
    assert "(memory 46068Mi, share 100) of l40s" in result.stdout
    assert FIRST not in result.stdout, "somebody has a share of it"


def test_why_no_share_is_to_be_had_names_what_is_short(server: ApiServer, tmp_path: Path) -> None:
    (published,) = server.store.list("resourceslices")
    devices = [each.name for each in msgspec.convert(published, ResourceSlice).spec.devices]
    for device in devices:
        hold(server, f"on-{device}", device, "40Gi", "25")
    result = run(tmp_path, "-f", "-", text=yaml.safe_dump(claim("mine", "20Gi", "25")))
    assert result.return_value == EXIT_WAITING
    assert "accel-dra.dev/memory: 5108Mi left, 20Gi asked, held by default/on-" in result.stdout
