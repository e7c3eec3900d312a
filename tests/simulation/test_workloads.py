"""The demo can fail: each promise of an example, broken in one way, is noticed and named."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest

from driver.model import vocabulary
from driver.model.published import Attribute, Capacity, PublishedDevice
from driver.simulation.promises import CHECKS
from driver.simulation.reports import Got, Report, View
from driver.simulation.runtime.injection import Contents, NodeInContainer

NODE = NodeInContainer("/dev/gpu0", "/dev/null", "c", 1, 3, "rw", 0o666, None, None)


def device(name: str, **attributes: str) -> Got:
    known = {
        "link": vocabulary.INTERCONNECT_DOMAIN,
        "profile": vocabulary.PROFILE,
        "numa": vocabulary.NUMA_NODE,
        "parent": vocabulary.PARENT_UUID,
        "kind": vocabulary.TYPE,
        "bus": vocabulary.PCI_BUS_ID,
    }
    values = {known[key]: Attribute(string=value) for key, value in attributes.items()}
    return Got("gpu", "node-1", "gpu.accel-dra.dev", PublishedDevice(name=name, attributes=values))


def sized(name: str, memory: str) -> Got:
    capacity = {vocabulary.MEMORY: Capacity(value=memory)}
    return Got("part", "node-1", "gpu.accel-dra.dev", PublishedDevice(name=name, capacity=capacity))


A, B = device("a", link="x", numa="0"), device("b", link="x", numa="0")
ELSEWHERE, ALONE = device("c", link="y", numa="1"), device("d")
PART, WRONG_PART = device("p", profile="1g.10gb"), device("q", profile="2g.20gb")


LARGE, SMALL = device("l", profile="3g.40gb", parent="GPU-1"), device("s", profile="1g.10gb", parent="GPU-1")
ENFORCED = Contents({"ACCEL_DRA_SHARE_ENFORCED": "true"}, (NODE,))
STRANGER = device("t", profile="1g.10gb", parent="GPU-2")


def view(name: str, *got: Got, nodes: bool | None = None) -> View:
    has_nodes = bool(got) if nodes is None else nodes
    return View(name, got, Contents({}, (NODE,) if has_nodes else ()))


def report(*views: View, phase: str = "Running", message: str = "", explanation: str = "") -> Report:
    return Report("example", "An example", phase, 0.1, message, views, explanation=explanation)


def place(driver: str, node: str = "node-1", **attributes: str) -> Got:
    known = {"numa": vocabulary.NUMA_NODE, "root": vocabulary.PCIE_ROOT, "fabric": vocabulary.FABRIC_DOMAIN}
    values = {known[key]: Attribute(string=value) for key, value in attributes.items()}
    return Got("gpu", node, driver, PublishedDevice(name=driver, attributes=values))


GPU, NIC = place("gpu", numa="0", root="pci0"), place("nic", numa="0", root="pci0")


def mixed(*kinds: str, buses: str = "123", limited: str = "notebook") -> Report:
    names = ("train", "evaluate", "notebook")
    got = [device(bus, kind=kind, bus=bus) for kind, bus in zip(kinds, buses, strict=True)]
    contents = {name: ENFORCED if name == limited else Contents({}, (NODE,)) for name in names}
    return report(*(View(name, (each,), contents[name]) for name, each in zip(names, got, strict=True)))


def together(*names: str, **env: str) -> Report:
    """Return containers that have one GPU, each with these variables."""
    return report(*(View(name, (A,), Contents(dict(env), (NODE,))) for name in names))


def quarters(*percentages: str, enforced: str = "true") -> Report:
    views = [
        View(
            f"shares-{number}/main",
            (A,),
            Contents({"ACCEL_DRA_SHARE_ENFORCED": enforced, "X_MPS_ACTIVE_THREAD_PERCENTAGE": percentage}, (NODE,)),
        )
        for number, percentage in enumerate(percentages)
    ]
    return report(*views)


def group(*nodes: str, fabric: str = "f.1") -> Report:
    members = {f"group-{index}": [place("gpu", node, fabric=fabric)] * 4 for index, node in enumerate(nodes)}
    return report(*(view(name, *got) for name, got in members.items()))


NO_MATCH = "no node can give request gpus 2 devices: 1 node: memory 80Gi < 500Gi asked"
KEPT: Mapping[str, Report] = {
    "single-gpu": report(view("main", A)),
    "nvlink-pair": report(view("main", A, B)),
    "partition": report(view("main", PART)),
    "mig-by-profile": report(view("model", LARGE), view("helper", SMALL)),
    "mig-by-memory": report(view("main", sized("p", "20096Mi"))),
    "mixed-pod": mixed("gpu", "partition", "gpu"),
    "time-slicing": together("time-slicing-0/main", "time-slicing-1/main"),
    "mps-limits": together("server", "batch", X_MPS_PIPE_DIRECTORY="/tmp/x"),
    "shares": quarters("25", "25"),
    "first-available": report(view("main", A)),
    "shared-gpu": report(view("server", A), view("profiler", A), view("logger")),
    "two-requests": report(view("prefill", A), view("decode", B)),
    "extended-resource": report(view("main", A)),
    "same-numa-node": report(view("main", A, B)),
    "topology-pair": report(view("main", A, B)),
    "gpu-with-nic": report(view("main", GPU, NIC)),
    "node-group": group("a", "b", "c", "d"),
    "unsatisfiable": report(phase="Pending", message=NO_MATCH, explanation="no node: memory 80Gi < 500Gi"),
}


def test_every_promise_is_tried() -> None:
    assert set(KEPT) == set(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_a_promise_that_is_kept_is_no_problem(name: str) -> None:
    assert CHECKS[name](KEPT[name]) == ""


@pytest.mark.parametrize("name", [name for name in CHECKS if name != "unsatisfiable"])
def test_a_pod_that_does_not_run_is_a_problem_with_its_reason(name: str) -> None:
    waiting = dataclasses.replace(KEPT[name], phase="Pending", message="no node has one")
    assert CHECKS[name](waiting) == "the pod is Pending: no node has one"


@pytest.mark.parametrize("name", [name for name in CHECKS if name != "unsatisfiable"])
def test_a_container_without_its_device_or_its_node_is_a_problem(name: str) -> None:
    whole = KEPT[name]
    for index, each in enumerate(whole.views):
        others = [view for number, view in enumerate(whole.views) if number != index]
        if each.got:
            fewer = report(View(each.name, each.got[1:], each.contents), *others)
            assert f"container {each.name} has {len(each.got) - 1} devices" in CHECKS[name](fewer)
            blind = report(view(each.name, *each.got, nodes=False), *others)
            assert f"container {each.name} has 0 device nodes" in CHECKS[name](blind)
        else:
            more = report(view(each.name, A), *others)
            assert f"container {each.name} has 1 devices instead of 0" in CHECKS[name](more)
            leaky = report(view(each.name, nodes=True), *others)
            assert f"container {each.name} has 1 device nodes for 0 devices" in CHECKS[name](leaky)


@pytest.mark.parametrize(
    ("name", "broken", "problem"),
    [
        ("nvlink-pair", report(view("main", A, ELSEWHERE)), "interconnectDomain differs: ['x', 'y']"),
        ("nvlink-pair", report(view("main", ALONE, ALONE)), "interconnectDomain differs: ['']"),
        ("same-numa-node", report(view("main", A, ELSEWHERE)), "numaNode differs: ['0', '1']"),
        ("two-requests", report(view("prefill", A), view("decode", ELSEWHERE)), "interconnectDomain differs"),
        ("two-requests", report(view("prefill", A), view("decode", A)), "both containers have the same GPU"),
        ("shared-gpu", report(view("server", A), view("profiler", B), view("logger")), "have different GPUs"),
        ("partition", report(view("main", WRONG_PART)), "the profile is '2g.20gb'"),
        ("mig-by-profile", report(view("model", LARGE), view("helper", STRANGER)), "parentUUID differs"),
        ("mig-by-profile", report(view("model", SMALL), view("helper", SMALL)), "profiles are 1g.10gb and 1g.10gb"),
        ("mig-by-memory", report(view("main", sized("p", "40448Mi"))), "the partition has 39.5 GiB"),
        ("mig-by-memory", report(view("main", sized("p", "9984Mi"))), "the partition has 9.75 GiB"),
        ("mixed-pod", mixed("gpu", "gpu", "gpu"), "the devices are of type gpu, gpu, gpu"),
        ("mixed-pod", mixed("gpu", "partition", "gpu", buses="122"), "two containers are on one GPU"),
        ("mixed-pod", mixed("gpu", "partition", "gpu", limited="train"), "limited to a share: train"),
        ("mixed-pod", mixed("gpu", "partition", "gpu", limited=""), "limited to a share: nobody"),
        (
            "time-slicing",
            report(view("time-slicing-0/main", A), view("time-slicing-1/main", B)),
            "the containers have different GPUs",
        ),
        ("mps-limits", report(view("server", A), view("batch", B)), "the containers have different GPUs"),
        ("mps-limits", report(view("server", A), view("batch", A)), "without a way to the MPS daemon: server, batch"),
        ("shares", quarters("25", "50"), "shares-1/main is not limited to a quarter of the GPU"),
        ("shares", quarters("25", "25", enforced="false"), "nothing says that the share of shares-0/main is enforced"),
        ("shares", report(view("shares-0/main", A), view("shares-1/main", B)), "the containers have different GPUs"),
        ("topology-pair", report(view("main", A, ELSEWHERE)), "interconnectDomain differs"),
        ("gpu-with-nic", report(view("main", GPU, GPU)), "the devices are of {'gpu'}"),
        ("gpu-with-nic", report(view("main", GPU, place("nic", numa="1", root="pci0"))), "numaNode differs"),
        ("gpu-with-nic", report(view("main", GPU, place("nic", numa="0", root="pci1"))), "pcieRoot differs"),
        ("node-group", group("a", "b", "c", "c"), "the group is on 3 nodes"),
        ("node-group", group("a", "b", "c", "d", fabric=""), "fabricDomain differs"),
        ("unsatisfiable", report(phase="Pending", message=NO_MATCH), "the controller does not say why: ''"),
        ("unsatisfiable", report(view("main", A)), "the pod is Running, though no device can satisfy its claim"),
        ("unsatisfiable", report(phase="Pending", message="waiting"), "nothing says why: 'waiting'"),
    ],
)
def test_a_promise_that_is_broken_is_named(name: str, broken: Report, problem: str) -> None:
    assert problem in CHECKS[name](broken)


def test_a_container_that_is_not_there_has_nothing() -> None:
    none = KEPT["single-gpu"].view("nobody")
    assert (none.got, none.contents.env, none.contents.device_nodes) == ((), {}, ())


@pytest.mark.parametrize(
    ("attribute", "shown"),
    [
        (Attribute(string="x"), "x"),
        (Attribute(version="1.2.3"), "1.2.3"),
        (Attribute(int_=0), "0"),
        (Attribute(bool_=False), "false"),
    ],
)
def test_attributes_are_shown_whatever_their_type(attribute: Attribute, shown: str) -> None:
    got = Got("gpu", "node-1", "d", PublishedDevice(name="a", attributes={"example.com/x": attribute}))
    assert got.text("example.com/x") == shown
    assert got.text("example.com/y") == ""


def test_memory_is_shown_in_gibibytes() -> None:
    sized = PublishedDevice(name="a", capacity={vocabulary.MEMORY: Capacity(value="81559Mi")})
    assert Got("gpu", "node-1", "d", sized).memory == "79.65 GiB"
    assert Got("gpu", "node-1", "d", PublishedDevice(name="a")).memory == ""
