"""What a review says of selectors, classes, shares and addresses, in all versions, with and without a cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from driver.core import cel, specification
from driver.core.reviewing import reviews, selecting, specimens, subjects
from driver.core.reviewing.findings import Finding
from driver.core.reviewing.selecting import Stage
from driver.core.specification import TYPES
from driver.model.errors import InvalidInput
from driver.model.published import PublishedSlice
from driver.model.requests import DeviceClass
from driver.model.slices import Device

ROOT = Path(__file__).resolve().parents[3]
DRIVER = "gpu.accel-dra.dev"
OURS = 'device.attributes["accel-dra.dev"]'
SLICE_DECODER = msgspec.json.Decoder(PublishedSlice)
CLASS_DECODER = msgspec.json.Decoder(DeviceClass)


def claim(*requests: dict[str, Any], config: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"metadata": {"name": "c"}, "spec": {"devices": {"requests": list(requests), "config": config or []}}}


def exactly(class_name: str = "gpu.accel-dra.dev", *expressions: str, **more: Any) -> dict[str, Any]:
    selectors = [{"cel": {"expression": each}} for each in expressions]
    return {"name": "gpu", "exactly": {"deviceClassName": class_name, "selectors": selectors, **more}}


def device_class(name: str, *expressions: str) -> DeviceClass:
    selectors = [{"cel": {"expression": each}} for each in expressions]
    return CLASS_DECODER.decode(json.dumps({"metadata": {"name": name}, "spec": {"selectors": selectors}}))


def published(**attributes: Any) -> PublishedSlice:
    device = {"name": "gpu-0", "attributes": attributes}
    pool = {"name": "node-a", "generation": 1, "resourceSliceCount": 1}
    spec = {"driver": DRIVER, "nodeName": "node-a", "pool": pool, "devices": [device]}
    return SLICE_DECODER.decode(json.dumps({"metadata": {"name": "s"}, "spec": spec}))


def review(document: Any, kind: str = subjects.CLAIM, stage: Stage | None = None) -> list[Finding]:
    subject = subjects.decode(kind, json.dumps(document).encode())
    return list(reviews.review(subject, DRIVER, stage or selecting.open_stage(DRIVER)))


def review_class(*expressions: str, stage: Stage | None = None) -> list[Finding]:
    selectors = [{"cel": {"expression": each}} for each in expressions]
    return review({"metadata": {"name": "k"}, "spec": {"selectors": selectors}}, subjects.CLASS, stage)


def test_specimens_follow_the_vocabulary() -> None:
    """One bare and one full device of each type; the bare ones lack nothing that each must have."""
    for kind in TYPES:
        for is_full in (False, True):
            described = msgspec.to_builtins(specimens._describe(kind, is_full=is_full))
            assert specification.check(msgspec.convert(described, Device)) == ()
    made = specimens.make(DRIVER)
    assert len(made) == 2 * len(TYPES) + 1
    assert {each.type for each in made} == {*TYPES, ""}


def test_a_selector_that_reads_what_a_device_may_lack_is_warned_of_with_one_that_works() -> None:
    (warning,) = review(claim(exactly("gpu.accel-dra.dev", f'{OURS}.model == "H100"')))
    assert warning.is_warning
    assert warning.path == "spec.devices.requests[0].exactly.selectors[0].cel.expression"
    assert "it has no attribute accel-dra.dev/model" in warning.text
    better = warning.text.rpartition("`: `")[2].split("`")[-2]
    assert better == f'has({OURS}.model) && {OURS}.model == "H100"'
    assert review(claim(exactly("gpu.accel-dra.dev", better))) == []
    for specimen in specimens.make(DRIVER):
        assert isinstance(cel.matches(cel.compile_selector(better), specimen.view), bool)


@pytest.mark.parametrize(
    "expression",
    [
        f'{OURS}.type == "gpu"',
        f'{OURS}.?model.orValue("") == "H100"',
        f'has({OURS}.model) && {OURS}.model == "H100"',
        'device.capacity["accel-dra.dev"].memory.compareTo(quantity("40Gi")) >= 0',
        '"numaNode" in device.attributes["resource.kubernetes.io"]',
        f'semver("1.2.3").isLessThan(semver({OURS}.uuid))',
        "device.allowMultipleAllocations",
    ],
)
def test_a_selector_that_has_an_answer_for_each_device_is_fine(expression: str) -> None:
    assert review(claim(exactly("gpu.accel-dra.dev", expression))) == []


def test_a_request_meets_only_what_its_class_lets_through() -> None:
    profile = f'{OURS}.profile == "1g.10gb"'
    assert review(claim(exactly("partition.accel-dra.dev", profile))) == []
    (warning,) = review(claim(exactly("gpu.accel-dra.dev", profile)))
    assert "a device of type gpu" in warning.text
    classes = {"mine": device_class("mine", f'{OURS}.?type.orValue("") == "partition"')}
    assert review(claim(exactly("mine", profile)), stage=selecting.open_stage(DRIVER, classes)) == []


def test_what_is_known_of_our_classes_is_what_they_say() -> None:
    classes = {
        item["metadata"]["name"]: CLASS_DECODER.decode(json.dumps(item))
        for file in (ROOT / "deploy").rglob("*.yaml")
        for item in yaml.safe_load_all(file.read_text())
        if item and item["kind"] == "DeviceClass" and item["metadata"]["name"].endswith(".accel-dra.dev")
    }
    assert set(classes) >= set(selecting.OUR_CLASSES)
    for name, expressions in selecting.OUR_CLASSES.items():
        assert [each.cel.expression for each in classes[name].spec.selectors if each.cel] == list(expressions)


def test_our_classes_are_known_without_being_at_hand() -> None:
    asked = {"accel-dra.dev/share": "25", "accel-dra.dev/memory": "10Gi"}
    sized = exactly("shared.accel-dra.dev", f'{OURS}.sharing == "MPS"', capacity={"requests": asked})
    assert review(claim(sized)) == []
    assert len(review(claim(exactly("gpu.accel-dra.dev", f'{OURS}.sharing == "MPS"')))) == 1


def test_each_selector_meets_only_what_the_earlier_ones_let_through() -> None:
    first = f'has({OURS}.model) && {OURS}.model == "x"'
    assert review(claim(exactly("gpu.accel-dra.dev", first, f'{OURS}.model != "y"'))) == []
    assert len(review(claim(exactly("gpu.accel-dra.dev", f'{OURS}.model != "y"', first)))) == 1


def test_of_a_class_that_is_not_at_hand_only_what_is_sure_is_said() -> None:
    assert review(claim(exactly("unknown", f'{OURS}.profile == "1g.10gb"'))) == []
    assert review(claim(exactly("unknown", 'device.attributes["gpu.nvidia.com"].productName == "x"'))) == []
    assert len(review(claim(exactly("unknown", f'{OURS}.model == "H100"')))) == 1


def test_the_selectors_of_a_class_meet_devices_of_all_drivers() -> None:
    (warning,) = review_class(f'{OURS}.type == "gpu"')
    assert warning.path == "spec.selectors[0].cel.expression"
    assert "for a device of another driver" in warning.text
    assert review_class(f'{OURS}.?type.orValue("") == "gpu"') == []
    assert review_class(f'device.driver == "{DRIVER}"', f'{OURS}.type == "gpu"') == []


@pytest.mark.parametrize(
    "expression", ["device.foo", "1 + 1", "device.attributes[", "", "'x'", "[1].map(x, [x])" * 900]
)
def test_a_selector_that_the_api_server_refuses_is_a_fault(expression: str) -> None:
    (fault,) = review(claim(exactly("gpu.accel-dra.dev", expression)))
    assert not fault.is_warning
    assert fault.path.endswith("selectors[0].cel.expression")
    assert "is no selector: " in fault.text
    assert "\n" not in str(fault)


def test_published_devices_join_the_specimens() -> None:
    """A published device may lack what the vocabulary promises, or be another driver's with our words."""
    slices = [published(**{"accel-dra.dev/type": {"string": "gpu"}})]
    expression = f'{OURS}.uuid == "GPU-1"'
    assert review(claim(exactly("gpu.accel-dra.dev", expression))) == []
    (warning,) = review(claim(exactly("gpu.accel-dra.dev", expression)), stage=selecting.open_stage(DRIVER, {}, slices))
    assert f"for device node-a/gpu-0 of {DRIVER}: it has no attribute accel-dra.dev/uuid" in warning.text


def test_a_class_that_no_published_device_matches_is_warned_of_where_slices_are_known() -> None:
    expression = f'{OURS}.?type.orValue("") == "vfio"'
    gpu = published(**{"accel-dra.dev/type": {"string": "gpu"}})
    assert review_class(expression) == []
    for slices in ([], [gpu]):
        (warning,) = review_class(expression, stage=selecting.open_stage(DRIVER, {}, slices))
        assert str(warning) == "spec.selectors: no device that is published now matches this class"
    assert review_class(expression.replace("vfio", "gpu"), stage=selecting.open_stage(DRIVER, {}, [gpu])) == []


def test_a_class_that_does_not_exist_is_warned_of_where_all_are_known() -> None:
    classes = {"gpu.accel-dra.dev": device_class("gpu.accel-dra.dev", "true")}
    stage = selecting.open_stage(DRIVER, classes, has_all_classes=True)
    (warning,) = review(claim(exactly("gpu.acceldra.dev")), stage=stage)
    assert "there is no DeviceClass gpu.acceldra.dev now (gpu.accel-dra.dev was probably meant)" in warning.text
    assert review(claim(exactly("gpu.acceldra.dev"))) == []


@pytest.mark.parametrize(
    ("asked", "missing"),
    [
        ({}, "without accel-dra.dev/share and accel-dra.dev/memory"),
        ({"accel-dra.dev/share": "25"}, "without accel-dra.dev/memory"),
        ({"accel-dra.dev/memory": "10Gi"}, "without accel-dra.dev/share"),
        ({"share": "25", "memory": "10Gi"}, "without accel-dra.dev/share and accel-dra.dev/memory"),
        ({"accel-dra.dev/share": "25", "accel-dra.dev/memory": "10Gi"}, ""),
    ],
)
def test_a_share_without_a_size_is_all_of_it(asked: dict[str, str], missing: str) -> None:
    everything = review(claim(exactly("shared.accel-dra.dev", capacity={"requests": asked})))
    found = [each for each in everything if each.path.endswith("requests")]
    assert bool(found) is bool(missing)
    for warning in found:
        assert warning.is_warning
        assert warning.path == "spec.devices.requests[0].exactly.capacity.requests"
        assert missing in warning.text


@pytest.mark.parametrize("class_name", ["shared.accel-dra.dev", "gpu.accel-dra.dev", "partition.accel-dra.dev"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("memory", "no device has this capacity (accel-dra.dev/memory was probably meant), so none can be allocated"),
        ("accel-dra.dev/memroy", "(accel-dra.dev/memory was probably meant)"),
        ("accel-dra.dev/flux", "no device has this capacity, so none"),
        ("acme.example/lanes", ""),
        ("accel-dra.dev/multiprocessors", ""),
    ],
)
def test_a_capacity_that_no_device_has_is_told_with_the_one_that_was_meant(
    class_name: str, name: str, text: str
) -> None:
    asked = {"accel-dra.dev/share": "25", "accel-dra.dev/memory": "10Gi", name: "1"}
    found = review(claim(exactly(class_name, capacity={"requests": asked})))
    assert [each.path for each in found] == (
        [f"spec.devices.requests[0].exactly.capacity.requests[{name}]"] if text else []
    )
    assert all(each.is_warning and text in each.text for each in found)


@pytest.mark.parametrize(
    ("more", "share", "field"),
    [
        ({"count": 1}, "100", ""),
        ({"count": 2}, "25", "count"),
        ({"allocationMode": "All"}, "25", "allocationMode"),
        ({}, "101", "capacity.requests[accel-dra.dev/share]"),
        ({}, "100500m", "capacity.requests[accel-dra.dev/share]"),
    ],
)
def test_shares_that_no_node_gives_are_warned_of(more: dict[str, Any], share: str, field: str) -> None:
    asked = {"accel-dra.dev/share": share, "accel-dra.dev/memory": "10Gi"}
    found = review(claim(exactly("shared.accel-dra.dev", capacity={"requests": asked}, **more)))
    assert [each.path for each in found] == ([f"spec.devices.requests[0].exactly.{field}"] if field else [])
    assert all(each.is_warning for each in found)


def config(driver: str = DRIVER, **content: Any) -> dict[str, Any]:
    head = {"apiVersion": "config.accel-dra.dev/v1alpha1", "kind": "GpuConfig", "sharing": {"strategy": "MPS"}}
    return {"opaque": {"driver": driver, "parameters": {**head, **content}}}


@pytest.mark.parametrize(
    ("driver", "content", "warns"),
    [
        ("gpu.acceldra.dev", {}, True),
        ("gpu.accel-dra.com", {}, True),
        ("GPU.accel-dra.dev", {}, True),
        ("accel-dra.dev", {}, True),
        ("gpu.nvidia.com", {}, False),
        ("gpu.acceldra.dev", {"apiVersion": "example.com/v1"}, False),
        ("gpu.acceldra.dev", {"apiVersion": 5}, False),
    ],
)
def test_configuration_of_ours_for_a_name_that_is_nearly_ours_is_warned_of(
    driver: str, content: dict[str, Any], *, warns: bool
) -> None:
    found = review(claim(exactly(), config=[config(driver, **content)]))
    assert [(each.path, each.is_warning) for each in found] == (
        [("spec.devices.config[0].opaque.driver", True)] if warns else []
    )


def test_peer_defect_05_every_kind_of_ours_is_accepted_in_claims_templates_and_classes() -> None:
    entries = [config(), config(kind="PartitionConfig"), config(kind="AllocationPolicy")]
    del entries[2]["opaque"]["parameters"]["sharing"]
    assert review(claim(exactly(), config=entries)) == []
    assert review({"spec": claim(exactly(), config=entries)}, subjects.TEMPLATE) == []
    assert review({"spec": {"config": entries}}, subjects.CLASS) == []
    for kind, document, path in (
        (subjects.CLASS, {"spec": {"config": [config(kind="GpuConf")]}}, "spec.config[0]"),
        (subjects.TEMPLATE, {"spec": claim(exactly(), config=[config(kind="GpuConf")])}, "spec.spec.devices.config[0]"),
    ):
        (fault,) = review(document, kind)
        assert fault.path == f"{path}.opaque.parameters.kind"


def test_configuration_for_a_type_that_the_request_cannot_be_given_is_warned_of() -> None:
    entry = {**config(kind="PartitionConfig"), "requests": ["gpu"]}
    (warning,) = review(claim(exactly(), config=[entry]))
    assert str(warning) == (
        "spec.devices.config[0].opaque.parameters.kind: is for devices of type partition, and request gpu gets gpu"
    )
    assert review(claim(exactly("partition.accel-dra.dev"), config=[entry])) == []
    assert review(claim(exactly("unknown"), config=[entry])) == []


@pytest.mark.parametrize(
    ("more", "field"), [({"count": 2}, "count"), ({"allocationMode": "All"}, "allocationMode"), ({"count": 1}, "")]
)
def test_several_partitions_with_a_daemon_each_in_one_request_are_warned_of(more: dict[str, Any], field: str) -> None:
    wanted = exactly("partition.accel-dra.dev", **more)
    text = "a node refuses more than one partition a request with MPS: ask for each in a request of its own"
    warnings = [f"spec.devices.requests[0].exactly.{field}: {text}"] if field else []
    assert list(map(str, review(claim(wanted, config=[config(kind="PartitionConfig")])))) == warnings
    later = [config(kind="PartitionConfig"), config(kind="PartitionConfig", sharing={"strategy": "Exclusive"})]
    assert review(claim(wanted, config=later)) == [], "the last one holds"
    assert review(claim(wanted, config=[config()])) == [], "it is for whole devices, which have one daemon together"
    assert review(claim(exactly(**more), config=[config(kind="PartitionConfig")])) == []


@pytest.mark.parametrize(
    ("asked", "index", "is_lost"),
    [
        ({"count": 2}, 1, False),
        ({"count": 2}, 2, True),
        ({}, 1, True),
        ({"allocationMode": "All"}, 9, False),
        ({"allocationMode": "ExactCount", "count": 1}, 0, False),
    ],
)
def test_an_override_for_a_device_that_the_request_cannot_have_is_a_fault(
    asked: dict[str, Any], index: int, *, is_lost: bool
) -> None:
    limits = {"perDevice": [{"index": index, "activeThreadPercentage": 5}]}
    entry = config(sharing={"strategy": "MPS", "mps": limits})
    found = review(claim(exactly(**asked), config=[entry]))
    assert [each.path.rpartition("parameters.")[2] for each in found] == (
        ["sharing.mps.perDevice[0].index"] if is_lost else []
    )


def test_alternatives_are_reviewed_each_at_its_place() -> None:
    part = {"name": "a", "deviceClassName": "gpu.accel-dra.dev", "selectors": [{"cel": {"expression": "device.x"}}]}
    (fault,) = review(claim({"name": "gpu", "firstAvailable": [part]}))
    assert fault.path == "spec.devices.requests[0].firstAvailable[0].selectors[0].cel.expression"


def test_a_request_of_v1beta1_has_everything_itself() -> None:
    flat = {"name": "gpu", "deviceClassName": "gpu.accel-dra.dev", "selectors": [{"cel": {"expression": "device.x"}}]}
    (fault,) = review(claim(flat))
    assert fault.path == "spec.devices.requests[0].selectors[0].cel.expression"


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        (b"[]", "object", "[]"),
        (b"", "object", ""),
        (b'{"spec": 5}', "spec", "5"),
        (b'{"spec": {"devices": {"config": [{"opaque": 1}]}}}', "spec.devices.config[0].opaque", "1"),
        (b'{"spec": {"devices": {"requests": [{"name": 3}]}}}', "spec.devices.requests[0].name", "3"),
        (b'{"metadata": {"name": null}}', "metadata.name", "null"),
        (b"[" * 5000, "object", ""),
        (b"\xff", "object", ""),
    ],
)
def test_what_is_no_claim_is_named(text: bytes, field: str, value: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        subjects.decode(subjects.CLAIM, text)
    assert caught.value.field == field
    assert value in repr(caught.value.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=80)
@given(st.sampled_from(subjects.KINDS), JSON, JSON)
def test_any_object_is_reviewed_or_refused_with_one_sentence(kind: str, parameters: Any, rest: Any) -> None:
    entry = {"opaque": {"driver": DRIVER, "parameters": parameters}, "requests": ["gpu"]}
    for document in (rest, {"spec": {"config": [entry], "devices": {"requests": [exactly()], "config": [entry]}}}):
        try:
            found = review(document, kind)
        except InvalidInput as error:
            assert "\n" not in str(error)  # noqa: PT017 - the property is about either outcome
        else:
            assert all(str(each).encode() for each in found)
