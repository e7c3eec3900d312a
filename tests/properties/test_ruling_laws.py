"""Laws of configuration: who rules a device is what the API says, however entries are mixed, copied and addressed."""

from __future__ import annotations

import json
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from driver.core.configuring.ruling import Given, find_sharing
from driver.model.claims import AllocationConfiguration
from driver.model.errors import InvalidInput
from driver.model.sharing import Sharing, Strategy
from driver.model.vocabulary import TYPE_GPU, TYPE_PARTITION, TYPE_VFIO
from tests.fakes.bench import DRIVER, opaque, result

KINDS = {"GpuConfig": TYPE_GPU, "PartitionConfig": TYPE_PARTITION, "AllocationPolicy": None}
NAMES = ("a", "a/x", "a/y", "b", "c")


def write(kind: str, percentage: int) -> bytes:
    sharing = {"sharing": {"strategy": "MPS", "mps": {"activeThreadPercentage": percentage}}}
    rest = {} if kind == "AllocationPolicy" else sharing
    return json.dumps({"apiVersion": "config.accel-dra.dev/v1alpha1", "kind": kind, **rest}).encode()


@st.composite
def entries(draw: st.DrawFn, source: str) -> list[AllocationConfiguration]:
    found = []
    for _ in range(draw(st.integers(0, 5))):
        driver = draw(st.sampled_from([DRIVER, DRIVER, DRIVER, "nic.example.com"]))
        text = write(draw(st.sampled_from(sorted(KINDS))), draw(st.integers(1, 9))) if driver == DRIVER else b"nonsense"
        requests = draw(st.lists(st.sampled_from(NAMES), max_size=3))
        copies = draw(st.integers(1, 2))
        found += [opaque(text, *requests, source=source, driver=driver)] * copies
    return found


DEVICES = st.lists(
    st.builds(
        lambda request, type_: Given(result(f"device-{request}-{type_}", request), type_),
        st.sampled_from(NAMES),
        st.sampled_from([TYPE_GPU, TYPE_PARTITION, TYPE_VFIO]),
    ),
    max_size=5,
)


def names(entry: AllocationConfiguration, request: str) -> bool:
    return not entry.requests or request in entry.requests or request.split("/", maxsplit=1)[0] in entry.requests


def read(entry: AllocationConfiguration) -> tuple[str, int]:
    assert entry.opaque is not None
    document = json.loads(bytes(entry.opaque.parameters))
    percentage = document.get("sharing", {}).get("mps", {}).get("activeThreadPercentage", 0)
    return document["kind"], percentage


def decide(configured: Sequence[AllocationConfiguration], given: Given) -> Sharing | None:
    """Return what holds, by the words of the API: the last entry for the request, of the kind for the device."""
    for entry in reversed(configured):
        if entry.opaque is None or entry.opaque.driver != DRIVER or not names(entry, given.result.request):
            continue
        kind, percentage = read(entry)
        if KINDS[kind] == given.type:
            return Sharing(Strategy.MPS, None, percentage)
    return None


def is_misaddressed(entry: AllocationConfiguration, given: Given) -> bool:
    if entry.opaque is None or entry.opaque.driver != DRIVER or entry.source == "FromClass" or not entry.requests:
        return False
    wanted = KINDS[read(entry)[0]]
    return wanted not in (None, given.type) and names(entry, given.result.request)


@settings(deadline=None)
@given(entries("FromClass"), entries("FromClaim"), DEVICES)
def test_the_last_entry_for_a_request_and_a_type_rules(
    of_class: list[AllocationConfiguration], of_claim: list[AllocationConfiguration], devices: list[Given]
) -> None:
    configured = [*of_class, *of_claim]
    wrong = any(is_misaddressed(entry, each) for entry in configured for each in devices)
    try:
        found = find_sharing(configured, DRIVER, devices)
    except InvalidInput as error:
        assert wrong, error  # noqa: PT017 - the law is about either outcome
    else:
        assert not wrong
        assert list(found) == [decide(configured, each) for each in devices]
