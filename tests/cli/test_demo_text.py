"""What the demo prints about a workload, also about one that misbehaved."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
from rich.console import Console

from driver.cli import demo_text
from driver.core import fencing
from driver.model import vocabulary
from driver.model.published import Attribute, Capacity, PublishedDevice
from driver.simulation.reports import Got, Report, View
from driver.simulation.runtime.cdi import Mount
from driver.simulation.runtime.injection import Contents, NodeInContainer
from tests.fakes.cluster_objects import slice_

DEVICE = PublishedDevice(
    name="gpu-0000-1b-00-0",
    attributes={
        vocabulary.MODEL: Attribute(string="NVIDIA H100 80GB HBM3"),
        vocabulary.NUMA_NODE: Attribute(int_=0),
        vocabulary.INTERCONNECT_DOMAIN: Attribute(string="0000-1b-00-0"),
        vocabulary.DRIVER_VERSION: Attribute(version="580.126.9"),
        "example.com/on": Attribute(bool_=True),
    },
    capacity={vocabulary.MEMORY: Capacity(value="81559Mi")},
)
GOT = Got("gpu", "node-1", "gpu.accel-dra.dev", DEVICE)
NODE = NodeInContainer("/dev/gpu0", "/dev/null", "c", 1, 3, "rw", 0o666, None, None)
CONTENTS = Contents({"UUID": "GPU-12345678-1234", "N": "1"}, (NODE,), (Mount(host_path="/a", container_path="/b"),))


def _console() -> Console:
    return Console(width=100, record=True, file=io.StringIO(), highlight=False)


def _text(report: Report) -> str:
    console = _console()
    demo_text.show_report(console, report)
    return console.export_text()


def test_a_workload_that_runs() -> None:
    views = (View("main", (GOT,), CONTENTS), View("other", (), Contents({})))
    report = Report("pair", "Two GPUs", "Running", 0.123, views=views, reasons=("gpu: 1 of class c",))
    assert [line.rstrip() for line in _text(report).splitlines() if line.strip()] == [
        "✓ Two GPUs (pair): running after 0.12 s",
        "  asked   gpu: 1 of class c",
        "  got     node-1 gpu-0000-1b-00-0 NVIDIA H100 80GB HBM3, 79.65 GiB, NUMA 0, link 0000-1b-00-0",
        "  sees    main: /dev/gpu0 UUID=GPU-12345… N=1, 1 mount",
        "  sees    other: nothing",
    ]


def test_a_workload_that_waits_as_promised() -> None:
    message = "0/2 nodes are available: a: no GPU; b: no GPU either"
    text = _text(Report("none", "Too much", "Pending", 1.0, message))
    assert "✓ Too much (none): pending, as promised" in text
    assert "waits   a: no GPU" in text
    assert "waits   b: no GPU either" in text


def test_a_workload_that_broke_its_promise_says_which() -> None:
    text = _text(Report("pair", "Two GPUs", "Running", 0.1, problem="container main has 1 devices instead of 2"))
    assert "✗ Two GPUs (pair): container main has 1 devices instead of 2" in text


def test_the_summary_counts() -> None:
    good = Report("a", "A", "Running", 0.1)
    bad = Report("b", "B", "Running", 0.1, problem="wrong")
    console = _console()
    demo_text.show_summary(console, [good, bad], 1.26)
    assert console.export_text().strip() == "1 of 2 workloads behaved as promised, in 1.3 s."


def _access(*reports: Report) -> str:
    console = _console()
    demo_text.show_access(console, Path("/tmp/config"), Path("/examples"), "demo", reports)
    return console.export_text()


def test_the_way_to_the_cluster_leads_to_a_pod_that_waits() -> None:
    runs, waits = Report("a", "A", "Running", 0.1), Report("b", "B", "Pending", 0.1)
    text = _access(runs, waits)
    assert "export KUBECONFIG=/tmp/config\n" in text
    assert "kubectl apply -f /examples/shared-gpu\n" in text
    assert "kubectl -n demo describe pod b\n" in text
    assert "accel-dra explain pod b -n demo\n" in text
    assert "accel-dra explain pods" not in _access(runs)
    assert "kubectl -n demo describe pods\n" in _access(runs)


def _part(profile: str, uuid: str = "") -> PublishedDevice:
    own = {vocabulary.PROFILE: Attribute(string=profile)} | ({vocabulary.UUID: Attribute(string=uuid)} if uuid else {})
    return PublishedDevice(name=f"{profile}-{uuid}", attributes={**DEVICE.attributes, **own})


def test_parts_that_can_be_made_are_told_apart_from_those_that_are_there() -> None:
    console = _console()
    parts = [_part("3g.40gb"), _part("3g.40gb"), _part("1g.10gb"), _part("1g.10gb", uuid="MIG-1")]
    demo_text.show_nodes(console, {"node": [slice_(DEVICE, *parts)]})
    text = " ".join(console.export_text().split())
    there = "1 NVIDIA H100 80GB HBM3, 1 NVIDIA H100 80GB HBM3 parts 1g.10gb"
    assert there in text
    assert text.endswith("parts on demand: 3g.40gb, 1g.10gb")


def test_how_devices_are_shared_is_told() -> None:
    console = _console()
    shared = msgspec.structs.replace(DEVICE, attributes={vocabulary.SHARING: Attribute(string="MPS")})
    demo_text.show_nodes(console, {"node": [slice_(shared, shared)]})
    assert " ".join(console.export_text().split()).endswith("; shared through: MPS")


def test_nodes_are_summed_up() -> None:
    part = _part("1g.10gb", uuid="MIG-1")
    console = _console()
    fenced = msgspec.structs.replace(DEVICE, taints=(fencing.FENCE,))
    nodes = {"node-1": [slice_(DEVICE, part)], "node-2": [slice_(fenced)], "empty": []}
    demo_text.show_nodes(console, nodes)
    text = " ".join(console.export_text().split())
    devices = "1 NVIDIA H100 80GB HBM3, 1 NVIDIA H100 80GB HBM3 parts 1g.10gb, 2 of them linked"
    assert f"node-1 kube-scheduler {devices} node-2 controller 1 NVIDIA H100 80GB HBM3" in text
    assert text.endswith("empty")


def test_many_devices_are_a_line_a_node_and_an_explanation_is_told() -> None:
    views = tuple(
        View(
            f"pod-{node}/main",
            tuple(Got("gpu", node, "d", msgspec.structs.replace(DEVICE, name=f"gpu-{index}")) for index in range(4)),
            CONTENTS,
        )
        for node in ("a", "b")
    )
    text = _text(Report("group", "Eight GPUs", "Running", 0.1, views=views))
    assert "got     a 4 NVIDIA H100 80GB HBM3, 4 of them linked" in text
    assert "got     b 4 NVIDIA H100 80GB HBM3" in text
    told = _text(Report("none", "Too much", "Pending", 1.0, "0/1: no GPU", explanation="no node can give it"))
    assert "why     no node can give it" in told


def test_what_scheduler_and_controller_say_alike_is_told_once() -> None:
    told = _text(Report("none", "Too much", "Pending", 1.0, "0/2 nodes: a: no; b: no", explanation="a: no; b: no"))
    assert told == "✓ Too much (none): pending, as promised\n  why     a: no\n  why     b: no\n\n"


def test_no_line_ends_with_blanks_and_long_lines_hang_below_their_text() -> None:
    told = _text(Report("long", "Long", "Running", 0.1, reasons=("word " * 60, "short")))
    first, *others = told.splitlines()[1:-1]
    assert first.startswith("  asked   word")
    assert all(line == line.rstrip() for line in told.splitlines())
    assert others[0].startswith("          word")
    assert others[-1] == "  asked   short"


def test_on_a_narrow_terminal_text_is_still_readable() -> None:
    console = Console(record=True, width=12, file=io.StringIO())
    demo_text.show_report(console, Report("n", "N", "Running", 0.1, reasons=("several words in a row",)))
    assert "  asked   several words in a\n          row\n" in console.export_text()


def test_attributes_of_every_type_are_shown() -> None:
    assert GOT.text(vocabulary.DRIVER_VERSION) == "580.126.9"
    assert GOT.text(vocabulary.NUMA_NODE) == "0"
    assert GOT.text("example.com/on") == "true"
    assert GOT.text("example.com/none") == ""
    assert Got("r", "n", "d", PublishedDevice(name="x")).memory == ""
