"""Which steps are taken over from other claims, with which facts, and which may be undone."""

from __future__ import annotations

import msgspec
import pytest

from driver.core import stepping
from driver.model.errors import DeviceBusy, StepContested, StepRefused
from driver.model.prepared import Phase, Record, Step

BOOT, EARLIER = "now", "earlier"
KEY = "mode/0000:1a:00.0"


def step(key: str = KEY, /, *, name: str = "mode", facts: dict[str, str] | None = None, **arguments: str) -> Step:
    return Step(name=name, arguments=arguments or {"mode": "fast"}, facts=facts or {}, key=key)


def record(uid: str, *steps: Step, boot_id: str = BOOT, phase: Phase = Phase.PREPARED) -> Record:
    return Record(uid=uid, namespace="default", name=f"claim-{uid}", phase=phase, boot_id=boot_id, steps=steps)


def share(planned: Step, *records: Record) -> Step:
    (taken,) = stepping.share([planned], "u1", records, BOOT)
    return taken


def test_a_step_that_nobody_else_has_stays_as_planned() -> None:
    planned = (step(facts={"before": "slow"}), step("", name="hold", device="a"))
    others = [record("u2", step("mode/0000:2a:00.0", mode="careful")), record("u3", step("", name="hold", device="a"))]
    assert stepping.share(planned, "u1", others, BOOT) == planned


def test_facts_of_the_claim_that_has_it_win() -> None:
    has = step(facts={"before": "slow", "uuid": "A"})
    planned = step(facts={"before": "fast", "present": "X"})
    assert share(planned, record("u2", has)).facts == {"before": "slow", "uuid": "A", "present": "X"}


def test_the_own_record_is_no_other_claim() -> None:
    planned = step(facts={"before": "slow"})
    assert share(planned, record("u1", step(mode="careful"))) == planned


def test_what_was_learnt_by_a_claim_that_is_being_undone_may_be_gone() -> None:
    has = step(facts={"before": "slow", "uuid": "A", "present": "Y"})
    planned = step(facts={"before": "fast", "present": "X"})
    taken = share(planned, record("u2", has, phase=Phase.PREPARING))
    assert taken.facts == {"before": "slow", "present": "Y"}


def test_from_an_earlier_boot_only_the_value_before_holds() -> None:
    has = step(facts={"before": "slow", "beforeToo": "1", "uuid": "A", "present": "Y"})
    planned = step(facts={"before": "fast", "present": "X"})
    taken = share(planned, record("u2", has, boot_id=EARLIER))
    assert taken.facts == {"before": "slow", "beforeToo": "1", "present": "X"}


def test_the_surest_record_decides() -> None:
    records = [
        record("u2", step(facts={"before": "a", "uuid": "A"}), boot_id=EARLIER),
        record("u3", step(facts={"before": "b", "uuid": "B"})),
        record("u4", step(facts={"before": "c", "uuid": "C"}), phase=Phase.PREPARING),
    ]
    for order in (records, records[::-1]):
        assert share(step(facts={"before": "d"}), *order).facts == {"before": "b", "uuid": "B"}


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("boot_id", [BOOT, EARLIER])
def test_other_arguments_are_a_conflict_that_names_the_other_claim(phase: Phase, boot_id: str) -> None:
    other = record("u2", step(mode="careful"), boot_id=boot_id, phase=phase)
    with pytest.raises(StepContested) as caught:
        share(step(mode="fast", interval="Long"), other)
    assert str(caught.value) == (
        "step mode: this claim wants interval Long, mode fast, but claim default/claim-u2 (u2), "
        "which shares the device, has interval unset, mode careful"
    )
    assert caught.value.holder == "default/claim-u2 (u2)"
    assert isinstance(caught.value, DeviceBusy), "it is waited for like a device that is busy"


def test_another_kind_of_step_with_the_key_is_a_conflict() -> None:
    with pytest.raises(StepContested, match=r"this claim wants mode, but .* has vfio-bind"):
        share(step(), record("u2", step(name="vfio-bind")))


def test_arguments_that_were_added_when_it_was_run_are_no_conflict() -> None:
    has = step(mode="fast", learnt="1")
    assert share(step(mode="fast"), record("u2", has)).arguments == {"mode": "fast"}


def test_one_claim_needs_a_change_once() -> None:
    assert stepping.share([step(), step("", name="hold"), step()], "u1", (), BOOT) == (step(), step("", name="hold"))


def test_one_claim_cannot_want_two_things() -> None:
    with pytest.raises(StepRefused, match="this claim wants mode careful, and for another device mode fast"):
        stepping.share([step(), step(mode="careful")], "u1", (), BOOT)


# Undoing


def held(own: Record, *others: Record) -> bool:
    return stepping.is_held(step(), own, (own, *others), BOOT)


def test_a_step_is_held_while_another_claim_has_it() -> None:
    own = record("u1", step())
    assert not held(own)
    assert held(own, record("u2", step()))
    assert held(own, record("u2", step(), phase=Phase.PREPARING))
    assert not held(own, record("u2", step("other")))


def test_a_step_without_a_key_is_never_held() -> None:
    plain = step("", name="hold")
    own, other = record("u1", plain), record("u2", plain)
    assert not stepping.is_held(plain, own, (own, other), BOOT)


def test_claims_from_before_a_boot_do_not_keep_what_was_made_since() -> None:
    own, old = record("u1", step()), record("u2", step(), boot_id=EARLIER)
    assert not stepping.is_held(step(), own, (own, old), BOOT)


def test_a_claim_from_before_a_boot_undoes_nothing_that_others_have() -> None:
    old = record("u1", step(), boot_id=EARLIER)
    assert held(old, record("u2", step()))
    assert held(old, record("u2", step(), boot_id=EARLIER))
    assert held(old, record("u2", step(), boot_id="even earlier"))


# News


def test_new_facts_go_to_all_that_have_the_step() -> None:
    new = step(facts={"uuid": "B"})
    plain = step("", name="hold", facts={"uuid": "A"})
    other, same, old, far = (
        record("u2", plain, step(facts={"uuid": "A"})),
        record("u3", new),
        record("u4", step(facts={"uuid": "A"}), boot_id=EARLIER),
        record("u5", step("other", facts={"uuid": "A"})),
    )
    own = record("u1", step(facts={"uuid": "A"}))
    assert stepping.spread(new, "u1", (own, other, same, old, far), BOOT) == (
        msgspec.structs.replace(other, steps=(plain, new)),
    )
    assert stepping.spread(plain, "u1", (other,), BOOT) == ()


def test_documents_tell_the_new_identity() -> None:
    old = (step(facts={"uuid": "MIG-1", "before": "slow"}), step("k", facts={"uuid": "MIG-7"}))
    new = (step(facts={"uuid": "MIG-2", "before": "slow"}), step("k", facts={"uuid": "MIG-7"}))
    documents = {"gpu": msgspec.Raw(b'{"uuid":"MIG-1","other":"MIG-7"}')}
    assert stepping.replace_identities(documents, old, new) == {"gpu": b'{"uuid":"MIG-2","other":"MIG-7"}'}
    assert stepping.replace_identities(documents, old, ()) == {"gpu": bytes(documents["gpu"])}


def test_documents_keep_words_that_facts_use_too() -> None:
    """Numbers, modes and lists of a step change with a boot; what containers are told has the same words elsewhere."""
    facts = {"uuid": "MIG-1", "present": "", "before": "off", "gpuInstance": "1"}
    old, unknown = step(facts=facts), step(facts={**facts, "uuid": ""})
    new = step(facts={"uuid": "MIG-2", "present": "MIG-9", "before": "on", "gpuInstance": "2"})
    document = b'{"uuid":"MIG-1","index":1,"name":"gpu-off-1"}'
    documents = {"gpu": msgspec.Raw(document)}
    assert stepping.replace_identities(documents, [old], [new]) == {"gpu": document.replace(b"MIG-1", b"MIG-2")}
    assert stepping.replace_identities(documents, [unknown], [new]) == {"gpu": document}
