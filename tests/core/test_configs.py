"""Opaque configuration: whose it is, what it applies to, which one wins, and what hostile parameters do."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.core import configs
from driver.model.claims import AllocationConfiguration, AllocationResult, DeviceAllocation
from driver.model.errors import InvalidInput
from tests.fakes.bench import DRIVER, device, opaque, result

RESULT = result(device(1))
SUBRESULT = result(device(1), "gpu/a100")


def policy(strategy: str = "x") -> bytes:
    return json.dumps(
        {"apiVersion": "config.accel-dra.dev/v1alpha1", "kind": "AllocationPolicy", "strategy": strategy}
    ).encode()


def applied(entries: list[AllocationConfiguration], chosen: AllocationResult) -> list[bytes]:
    return [bytes(entry.parameters) for entry in configs.applying(entries, DRIVER, chosen)]


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


def test_peer_defect_04_configuration_for_the_main_request_applies_to_its_subrequest() -> None:
    assert applied([opaque(policy(), "gpu")], SUBRESULT) == [policy()]
    assert configs.rule([opaque(policy(), "gpu")], DRIVER, SUBRESULT)["AllocationPolicy"].parameters == policy()


def test_peer_defect_11_configuration_for_other_drivers_is_not_even_parsed() -> None:
    entries = [opaque(b"not json at all", driver="nic.example.com"), AllocationConfiguration(source="FromClass")]
    assert configs.rule(entries, DRIVER, RESULT) == {}


def test_peer_defect_20_configuration_of_the_claim_wins_over_that_of_the_class() -> None:
    entries = [opaque(policy("class"), source="FromClass"), opaque(policy("claim"), source="FromClaim")]
    assert configs.rule(entries, DRIVER, RESULT)["AllocationPolicy"].parameters == policy("claim")


def test_position_decides_and_not_how_specific_an_entry_is() -> None:
    entries = [opaque(policy("specific"), "gpu"), opaque(policy("general"))]
    assert configs.rule(entries, DRIVER, RESULT)["AllocationPolicy"].parameters == policy("general")


def test_repeated_copies_count_once_at_their_last_place() -> None:
    """Kubernetes 1.36 lists a claim's entry once for each request it was matched for."""
    entries = [opaque(policy("a")), opaque(policy("b")), opaque(policy("a")), opaque(policy("a"), "gpu")]
    assert applied(entries, RESULT) == [policy("b"), policy("a")]


def test_the_same_text_from_class_and_claim_are_two_entries() -> None:
    entries = [opaque(policy("a"), source="FromClass"), opaque(policy("a"), source="FromClaim")]
    assert applied(entries, RESULT) == [policy("a"), policy("a")]


@pytest.mark.parametrize(
    ("parameters", "field", "value"),
    [
        (b'{"apiVersion": "config.accel-dra.dev/v9", "kind": "AllocationPolicy"}', "apiVersion", "v9"),
        (b'{"apiVersion": "config.accel-dra.dev/v1alpha1", "kind": "GpuConfig"}', "kind", "GpuConfig"),
        (b'{"apiVersion": "config.accel-dra.dev/v1alpha1"}', "parameters", "kind"),
        (b"{}", "parameters", "{}"),
        (b"[]", "parameters", "[]"),
        (b"null", "parameters", "null"),
        (b"", "parameters", "''"),
        (b'{"apiVersion": 1, "kind": 2}', "parameters", "int"),
        (b"\xff\xfe", "parameters", "xff"),
        (b'{"apiVersion":"config.accel-dra.dev/v1alpha1","kind":"\xff"}', "parameters", "xff"),
    ],
)
def test_what_is_wrong_is_named(parameters: bytes, field: str, value: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        configs.rule([opaque(parameters)], DRIVER, RESULT)
    assert DRIVER in str(caught.value)
    assert field in str(caught.value)
    assert value in str(caught.value)
    assert "allowed:" in str(caught.value)


def test_a_long_wrong_value_is_not_repeated_in_full() -> None:
    with pytest.raises(InvalidInput) as caught:
        configs.rule([opaque(b'{"apiVersion": "' + b"x" * 10_000 + b'", "kind": "y"}')], DRIVER, RESULT)
    assert len(str(caught.value)) < 500


def test_deep_nesting_is_bad_input_and_no_crash() -> None:
    deep = b'{"apiVersion": "a", "kind": "b", "c": ' + b"[" * 5000 + b"]" * 5000 + b"}"
    with pytest.raises(InvalidInput):
        configs.rule([opaque(deep)], DRIVER, RESULT)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
NEARLY = st.fixed_dictionaries(
    {},
    optional={
        "apiVersion": st.sampled_from(["config.accel-dra.dev/v1alpha1", "", "config.accel-dra.dev/v1"]) | JSON,
        "kind": st.sampled_from(["AllocationPolicy", "", "allocationpolicy"]) | JSON,
        "sharing": JSON,
    },
)


@given(st.one_of(JSON, NEARLY).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=64))
def test_peer_defect_03_any_parameters_are_accepted_or_answered_with_one_sentence(parameters: bytes) -> None:
    try:
        ruling = configs.rule([opaque(parameters)], DRIVER, RESULT)
    except InvalidInput as error:
        assert str(error).count("\n") == 0  # noqa: PT017 - the property is about either outcome
    else:
        assert set(ruling) <= set(configs.KINDS)


def test_parameters_keep_the_bytes_in_which_they_arrived() -> None:
    text = (
        b'{"config":[{"source":"FromClaim","opaque":{"driver":"gpu.accel-dra.dev","parameters":{ "b" : 1,"a":[ ]}}}]}'
    )
    allocation = msgspec.json.decode(text, type=DeviceAllocation)
    assert applied(list(allocation.config), RESULT) == [b'{ "b" : 1,"a":[ ]}']
