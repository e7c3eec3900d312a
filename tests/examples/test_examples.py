"""Every example of deploy/examples: explained, valid against what devices publish, and run on the embedded cluster."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec
import pytest
import yaml

from driver import vendors
from driver.contract import Roots
from driver.core import cel, fencing, inventory, naming, shares
from driver.core.fencing import Authority
from driver.core.offering import Mode, Offer
from driver.model.devices import Inventory
from driver.model.requests import DeviceRequest
from driver.simulation import manifests, promises, sites, workloads
from driver.simulation.access import CLAIMS
from driver.simulation.cluster import Cluster, ClusterOptions
from driver.simulation.nodes import NodeSpec
from driver.simulation.objects import Meta
from driver.simulation.resources import Claim, DeviceClass

ROOT: Final = Path(__file__).parents[2]
EXAMPLES: Final = sorted(path for path in (ROOT / "deploy" / "examples").iterdir() if path.is_dir())
NAMESPACE: Final = "examples"
GONE: Final = "gone"
_NAMES: Final = re.compile(
    r'device\.(?:attributes|capacity)\["([^"]+)"\]\.\??(\w+)|"(\w+)" in device\.attributes\["([^"]+)"\]'
)
_REGISTRY: Final = re.compile(r"^[^/]+\.[^/]+/")

Document = Mapping[str, object]


def _documents(folder: Path) -> list[Document]:
    return [
        document
        for path in sorted(folder.glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
        if document
    ]


def _claims(folder: Path) -> list[Claim]:
    found = []
    for document in _documents(folder):
        spec = document["spec"]
        assert isinstance(spec, dict)
        if document["kind"] == "ResourceClaimTemplate":
            spec = spec["spec"]
        if document["kind"] in ("ResourceClaim", "ResourceClaimTemplate"):
            encoded = msgspec.json.encode({"metadata": document["metadata"], "spec": spec})
            found.append(msgspec.json.decode(encoded, type=Claim))
    return found


def _requests(folder: Path) -> list[DeviceRequest]:
    return [
        wanted
        for claim in _claims(folder)
        for request in claim.spec.devices.requests
        for wanted in ((request.exactly,) if request.exactly else request.first_available)
    ]


def _classes(folder: Path) -> dict[str, DeviceClass]:
    documents: list[Document] = [*manifests.read(manifests.find("base", "deviceclasses.yaml"))]
    documents += [each for each in _documents(folder) if each["kind"] == "DeviceClass"]
    decoded = [msgspec.json.decode(msgspec.json.encode(each), type=DeviceClass) for each in documents]
    return {each.metadata.name: each for each in decoded}


@pytest.fixture(scope="module")
def inventories(tmp_path_factory: pytest.TempPathFactory) -> list[Inventory]:
    """Return what the nodes of the examples publish."""
    state = str(tmp_path_factory.mktemp("state"))
    roots = Roots("/", "/", "/", "/", "/sys", "/proc", state)
    offered = {
        (hardware, _make_offer(node))
        for node in sites.list_nodes()
        for hardware in (node.hardware, *node.other_hardware.values())
    }
    return [
        inventory.build(vendors.load("simulated", roots, {"node": hardware}).snapshot(), offer=offer)
        for hardware, offer in sorted(offered, key=str)
    ]


def _make_offer(node: NodeSpec) -> Offer:
    mode = Mode(node.settings.get("partitions", Mode.STATIC.value))
    return Offer(mode=mode, shares=shares.read_strategy(str(node.settings.get("shares", shares.OFF))))


def test_there_are_examples_and_each_is_promised_something() -> None:
    assert len(EXAMPLES) >= 5
    assert {folder.name for folder in EXAMPLES} == set(promises.CHECKS)


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_an_example_says_what_it_shows_and_what_to_expect(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    assert text.startswith("# ")
    assert f"kubectl apply -f deploy/examples/{folder.name}" in text
    assert "**Expected:**" in text


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_an_example_is_ready_to_be_copied(folder: Path) -> None:
    documents = _documents(folder)
    assert "Pod" in {document["kind"] for document in documents}
    for document in documents:
        metadata = document["metadata"]
        assert isinstance(metadata, dict)
        name = re.sub(r"-[0-9]$", "", metadata["name"])
        assert name == folder.name, "one name an example, so that it can be found and removed"
        assert "namespace" not in metadata, "the user decides"
        text = yaml.safe_dump(document)
        assert not any(_REGISTRY.match(image) for image in re.findall(r"image: (\S+)", text))


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_peer_defect_12_classes_selectors_and_constraints_name_what_is_published(
    folder: Path, inventories: list[Inventory]
) -> None:
    devices = [entry.device for each in inventories for entry in each.entries]
    fenced = fencing.fence(devices, Authority.CONTROLLER)
    published = {name for device in fenced for name in (*device.attributes, *device.capacity)}
    classes = _classes(folder)
    for wanted in _requests(folder):
        assert wanted.device_class_name in classes
        for selector in (*wanted.selectors, *classes[wanted.device_class_name].spec.selectors):
            assert selector.cel is not None
            cel.compile_selector(selector.cel.expression)
            names = _NAMES.findall(selector.cel.expression)
            assert names, f"no attribute is recognized in {selector.cel.expression}"
            for domain, name, other, other_domain in names:
                assert f"{domain or other_domain}/{name or other}" in published
    for claim in _claims(folder):
        for constraint in claim.spec.devices.constraints:
            assert constraint.match_attribute in published


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_no_selector_fails_on_any_device_of_its_class(folder: Path, inventories: list[Inventory]) -> None:
    """A selector that fails on one device stops the scheduling of the pod for the whole cluster."""
    classes = _classes(folder)
    views = [cel.view("gpu.accel-dra.dev", entry.device) for each in inventories for entry in each.entries]
    for wanted in _requests(folder):
        for view in views:
            chosen = [each.cel for each in classes[wanted.device_class_name].spec.selectors if each.cel]
            if all(cel.matches(cel.compile_selector(each.expression), view) for each in chosen):
                for selector in wanted.selectors:
                    assert selector.cel is not None
                    assert cel.matches(cel.compile_selector(selector.cel.expression), view) in (True, False)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(sites.list_nodes(), ClusterOptions(controllers=1)) as cluster:
        cluster.wait_ready()
        cluster.create_namespace(NAMESPACE)
        cluster.create_namespace(GONE)
        yield cluster


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_an_example_does_what_it_promises(cluster: Cluster, folder: Path) -> None:
    report = workloads.run(cluster, folder, NAMESPACE)
    assert report.problem == ""
    assert report.title == (folder / "README.md").read_text().splitlines()[0].removeprefix("# ")
    assert report.reasons


def test_partitions_that_were_made_for_a_pod_are_gone_with_it(cluster: Cluster) -> None:
    """They are there while it runs, and with the last of them the device leaves partition mode."""
    folder = ROOT / "deploy" / "examples" / "mig-by-profile"
    cluster.apply(folder, GONE)
    cluster.wait_running("mig-by-profile", GONE)
    claims = cluster.objects.list_all(CLAIMS, GONE)
    made = {
        result.device
        for claim in claims
        if claim.status.allocation
        for result in claim.status.allocation.devices.results
    }
    assert len(made) == 2
    assert made <= _list_made(cluster)
    cluster.delete_pod("mig-by-profile", GONE)
    assert made.isdisjoint(_list_made(cluster))


def _list_made(cluster: Cluster) -> set[str]:
    """Names of the partitions that are on the devices of the node that makes them."""
    node = cluster.nodes[sites.ON_DEMAND]
    driver = node.spec.drivers[0]
    state = str(node.folders.plugins / driver)
    roots = Roots("/", "/", "/", "/", "/sys", str(node.proc), state)
    options = {"node": node.spec.hardware, "seed": f"{node.spec.name}-{driver}"}
    snapshot = vendors.load("simulated", roots, options).snapshot()
    return {naming.name_partition(device, part) for device in snapshot.accelerators for part in device.partitions}


def test_a_broken_promise_is_noticed(cluster: Cluster, tmp_path: Path) -> None:
    folder = tmp_path / "shared-gpu"
    folder.mkdir()
    (folder / "README.md").write_text("# One GPU for two containers\n")
    text = (ROOT / "deploy/examples/single-gpu/workload.yaml").read_text()
    (folder / "workload.yaml").write_text(text.replace("single-gpu", "broken"))
    assert workloads.run(cluster, folder, NAMESPACE).problem == "container server has 0 devices instead of 1"


def test_a_claim_object_is_decoded_as_the_cluster_does() -> None:
    assert all(isinstance(claim.metadata, Meta) for folder in EXAMPLES for claim in _claims(folder))
