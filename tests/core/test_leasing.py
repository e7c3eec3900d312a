"""What to do with a lease that was just read."""

from __future__ import annotations

import pytest

from driver.core import leasing
from driver.core.leasing import Lease, LeaseSpec, Sighting, Step, Terms
from driver.model.errors import InvalidInput
from driver.model.objects import ObjectMeta

TIME = "2026-01-01T00:00:00.000000Z"
TERMS = Terms()


def lease(holder: str = "a", *, duration: int = 15, renewed: str = TIME, version: str = "1", uid: str = "u") -> Lease:
    spec = LeaseSpec(holder_identity=holder, lease_duration_seconds=duration, renew_time=renewed)
    return Lease(metadata=ObjectMeta(uid=uid, resource_version=version), spec=spec)


def test_a_lease_is_held_until_it_has_not_changed_for_its_duration() -> None:
    sighting = leasing.look(None, lease(), 100.0)
    assert leasing.decide(sighting, "b", 114.9) is Step.WAIT
    assert leasing.decide(sighting, "b", 115.0) is Step.TAKE


def test_the_clock_starts_anew_with_each_renewal_whatever_time_is_written_in_it() -> None:
    first = leasing.look(None, lease(renewed="2020-01-01T00:00:00.000000Z"), 100.0)
    second = leasing.look(first, lease(renewed="2019-01-01T00:00:00.000000Z", version="2"), 110.0)
    assert second.since == 110.0


def test_a_change_that_is_no_renewal_does_not_prolong_it() -> None:
    first = leasing.look(None, lease(), 100.0)
    assert leasing.look(first, lease(version="2"), 110.0).since == 100.0


def test_a_lease_made_anew_is_another_one() -> None:
    assert leasing.look(Sighting(lease(), 100.0), lease(uid="v"), 110.0).since == 110.0


def test_ones_own_lease_is_renewed_and_one_that_was_given_back_is_taken() -> None:
    assert leasing.decide(leasing.look(None, lease("b"), 0.0), "b", 0.0) is Step.RENEW
    assert leasing.decide(leasing.look(None, lease(""), 0.0), "b", 0.0) is Step.TAKE


def test_taking_counts_a_transition_and_renewing_keeps_the_time_of_taking() -> None:
    taken = leasing.write(LeaseSpec(holder_identity="a", acquire_time="t0", lease_transitions=3), "b", TERMS, "t1")
    assert (taken.acquire_time, taken.lease_transitions) == ("t1", 4)
    renewed = leasing.write(taken, "b", TERMS, "t2")
    assert (renewed.acquire_time, renewed.renew_time, renewed.lease_transitions) == ("t1", "t2", 4)
    assert leasing.write(None, "b", TERMS, "t").lease_transitions == 0


def test_a_lease_that_is_given_back_has_no_holder_and_can_be_stored() -> None:
    left = leasing.release(leasing.write(None, "a", TERMS, "t0"), "t1")
    assert (left.holder_identity, left.lease_duration_seconds, left.renew_time) == ("", 1, "t1")


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        (Terms(duration=0), "lease-duration"),
        (Terms(duration=5000), "lease-duration"),
        (Terms(duration=10, renew_deadline=10), "renew-deadline"),
        (Terms(renew_deadline=0), "renew-deadline"),
        (Terms(retry=10), "lease-retry"),
        (Terms(retry=0), "lease-retry"),
    ],
)
def test_terms_under_which_two_could_act_are_refused(terms: Terms, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        leasing.check(terms)
    assert caught.value.field == field


def test_the_defaults_leave_time_for_a_write_under_way() -> None:
    assert leasing.check(TERMS).longest_write == 5.0
