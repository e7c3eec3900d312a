"""The mode of partitions is switched by a label while pods run: nothing is lost, nothing is given twice, no restart."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from driver.model.vocabulary import PARTITIONS_LABEL
from driver.simulation.access import NODES
from driver.simulation.cluster import Cluster
from driver.simulation.nodes import NodeSpec
from driver.simulation.objects import Pod
from driver.simulation.processes import Value
from tests.simulation.conftest import E2E, FAST, GPU

PARTITION = "partition.accel-dra.dev"
WHOLE = "gpu-0000-1b-00-0"
Begin = Callable[..., E2E]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Start a cluster with one node that has one H100."""
    device = {"model": "h100-80gb", "pciAddress": "0000:1b:00.0", "numaNode": 0, "pcieRoot": "pci0000:15"}
    path = tmp_path / "one.json"
    path.write_text(json.dumps({"driverVersion": "580.126.09", "runtimeVersion": "13.0", "devices": [device]}))
    with ExitStack() as stack:

        def start(**settings: Value) -> E2E:
            cluster = stack.enter_context(
                Cluster([NodeSpec(name="node-1", hardware=str(path), settings=settings)], FAST)
            )
            cluster.wait_ready()
            e2e = E2E(cluster)
            e2e.template("whole")
            selector = {"cel": {"expression": 'device.attributes["accel-dra.dev"].profile == "1g.10gb"'}}
            e2e.template("slice", {"name": "gpu", "deviceClassName": PARTITION, "selectors": [selector]})
            return e2e

        yield start


def label(e2e: E2E, value: str | None) -> None:
    node = e2e.cluster.objects.get(NODES, "node-1")
    e2e.cluster.objects.patch(NODES, node, {"metadata": {"labels": {PARTITIONS_LABEL: value}}})


def published(e2e: E2E) -> set[str]:
    return {device.name for each in e2e.cluster.slices("node-1", GPU) for device in each.spec.devices}


def versions(e2e: E2E) -> set[tuple[str, str]]:
    return {(each.metadata.uid, each.metadata.resource_version) for each in e2e.cluster.slices("node-1", GPU)}


def wait_for(e2e: E2E, expected: Callable[[set[str]], bool], what: str) -> None:
    e2e.cluster.wait(lambda: expected(published(e2e)) or None, what)


def is_divided(names: set[str]) -> bool:
    return WHOLE in names and len(names) > 20


def device_of(e2e: E2E, pod: Pod) -> str:
    ((_, device),) = e2e.devices(e2e.claim_of(pod))
    return device


def test_from_off_to_dynamic_to_static_while_a_pod_runs(begin: Begin) -> None:
    e2e = begin(partitions="off")
    assert published(e2e) == {WHOLE}
    label(e2e, "dynamic")
    wait_for(e2e, is_divided, "partitions")
    e2e.pod("sliced", "slice")
    device = device_of(e2e, e2e.cluster.wait_running("sliced"))
    label(e2e, "static")
    wait_for(e2e, lambda names: names == {device}, "only what is held")
    assert e2e.cluster.pod("sliced").status.phase == "Running"
    e2e.pod("waits", "whole")
    e2e.cluster.delete_pod("sliced")
    wait_for(e2e, lambda names: names == {WHOLE}, "the whole device again")
    assert device_of(e2e, e2e.cluster.wait_running("waits")) == WHOLE
    label(e2e, None)
    e2e.cluster.delete_pod("waits")
    assert published(e2e) == {WHOLE}
    assert e2e.cdi_files("node-1") == []


def test_one_device_is_whole_then_seven_slices_then_whole_again_and_slices_never_change(begin: Begin) -> None:
    e2e = begin(partitions="dynamic")
    wait_for(e2e, is_divided, "partitions")
    before = versions(e2e)
    e2e.pod("whole-1", "whole")
    assert device_of(e2e, e2e.cluster.wait_running("whole-1")) == WHOLE
    e2e.cluster.delete_pod("whole-1")
    names = [f"slice-{number}" for number in range(7)]
    for name in names:
        e2e.pod(name, "slice")
    pods = [e2e.cluster.wait_running(name) for name in names]
    assert len({device_of(e2e, pod) for pod in pods}) == 7
    uuids = {text for pod in pods for text in e2e.container(pod).contents.env.values() if text.startswith("MIG-")}
    assert len(uuids) == 7
    for name in names:
        e2e.cluster.delete_pod(name)
    e2e.pod("whole-2", "whole")
    assert device_of(e2e, e2e.cluster.wait_running("whole-2")) == WHOLE
    assert versions(e2e) == before, "partitions that come and go change no slice"


def test_a_label_that_is_no_mode_is_told_and_changes_nothing(begin: Begin) -> None:
    e2e = begin(partitions="off")
    label(e2e, "dinamic")
    (told,) = e2e.cluster.wait(lambda: e2e.messages("LabelRefused") or None, "the event")
    assert "'dinamic' is not allowed; allowed: off, static, dynamic (dynamic was probably meant)" in told
    assert published(e2e) == {WHOLE}
