"""Hundreds of bad configurations: each is answered with a sentence that names the field, nothing else is raised."""

from __future__ import annotations

import pytest

from driver.core import preparing
from driver.core.configuring import documents, fields
from driver.core.preparing import Place
from driver.model.claims import ResourceClaim
from driver.model.errors import InvalidInput
from tests.fakes.bad_configurations import TABLE, Bad
from tests.fakes.bench import (
    DRIVER,
    NODE,
    accelerator,
    claim,
    device,
    node_inventory,
    opaque,
    partition,
    ref,
    result,
)

PLACE = Place(DRIVER, NODE, node_inventory(accelerator(1), accelerator(2, partition(0))))
PART = "gpu-0000-02-00-0-1g-10gb-0"


def test_the_table_is_long_and_each_entry_is_another_one() -> None:
    assert len({bad.text for bad in TABLE}) == len(TABLE)
    assert len(TABLE) >= 250
    assert len([bad for bad in TABLE if bad.is_embeddable]) >= 200


@pytest.mark.parametrize("bad", TABLE, ids=lambda bad: bad.name)
def test_a_bad_configuration_is_answered_with_the_field_the_value_and_what_is_allowed(bad: Bad) -> None:
    with pytest.raises(InvalidInput) as caught:
        documents.read(bad.text)
    named = {fault.field: str(fault) for fault in fields.split(caught.value)}
    assert bad.field in named
    assert bad.words in str(caught.value)
    for text in named.values():
        assert "is not allowed; allowed: " in text
        assert text.isprintable()
        assert len(text) < 700


def test_the_node_refuses_each_with_the_same_sentences() -> None:
    for bad in TABLE:
        check_refusal(bad)


def check_refusal(bad: Bad) -> None:
    wanted = claim("u1", result(device(1)), result(PART, "part"), config=[opaque(bad.text)])
    if b"AllocationPolicy" in bad.text:
        assert is_unread_or_refused(wanted)
        return
    with pytest.raises(InvalidInput) as caught:
        preparing.plan(ref("u1"), wanted, (), PLACE)
    with pytest.raises(InvalidInput) as read:
        documents.read(bad.text)
    place = f"configuration for {DRIVER} of the claim: parameters"
    expected = fields.split(fields.put(read.value, place))
    assert [str(fault) for fault in fields.split(caught.value)] == [str(fault) for fault in expected]


def is_unread_or_refused(wanted: ResourceClaim) -> bool:
    """The node accepts an AllocationPolicy unread: a pod must not fail for a wish about how to choose its devices."""
    try:
        return [grant.sharing for grant in preparing.plan(ref("u1"), wanted, (), PLACE)] == [None, None]
    except InvalidInput as error:
        return "parameters" in error.field
