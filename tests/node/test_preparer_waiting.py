"""How long calls wait, for what, and that one call's waiting is not another's."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from driver.model.claims import ResourceClaim
from driver.model.errors import Unavailable
from driver.model.prepared import ClaimRef, Phase, Step
from driver.node.preparer import Preparer, open_preparer
from tests.fakes.bench import Bench, claim, device, prepare_one, ref, result, unprepare_one
from tests.fakes.waiting import wait_until


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def preparer(bench: Bench) -> Iterator[Preparer]:
    opened = bench.open()
    yield opened
    opened.close()


def test_a_holder_that_is_unprepared_seconds_later_is_waited_for(bench: Bench) -> None:
    """The kubelet unprepares a pod that was deleted by force after the scheduler has given its device on."""
    refs = [bench.add(claim(uid, result(device(1)))) for uid in ("u1", "u2")]

    def wait(seconds: float) -> bool:
        bench.now += seconds
        if bench.now > 3:
            assert unprepare_one(opened, refs[0]) == ""
        return False

    opened = open_preparer(bench.settings, bench.vendor, dataclasses.replace(bench.outside(), wait=wait), bench.disk)
    assert not prepare_one(opened, refs[0]).error
    assert not prepare_one(opened, refs[1]).error
    assert 3 < bench.now < 6
    opened.close()


def test_a_holder_that_stays_is_told_after_ten_seconds(bench: Bench, preparer: Preparer) -> None:
    prepare_one(preparer, bench.add(claim("u1", result(device(1)))))
    answer = prepare_one(preparer, bench.add(claim("u2", result(device(1)))))
    assert answer.error == f"device {device(1)} is already prepared for claim default/claim-u1 (u1); it is not shared"
    assert 9 < bench.now <= 10
    assert len(bench.fetched) < 15


def test_a_pause_that_the_api_server_asks_for_ends_with_the_call(bench: Bench, preparer: Preparer) -> None:
    def fetch(namespace: str, name: str) -> ResourceClaim:
        if bench.now < 5:
            raise Unavailable("HTTP 429", retry_after=60)
        return bench.fetch(namespace, name)

    preparer.close()
    bench.reach = fetch
    again = bench.open()
    assert not prepare_one(again, bench.add(claim("u1", result(device(1))))).error
    assert 39 < bench.now <= 40
    again.close()


def test_the_time_that_is_told_is_the_time_that_passed(bench: Bench) -> None:
    def fetch(_namespace: str, _name: str) -> ResourceClaim:
        bench.now += 43
        raise Unavailable("no route to host")

    bench.reach = fetch
    preparer = bench.open()
    assert prepare_one(preparer, ref("u1")).error == "gave up after 43 s: no route to host"
    preparer.close()


def test_an_unprepare_call_has_one_deadline_for_all_its_claims(bench: Bench) -> None:
    """Another instance keeps the records: the answer must come before the kubelet gives up, after 45 seconds."""
    holder, preparer = bench.open(), bench.open(dataclasses.replace(bench.settings, prepare_deadline=1.0))
    held, release = threading.Event(), threading.Event()
    prepare = bench.vendor.prepare

    def hang(*arguments: object) -> object:
        held.set()
        release.wait(20)
        return prepare(*arguments)  # type: ignore[arg-type]

    bench.vendor.prepare = hang  # type: ignore[method-assign,assignment]
    stuck = threading.Thread(target=prepare_one, args=(holder, bench.add(claim("u1", result(device(1))))))
    stuck.start()
    assert held.wait(20)
    started = time.monotonic()
    errors = preparer.unprepare([ref(f"x{number}") for number in range(30)])
    assert time.monotonic() - started < 15, "not a second for each"
    release.set()
    stuck.join(20)
    assert all("another instance" in error for error in errors.values())
    holder.close()
    preparer.close()


def test_whoever_asks_what_is_held_does_not_wait_for_hardware_that_is_slow(bench: Bench) -> None:
    """The health stream and the metrics."""
    bench.vendor.steps_per_device = 1
    preparer = bench.open()
    assert not prepare_one(preparer, bench.add(claim("u1", result(device(1))))).error
    begun, release = threading.Event(), threading.Event()
    run = bench.vendor.run

    def run_slowly(step: Step, done: Sequence[Step]) -> Step:
        begun.set()
        release.wait(20)
        return run(step, done)

    bench.vendor.run = run_slowly  # type: ignore[method-assign]
    slow = threading.Thread(target=prepare_one, args=(preparer, bench.add(claim("u2", result(device(2))))))
    slow.start()
    assert begun.wait(20)
    assert preparer.list_devices() == {device(1), device(2)}
    assert [record.phase for record in preparer.list_records()] == [Phase.PREPARED, Phase.PREPARING]
    release.set()
    slow.join(20)
    preparer.close()


def test_stuck_claims_of_one_call_do_not_delay_another_call(bench: Bench) -> None:
    release = threading.Event()
    waiting: list[str] = []

    def fetch(namespace: str, name: str) -> ResourceClaim:
        if name.startswith("claim-bad"):
            waiting.append(name)
            release.wait(20)
            raise Unavailable("connection refused")
        return bench.fetch(namespace, name)

    bench.reach = fetch
    preparer = bench.open()
    bad = [bench.add(claim(f"bad{number}", result(device(1)))) for number in range(8)]
    good = [bench.add(claim(f"good{slot}", result(device(slot)))) for slot in (2, 3)]
    stuck = threading.Thread(target=preparer.prepare, args=(bad,))
    stuck.start()
    wait_until(lambda: len(waiting) == 8, "all stuck")
    answered: list[bool] = []
    other = threading.Thread(target=lambda: answered.append(not any(a.error for a in preparer.prepare(good).values())))
    other.start()
    other.join(10)
    assert answered == [True], "while the first call still waits"
    bench.stopping = True
    release.set()
    stuck.join(20)
    preparer.close()


def test_a_call_without_claims_has_an_answer_without_claims(preparer: Preparer) -> None:
    assert preparer.prepare([]) == {}


@pytest.mark.parametrize("number", [1, 2])
def test_calls_after_the_end_are_told_so(bench: Bench, preparer: Preparer, number: int) -> None:
    bench.stopping = True
    preparer.close()
    refs: list[ClaimRef] = [bench.add(claim(f"u{slot}", result(device(slot)))) for slot in range(1, 1 + number)]
    errors = {answer.error for answer in preparer.prepare(refs).values()}
    assert errors == {"the plugin is stopping: the records are closed: the plugin is stopping"}


def test_the_end_does_not_wait_for_every_record_to_be_looked_at(bench: Bench) -> None:
    preparer = bench.open()
    for slot in range(1, 5):
        prepare_one(preparer, bench.add(claim(f"u{slot}", result(device(slot)))))
    bench.fetched.clear()
    asked: list[float] = []

    def wait(seconds: float) -> bool:
        asked.append(seconds)
        return len(asked) > 2

    preparer.close()
    outside = dataclasses.replace(bench.outside(), wait=wait)
    again = open_preparer(bench.settings, bench.vendor, outside, bench.disk)
    assert again.collect() == 0
    assert len(bench.fetched) == 2
    again.close()


def test_the_end_does_not_wait_for_ever_for_a_read_that_hangs(bench: Bench) -> None:
    reading, release = threading.Event(), threading.Event()

    def fetch(_namespace: str, _name: str) -> ResourceClaim:
        reading.set()
        release.wait(30)
        raise Unavailable("timed out")

    preparer = bench.open()
    prepare_one(preparer, bench.add(claim("u1", result(device(1)))))
    preparer.close()
    bench.reach = fetch
    again = bench.open()
    again.start_collecting()
    assert reading.wait(20)
    bench.stopping = True
    ending = threading.Thread(target=again.close)
    ending.start()
    ending.join(20)
    assert not ending.is_alive()
    release.set()
    wait_until(lambda: "collector" not in {thread.name for thread in threading.enumerate()}, "the thread's end")
