"""AdmissionReviews: any text is answered with a verdict or refused with one sentence, and a verdict is what it says."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from driver.core.reviewing import admission, reviews, selecting
from driver.core.reviewing.admission import Verdict
from driver.core.reviewing.findings import Finding, warn
from driver.core.reviewing.subjects import Subject
from driver.model.errors import InvalidInput

DRIVER = "gpu.accel-dra.dev"
STAGE = selecting.open_stage(DRIVER)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = (
    st.fixed_dictionaries(
        {},
        optional={
            "metadata": st.fixed_dictionaries({}, optional={"name": JSON, "generateName": JSON}) | JSON,
            "spec": st.fixed_dictionaries(
                {},
                optional={
                    "devices": st.fixed_dictionaries({}, optional={"requests": JSON, "config": JSON}),
                    "config": st.lists(st.fixed_dictionaries({"opaque": st.fixed_dictionaries({"driver": JSON})})),
                },
            )
            | JSON,
        },
    )
    | JSON
)
REQUESTS = st.fixed_dictionaries(
    {"uid": st.text(max_size=4) | JSON},
    optional={
        "kind": st.fixed_dictionaries(
            {
                "group": st.sampled_from(["resource.k8s.io", ""]),
                "version": st.sampled_from(["v1", "v1beta1", "v9"]),
                "kind": st.sampled_from(["ResourceClaim", "DeviceClass", "ResourceClaimTemplate", "Pod"]),
            }
        )
        | JSON,
        "operation": st.sampled_from(["CREATE", "UPDATE", "DELETE", ""]) | JSON,
        "name": JSON,
        "namespace": JSON,
        "object": OBJECTS,
        "oldObject": OBJECTS,
    },
)


def judge(subject: Subject) -> tuple[Finding, ...]:
    return reviews.review(subject, DRIVER, STAGE)


def frame(request: Any) -> bytes:
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()


@settings(deadline=None, max_examples=150)
@given(REQUESTS.map(frame) | JSON.map(frame) | st.binary(max_size=60))
def test_any_text_is_answered_or_refused_with_one_sentence(body: bytes) -> None:
    try:
        verdict = admission.answer(body, judge)
    except InvalidInput as error:
        assert "\n" not in str(error)  # noqa: PT017 - the property is about either outcome
        assert str(error).encode()  # noqa: PT017
    else:
        response = json.loads(verdict.body)["response"]
        assert response["allowed"] is not bool(verdict.faults)


def ask(old: Any, operation: str = "UPDATE", *findings: Finding) -> Verdict:
    kind = {"group": "resource.k8s.io", "version": "v1", "kind": "ResourceClaim"}
    request = {
        "uid": "u",
        "kind": kind,
        "operation": operation,
        "object": {"metadata": {"name": "c"}},
        "oldObject": old,
    }
    return admission.answer(frame(request), lambda _: findings)


def test_a_fault_that_was_there_before_is_a_warning() -> None:
    fault, warning = Finding("a", "is wrong"), warn("b", "is odd")
    assert ask(None, "CREATE", fault, warning).faults == (fault,)
    assert ask({}, "UPDATE", fault, warning).faults == ()
    assert ask({}, "UPDATE", fault, warning).warnings == (fault, warning)
    assert ask(None, "UPDATE", fault, warning).faults == (fault,)


def test_an_old_object_that_nobody_can_read_excuses_nothing() -> None:
    fault = Finding("a", "is wrong")
    assert ask({"spec": 5}, "UPDATE", fault).faults == (fault,)


def test_half_a_character_is_read_as_kubernetes_reads_it() -> None:
    body = frame({"uid": "\ud83d", "object": None})
    assert json.loads(admission.answer(body, judge).body)["response"]["uid"] == "\ufffd"
