"""What is told when: once, again when it is another thing, and from time to time."""

from __future__ import annotations

import itertools

from driver.core.deciding.notices import Notices
from driver.core.deciding.world import Detail, Reason, Waiting
from tests.fakes.controlled import make_claim

AFTER, AGAIN = 5.0, 1800.0


def wait(name: str, message: str | Detail = "no", reason: Reason = Reason.NO_DEVICES) -> Waiting:
    return Waiting(make_claim(name), reason, message)


def names(chosen: list[Waiting]) -> list[str]:
    return [each.claim.metadata.name for each in chosen]


def test_a_short_wait_is_not_told() -> None:
    notices = Notices(AFTER, AGAIN)
    assert notices.choose([wait("c")], 100.0) == []
    assert notices.next_in(100.0) == 5.0
    assert notices.choose([wait("c")], 104.9) == []
    assert names(notices.choose([wait("c")], 105.0)) == ["c"]
    assert notices.next_in(105.0) is None


def test_the_same_is_told_again_after_a_long_time_only() -> None:
    notices = Notices(0.0, AGAIN)
    assert names(notices.choose([wait("c")], 0.0)) == ["c"]
    assert [now for now in range(1, 3700, 10) if notices.choose([wait("c")], float(now))] == [1801, 3601]


def test_another_reason_is_told_at_once_and_other_words_once_a_minute() -> None:
    notices = Notices(0.0, AGAIN)
    notices.choose([wait("c", "1 free")], 0.0)
    assert notices.choose([wait("c", "2 free")], 30.0) == []
    assert names(notices.choose([wait("c", "3 free")], 60.0)) == ["c"]
    assert names(notices.choose([wait("c", "3 free", Reason.NO_NODE)], 61.0)) == ["c"]


def test_a_sentence_is_only_made_when_it_may_be_told() -> None:
    made: list[str] = []

    def make() -> str:
        made.append("x")
        return f"text {len(made)}"

    notices = Notices(AFTER, AGAIN)
    for now in (0.0, 4.0, 5.0, 6.0, 64.0):
        notices.choose([wait("c", Detail(make))], now)
    assert made == ["x"]
    notices.choose([wait("c", Detail(make))], 65.0)
    assert made == ["x", "x"]


def test_a_sentence_is_made_once_for_all_who_share_it() -> None:
    made: list[str] = []

    def make() -> str:
        made.append("x")
        return "text"

    detail = Detail(make)
    chosen = Notices(0.0, AGAIN).choose([wait(f"c{index}", detail) for index in range(9)], 0.0)
    assert [each.text for each in chosen] == ["text"] * 9
    assert made == ["x"]


def test_a_round_tells_a_bounded_number_and_the_rest_has_its_turn() -> None:
    notices = Notices(0.0, AGAIN)
    everyone = [wait(f"c{index}") for index in range(250)]
    told = [len(notices.choose(everyone, float(now))) for now in range(9)]
    assert told == [100, 20, 20, 20, 20, 20, 20, 20, 10]
    assert notices.next_in(9.0) is None


def test_who_was_not_told_waits_until_a_round_pays() -> None:
    notices = Notices(0.0, AGAIN)
    notices.choose([wait(f"c{index}") for index in range(250)], 0.0)
    assert notices.next_in(0.0) == 1.0


def test_reasons_that_come_and_go_are_told_less_and_less() -> None:
    notices = Notices(0.0, AGAIN)
    reasons = (Reason.NO_NODE, Reason.NO_DEVICES)
    told = [now for now in range(3600) if notices.choose([wait("c", "text", reasons[now % 2])], float(now))]
    assert told[:5] == [0, 1, 6, 17, 38]
    assert len(told) < 20
    assert all(later - earlier <= 302 for earlier, later in itertools.pairwise(told))


def test_a_claim_that_was_quiet_for_long_is_told_of_soon_again() -> None:
    notices = Notices(0.0, AGAIN)
    for now in range(400):
        notices.choose([wait("c", "text", (Reason.NO_NODE, Reason.NO_DEVICES)[now % 2])], float(now))
    assert notices.choose([wait("c", "text", Reason.SCHEDULER)], 1500.0)
    assert notices.choose([wait("c", "text", Reason.NO_NODE)], 1504.0) == []
    assert notices.choose([wait("c", "text", Reason.NO_NODE)], 1505.0)


def test_without_time_nothing_is_told_and_nothing_forgotten() -> None:
    notices = Notices(0.0, AGAIN)
    assert notices.choose([wait("c")], 0.0, lambda: False) == []
    assert names(notices.choose([wait("c")], 1.0)) == ["c"]


def test_a_claim_that_waits_anew_begins_anew() -> None:
    notices = Notices(AFTER, AGAIN)
    notices.choose([wait("c")], 0.0)
    notices.choose([wait("c")], 5.0)
    notices.choose([], 6.0)
    assert notices.choose([wait("c")], 7.0) == []
    assert names(notices.choose([wait("c")], 12.0)) == ["c"]
