"""The webhook over real HTTPS: what it allows and denies, in which words, for all versions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from driver.core.configuring import documents, fields
from driver.core.configuring.ruling import Given, find_sharing
from driver.core.reviewing import admission, reviews, selecting
from driver.model.errors import InvalidInput
from driver.model.vocabulary import TYPE_GPU
from driver.webhook.app import Webhook
from tests.fakes.bad_configurations import TABLE, Bad
from tests.fakes.bench import device, opaque, result
from tests.webhook.site import DRIVER, Caller, claim, config, metric, review

PARAMETERS = "spec.devices.config[0].opaque.parameters"


def test_a_good_claim_is_allowed_without_a_word(caller: Caller) -> None:
    assert caller.ask(claim(config())) == {"uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "allowed": True}


def test_all_faults_are_told_as_text_and_as_causes(caller: Caller) -> None:
    bad = config("Mps", sharing={"strategy": "Mps", "mps": {"activeThreadPercentage": "5"}})
    response = caller.ask(claim(config(), bad))
    assert response["allowed"] is False
    status = response["status"]
    assert (status["status"], status["code"], status["reason"]) == ("Failure", 422, "Invalid")
    assert (status["details"]["kind"], status["details"]["name"]) == ("ResourceClaim", "c")
    causes = {each["field"]: each["message"] for each in status["details"]["causes"]}
    assert causes == {
        "spec.devices.config[1].opaque.parameters.sharing.strategy": (
            "'Mps' is not allowed; allowed: Exclusive, TimeSlicing, MPS (MPS was probably meant)"
        ),
        "spec.devices.config[1].opaque.parameters.sharing.mps.activeThreadPercentage": (
            "'5' is not allowed; allowed: a whole number from 1 to 100"
        ),
    }
    assert status["message"] == "; ".join(f"{field}: {text}" for field, text in causes.items())


def test_warnings_do_not_deny(caller: Caller) -> None:
    response = caller.ask(claim(class_name="shared.accel-dra.dev"))
    assert response["allowed"] is True
    (warning,) = response["warnings"]
    assert warning.startswith("spec.devices.requests[0].exactly.capacity.requests: without accel-dra.dev/share")


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1beta2"])
@pytest.mark.parametrize("kind", ["ResourceClaim", "ResourceClaimTemplate", "DeviceClass"])
def test_peer_defect_14_every_kind_is_reviewed_in_every_version(caller: Caller, version: str, kind: str) -> None:
    spec: Any = claim(config("Mps"))["spec"]
    if kind == "ResourceClaimTemplate":
        spec = {"spec": spec}
    if kind == "DeviceClass":
        spec = {"config": [config("Mps")]}
    document = {"apiVersion": f"resource.k8s.io/{version}", "kind": kind, "metadata": {"name": "x"}, "spec": spec}
    response = caller.ask(document)
    assert response["allowed"] is False
    assert response["status"]["message"].endswith("(MPS was probably meant)")


def test_peer_defect_03_an_empty_or_foreign_setting_is_an_answer_and_no_crash(caller: Caller, webhook: Webhook) -> None:
    for sharing in (
        {"strategy": "TimeSlicing", "timeSlicingConfig": {}},
        {"strategy": "TimeSlicing", "timeSlicing": 1},
    ):
        assert caller.ask(claim(config(sharing=sharing)))["allowed"] is False
    assert caller.ask(claim(config(sharing={"strategy": "TimeSlicing", "timeSlicing": {}})))["allowed"] is True
    assert webhook.alive


@pytest.mark.parametrize(
    ("document", "operation"),
    [
        ({**claim(config("Mps")), "kind": "Pod", "apiVersion": "v1"}, "CREATE"),
        ({**claim(config("Mps")), "kind": "ResourceSlice"}, "CREATE"),
        ({**claim(config("Mps")), "apiVersion": "resource.k8s.io/v2"}, "CREATE"),
        (claim(config("Mps")), "DELETE"),
        (claim(config("Mps")), "CONNECT"),
    ],
)
def test_what_is_none_of_our_business_is_allowed(caller: Caller, document: dict[str, Any], operation: str) -> None:
    assert caller.ask(document, operation)["allowed"] is True


def test_an_update_is_denied_only_for_what_it_makes_worse(caller: Caller) -> None:
    """A claim that was stored while the webhook was away must still lose its finalizer."""
    bad = claim(config("Mps"), finalizers=["resource.kubernetes.io/delete-protection"])
    freed = claim(config("Mps"))
    response = caller.ask(freed, "UPDATE", old=bad)
    assert response["allowed"] is True
    assert response["warnings"][0].startswith(f"{PARAMETERS}.sharing.strategy: 'Mps' is not allowed")
    worse = claim(config("Mps"), config("Msp"))
    response = caller.ask(worse, "UPDATE", old=bad)
    assert [each["field"] for each in response["status"]["details"]["causes"]] == [
        "spec.devices.config[1].opaque.parameters.sharing.strategy"
    ]
    assert caller.ask(claim(config("Mps")), "UPDATE", old=claim(config()))["allowed"] is False


def test_what_is_about_to_be_deleted_may_be_updated(caller: Caller) -> None:
    dying = claim(config("Mps"), deletionTimestamp="2026-01-01T00:00:00Z")
    assert caller.ask(dying, "UPDATE", old=claim(config()))["allowed"] is True


def test_a_claim_that_is_to_be_named_by_the_server_is_told_by_what_its_name_begins_with(caller: Caller) -> None:
    document = claim(config("Mps"))
    document["metadata"] = {"generateName": "train-"}
    assert caller.ask(document)["status"]["details"]["name"] == "train-"


def test_the_message_has_an_end(caller: Caller) -> None:
    bad = [config(sharing={"strategy": f"{'x' * 70}{n}", "mps": {"a" * 60: "b" * 70}}) for n in range(64)]
    status = caller.ask(claim(*bad))["status"]
    assert len(status["message"]) <= 16_385
    assert len(status["details"]["causes"]) == 64


def test_warnings_have_an_end(caller: Caller) -> None:
    document = claim()
    expression = 'device.attributes["accel-dra.dev"].model == "x"' + " || false" * 60
    request = {"deviceClassName": "gpu.accel-dra.dev", "selectors": [{"cel": {"expression": expression}}]}
    document["spec"]["devices"]["requests"] = [{"name": f"r{n}", "exactly": request} for n in range(32)]
    warnings = caller.ask(document)["warnings"]
    assert warnings
    assert sum(map(len, warnings)) <= 4096


def test_metrics_count_what_was_answered(caller: Caller, webhook: Webhook) -> None:
    caller.ask(claim(config()))
    caller.ask(claim(config("Mps")))
    assert metric(webhook, "reviews_total") == 2
    assert metric(webhook, "faults_total") == 1
    assert metric(webhook, "review_duration_seconds_count") == 2


def embed(bad: Bad) -> bytes:
    """Return the review of a claim with these very bytes as parameters."""
    text = json.dumps(review(claim(config()))).encode()
    return text.replace(json.dumps(config()["opaque"]["parameters"]).encode(), bad.text)


EMBEDDABLE = [bad for bad in TABLE if bad.is_embeddable]


def test_bad_configurations_are_denied_in_the_words_of_the_node() -> None:
    stage = selecting.open_stage(DRIVER)
    for bad in EMBEDDABLE:
        verdict = admission.answer(embed(bad), lambda subject: reviews.review(subject, DRIVER, stage))
        response = json.loads(verdict.body)["response"]
        assert response["allowed"] is False, bad.name
        with pytest.raises(InvalidInput) as caught:
            documents.read(bad.text)
        placed = fields.split(fields.put(caught.value, PARAMETERS))
        assert response["status"]["message"] == "; ".join(map(str, placed)), bad.name
        named = {each["field"] for each in response["status"]["details"]["causes"]}
        assert f"{PARAMETERS}{'.' if bad.field else ''}{bad.field}" in named, bad.name


def test_some_of_them_over_https_with_the_sentences_of_the_node(caller: Caller) -> None:
    sample = [bad for bad in EMBEDDABLE if b"GpuConfig" in bad.text][::7]
    assert len(sample) >= 20
    for bad in sample:
        status, body = caller.send(embed(bad))
        assert status == 200
        causes = json.loads(body)["response"]["status"]["details"]["causes"]
        with pytest.raises(InvalidInput) as caught:
            find_sharing([opaque(bad.text)], DRIVER, [Given(result(device(1)), TYPE_GPU)])
        said = [f"{each['field'].removeprefix('spec.devices.config[0].opaque.')}: {each['message']}" for each in causes]
        assert [str(fault).partition(" of the claim: ")[2] for fault in fields.split(caught.value)] == said
