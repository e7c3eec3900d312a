"""A quantity that is none is found wherever it stands in a slice."""

from __future__ import annotations

import msgspec
import pytest

from driver.core import soundness
from driver.model.errors import InvalidInput
from driver.model.published import PublishedSlice
from tests.fakes.cluster_objects import device, slice_

_decoder = msgspec.json.Decoder(PublishedSlice)


def test_what_real_drivers_publish_is_sound() -> None:
    soundness.check(slice_(device("a", "80Gi", counters={"memory": 7}), counters={"memory": 80}).published)


@pytest.mark.parametrize(
    ("device_part", "where"),
    [
        ({"capacity": {"memory": {"value": "much"}}}, "device a: capacity memory: 'much'"),
        ({"capacity": {"memory": {"value": "1", "requestPolicy": {"default": "x"}}}}, "capacity memory: 'x'"),
        ({"capacity": {"memory": {"value": "1", "requestPolicy": {"validValues": ["1", "y"]}}}}, "memory: 'y'"),
        ({"capacity": {"memory": {"value": "1", "requestPolicy": {"validRange": {"step": ""}}}}}, "memory: ''"),
        ({"consumesCounters": [{"counterSet": "s", "counters": {"c": {"value": "z"}}}]}, "consumesCounters s.c: 'z'"),
    ],
)
def test_a_fault_is_named_by_its_place(device_part: dict[str, object], where: str) -> None:
    spec = {
        "driver": "d",
        "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
        "devices": [{"name": "a", **device_part}],
    }
    published = _decoder.decode(msgspec.json.encode({"metadata": {"name": "s"}, "spec": spec}))
    with pytest.raises(InvalidInput) as caught:
        soundness.check(published)
    assert str(caught.value).startswith("ResourceSlice s: ")
    assert where in str(caught.value)


def test_shared_counters_are_looked_at() -> None:
    published = slice_(counters={"c": 1}).published
    broken = msgspec.json.encode(published).replace(b'"value":"1"', b'"value":"1 GB"')
    with pytest.raises(InvalidInput, match=r"sharedCounters shared\.c: '1 GB'"):
        soundness.check(_decoder.decode(broken))
