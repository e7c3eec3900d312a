"""Which configuration rules which device of a claim: whose it is, what it applies to, which one wins."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driver.core.configuring import ruling
from driver.core.configuring.ruling import Given, find_sharing
from driver.model.claims import AllocationConfiguration, AllocationResult, DeviceAllocation
from driver.model.errors import Faulty, InvalidInput
from driver.model.sharing import Interval, Sharing, Strategy
from driver.model.vocabulary import TYPE_GPU, TYPE_PARTITION, TYPE_VFIO
from tests.fakes.bench import DRIVER, device, opaque, result

RESULT = result(device(1))
SUBRESULT = result(device(1), "gpu/a100")
GPU = Given(RESULT, TYPE_GPU)
MPS = Sharing(Strategy.MPS)
SLICED = Sharing(Strategy.TIME_SLICING)


def document(kind: str = "GpuConfig", **content: Any) -> bytes:
    return json.dumps({"apiVersion": "config.accel-dra.dev/v1alpha1", "kind": kind, **content}).encode()


def sharing(strategy: str = "MPS", kind: str = "GpuConfig", **content: Any) -> bytes:
    return document(kind, sharing={"strategy": strategy, **content})


def gpus(count: int, request: str = "gpu") -> list[Given]:
    return [Given(result(device(slot), request), TYPE_GPU, f"GPU-{slot}") for slot in range(1, count + 1)]


def find(entries: list[AllocationConfiguration], *devices: Given) -> tuple[Sharing | None, ...]:
    return find_sharing(entries, DRIVER, devices or (GPU,))


def applied(entries: list[AllocationConfiguration], chosen: AllocationResult) -> list[bytes]:
    found = ruling.applying(entries, DRIVER, chosen)
    return [bytes(entry.opaque.parameters) for entry in found if entry.opaque is not None]


@pytest.mark.parametrize(
    ("requests", "chosen", "applies"),
    [
        ((), RESULT, True),
        (("gpu",), RESULT, True),
        (("nic",), RESULT, False),
        (("nic", "gpu"), RESULT, True),
        ((), SUBRESULT, True),
        (("gpu/a100",), SUBRESULT, True),
        (("gpu/h100",), SUBRESULT, False),
        (("gpu/a100",), RESULT, False),
        (("gpu/",), SUBRESULT, False),
    ],
)
def test_an_entry_applies_by_its_requests(
    requests: tuple[str, ...], chosen: AllocationResult, *, applies: bool
) -> None:
    assert bool(applied([opaque(b"{}", *requests)], chosen)) is applies
    assert find([opaque(sharing(), *requests)], Given(chosen, TYPE_GPU)) == ((MPS,) if applies else (None,))


def test_nobody_said_anything() -> None:
    assert find([]) == (None,)
    assert find([opaque(document("AllocationPolicy"))]) == (None,)


def test_peer_defect_04_configuration_for_the_main_request_applies_to_its_subrequest() -> None:
    assert find([opaque(sharing(), "gpu")], Given(SUBRESULT, TYPE_GPU)) == (MPS,)


def test_peer_defect_11_configuration_for_other_drivers_is_not_even_parsed() -> None:
    entries = [opaque(b"not json at all", driver="nic.example.com"), AllocationConfiguration(source="FromClass")]
    assert find([*entries, opaque(sharing())]) == (MPS,)


def test_peer_defect_20_configuration_of_the_claim_wins_over_that_of_the_class() -> None:
    entries = [
        opaque(sharing("MPS"), "gpu", source="FromClass"),
        opaque(sharing("TimeSlicing"), source="FromClaim"),
    ]
    assert find(entries) == (SLICED,)


def test_position_decides_and_not_how_specific_an_entry_is() -> None:
    entries = [opaque(sharing("TimeSlicing"), "gpu"), opaque(sharing("MPS"))]
    assert find(entries) == (MPS,)


def test_what_wins_holds_as_a_whole() -> None:
    entries = [opaque(sharing(mps={"activeThreadPercentage": 30})), opaque(sharing(mps={"pinnedMemoryLimit": "1Gi"}))]
    assert find(entries) == (Sharing(Strategy.MPS, pinned_memory_bytes=1 << 30),)


def test_repeated_copies_count_once_at_their_last_place() -> None:
    """Kubernetes 1.36 lists a claim's entry once for each request it was matched for."""
    entries = [opaque(b"a"), opaque(b"b"), opaque(b"a"), opaque(b"a", "gpu")]
    assert applied(entries, RESULT) == [b"b", b"a"]


def test_the_same_text_from_class_and_claim_are_two_entries() -> None:
    entries = [opaque(b"a", source="FromClass"), opaque(b"a", source="FromClaim")]
    assert applied(entries, RESULT) == [b"a", b"a"]


def test_each_request_has_its_own_configuration() -> None:
    small, large = result(device(1), "small"), result(device(2), "large")
    entries = [
        opaque(sharing("MPS"), "small"),
        opaque(sharing("TimeSlicing", timeSlicing={"interval": "Long"}), "large"),
    ]
    long = Sharing(Strategy.TIME_SLICING, Interval.LONG)
    assert find(entries, Given(large, TYPE_GPU), Given(small, TYPE_GPU)) == (long, MPS)


def test_a_device_takes_the_kind_of_its_type() -> None:
    entries = [opaque(sharing("MPS")), opaque(sharing("TimeSlicing", "PartitionConfig"))]
    part = Given(result("part", "part"), TYPE_PARTITION)
    assert find(entries, GPU, part, Given(result("vfio", "vfio"), TYPE_VFIO)) == (MPS, SLICED, None)


@pytest.mark.parametrize(
    ("kind", "type_", "allowed"),
    [
        ("PartitionConfig", TYPE_GPU, "GpuConfig for a device of type gpu, which request gpu was given"),
        ("GpuConfig", TYPE_PARTITION, "PartitionConfig for a device of type partition"),
        ("GpuConfig", TYPE_VFIO, "no sharing for a device of type vfio"),
    ],
)
def test_configuration_that_names_a_request_with_another_type_of_device_is_refused(
    kind: str, type_: str, allowed: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        find([opaque(sharing(kind=kind), "gpu")], Given(RESULT, type_))
    assert caught.value.field == f"configuration for {DRIVER} of the claim: parameters.kind"
    assert allowed in caught.value.allowed


def test_a_class_may_have_configuration_for_each_type_of_device() -> None:
    """The requests of its entries are written by the scheduler and were nobody's wish."""
    entries = [
        opaque(sharing("MPS"), "gpu", source="FromClass"),
        opaque(sharing("TimeSlicing", "PartitionConfig"), "gpu", source="FromClass"),
    ]
    assert find(entries) == (MPS,)
    assert find(entries, Given(RESULT, TYPE_PARTITION)) == (SLICED,)


def test_who_only_looks_at_a_device_changes_nothing_about_it() -> None:
    assert find([opaque(sharing(), "gpu")], Given(result(device(1), adminAccess=True), TYPE_GPU)) == (None,)


def test_overrides_hold_for_a_device_by_its_place_or_uuid() -> None:
    limits = {
        "activeThreadPercentage": 50,
        "perDevice": [
            {"index": 1, "activeThreadPercentage": 20},
            {"uuid": "GPU-3", "pinnedMemoryLimit": "2Gi"},
            {"uuid": "GPU-2", "pinnedMemoryLimit": "1Gi"},
            {"uuid": "GPU-9", "pinnedMemoryLimit": "9Gi"},
        ],
    }
    assert find([opaque(sharing(mps=limits))], *gpus(3)) == (
        Sharing(Strategy.MPS, None, 50, None),
        Sharing(Strategy.MPS, None, 20, 1 << 30),
        Sharing(Strategy.MPS, None, 50, 2 << 30),
    )


def test_the_place_is_counted_within_the_main_request() -> None:
    limits = {"activeThreadPercentage": 50, "perDevice": [{"index": 0, "activeThreadPercentage": 5}]}
    devices = (*gpus(2, "a"), *gpus(2, "b/x"))
    found = find([opaque(sharing(mps=limits))], *devices)
    assert [each.active_thread_percentage for each in found if each] == [5, 50, 5, 50]


def test_an_override_for_a_place_that_no_device_has_is_refused_unless_it_is_of_a_class() -> None:
    text = sharing(mps={"perDevice": [{"index": 2, "activeThreadPercentage": 5}]})
    with pytest.raises(InvalidInput, match=r"perDevice\[0\]\.index: 2 is not allowed; allowed: 0 to 1: "):
        find([opaque(text)], *gpus(2))
    assert find([opaque(text, "gpu", source="FromClass")], *gpus(2)) == (MPS, MPS)
    larger = find([opaque(text)], *gpus(2, "a"), *gpus(3, "b"))
    assert [each.active_thread_percentage for each in larger if each] == [None, None, None, None, 5]


def test_configuration_that_a_later_one_replaces_does_no_harm_if_its_kind_is_ours() -> None:
    entries = [opaque(sharing("Never"), "gpu", source="FromClass"), opaque(sharing())]
    assert find(entries) == (MPS,)
    with pytest.raises(InvalidInput, match="kind: 'GpuConf'"):
        find([opaque(document("GpuConf"), "gpu", source="FromClass"), opaque(sharing())])


def test_an_unknown_kind_is_an_error_whatever_it_is_for() -> None:
    with pytest.raises(InvalidInput, match="MigDeviceConfig"):
        find([opaque(document("MigDeviceConfig"), "other")])


def test_all_faults_of_all_configurations_are_told_at_once() -> None:
    entries = [
        opaque(sharing("Sometimes", mps={"activeThreadPercentage": "5"}), "a"),
        opaque(document("GpuConf"), "b"),
        opaque(sharing("TimeSlicing", timeSlicing={"interval": 3}), "c"),
    ]
    devices = [each for name in ("a", "b", "c") for each in gpus(2, name)]
    with pytest.raises(Faulty) as caught:
        find(entries, *devices)
    assert [fault.field.rpartition("parameters.")[2] for fault in caught.value.faults] == [
        "kind",
        "sharing.strategy",
        "sharing.mps.activeThreadPercentage",
        "sharing.timeSlicing.interval",
    ]


@pytest.mark.parametrize(
    ("parameters", "field", "value"),
    [
        (b'{"apiVersion": "config.accel-dra.dev/v9", "kind": "GpuConfig"}', "apiVersion", "v9"),
        (b'{"apiVersion": "config.accel-dra.dev/v1alpha1", "kind": "gpuconfig"}', "kind", "GpuConfig was probably"),
        (b'{"apiVersion": "config.accel-dra.dev/v1alpha1"}', "kind", "nothing"),
        (b"{}", "apiVersion", "nothing"),
        (b"[]", "parameters", "[]"),
        (b"null", "parameters", "null"),
        (b"", "parameters", "''"),
        (b'{"apiVersion": 1, "kind": 2}', "apiVersion", "1"),
        (b"\xff\xfe", "parameters", "xff"),
        (b'{"apiVersion":"config.accel-dra.dev/v1alpha1","kind":"\xff"}', "parameters", "xff"),
    ],
)
def test_what_is_wrong_is_named(parameters: bytes, field: str, value: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        find([opaque(parameters)])
    assert str(caught.value).startswith(f"configuration for {DRIVER} of the claim: parameters")
    assert field in str(caught.value)
    assert value in str(caught.value)
    assert "allowed:" in str(caught.value)


def test_a_long_wrong_value_is_not_repeated_in_full() -> None:
    with pytest.raises(InvalidInput) as caught:
        find([opaque(b'{"apiVersion": "' + b"x" * 10_000 + b'", "kind": "y"}')])
    assert len(str(caught.value)) < 500


def test_deep_nesting_is_bad_input_and_no_crash() -> None:
    deep = b'{"apiVersion": "a", "kind": "b", "c": ' + b"[" * 5000 + b"]" * 5000 + b"}"
    with pytest.raises(InvalidInput):
        find([opaque(deep)])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
NEARLY = st.fixed_dictionaries(
    {},
    optional={
        "apiVersion": st.sampled_from(["config.accel-dra.dev/v1alpha1", "", "config.accel-dra.dev/v1"]) | JSON,
        "kind": st.sampled_from(["AllocationPolicy", "GpuConfig", "PartitionConfig", "gpuconfig"]) | JSON,
        "sharing": st.fixed_dictionaries(
            {"strategy": st.sampled_from(["MPS", "TimeSlicing", "Exclusive"]) | JSON},
            optional={"mps": JSON, "timeSlicing": JSON, "perDevice": JSON},
        )
        | JSON,
    },
)


@settings(deadline=None)
@given(st.one_of(JSON, NEARLY).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=64))
def test_peer_defect_03_any_parameters_are_accepted_or_answered_with_one_sentence(parameters: bytes) -> None:
    try:
        found = find([opaque(parameters)])
    except InvalidInput as error:
        assert str(error).count("\n") == 0  # noqa: PT017 - the property is about either outcome
        assert str(error).encode()  # noqa: PT017
    else:
        assert found[0] is None or isinstance(found[0], Sharing)


def test_parameters_keep_the_bytes_in_which_they_arrived() -> None:
    text = (
        b'{"config":[{"source":"FromClaim","opaque":{"driver":"gpu.accel-dra.dev","parameters":{ "b" : 1,"a":[ ]}}}]}'
    )
    allocation = msgspec.json.decode(text, type=DeviceAllocation)
    assert applied(list(allocation.config), RESULT) == [b'{ "b" : 1,"a":[ ]}']
