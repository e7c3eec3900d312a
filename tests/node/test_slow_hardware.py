"""While the hardware works for one claim: who goes on, who waits, and that nobody undoes what is being done."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from driver.model.prepared import Phase, Step
from driver.node.preparer import Preparer
from tests.fakes.bench import Bench, claim, device, prepare_one, result, unprepare_one
from tests.fakes.waiting import wait_until


class SlowBench(Bench):
    """Hardware that stops in the midst of a step for device 1, until `release`; two instances of the plugin."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.vendor.steps_per_device = 1
        self.begun, self.release = threading.Event(), threading.Event()
        self.vendor.run = self._slow(self.vendor.run)  # type: ignore[method-assign,assignment]
        self.vendor.undo = self._slow(self.vendor.undo)  # type: ignore[method-assign,assignment]
        self.threads: list[threading.Thread] = []
        self.answers: list[str] = []
        self.preparers = [self.open(), self.open()]

    def _slow(self, act: Callable[..., Step | None]) -> Callable[..., Step | None]:
        def wait(step: Step, *done: Sequence[Step]) -> Step | None:
            if step.arguments["device"] == device(1) and not self.release.is_set():
                self.begun.set()
                self.release.wait(30)
            return act(step, *done)

        return wait

    def start(self, act: Callable[[], str]) -> threading.Thread:
        """Do it on a thread of its own."""
        thread = threading.Thread(target=lambda: self.answers.append(act()))
        thread.start()
        self.threads.append(thread)
        return thread

    def end(self) -> list[str]:
        """Let the hardware go on; return what all have answered, in their order."""
        self.release.set()
        for thread in self.threads:
            thread.join(30)
        return self.answers


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[SlowBench]:
    made = SlowBench(tmp_path)
    yield made
    made.end()
    for preparer in made.preparers:
        preparer.close()


@pytest.fixture(params=[0, 1], ids=["same instance", "other instance"])
def other(bench: SlowBench, request: pytest.FixtureRequest) -> Preparer:
    """Who is asked while the first instance is busy."""
    number: int = request.param
    return bench.preparers[number]


def test_claims_that_need_no_change_are_prepared_and_released_meanwhile(bench: SlowBench, other: Preparer) -> None:
    slow, share = bench.add(claim("u1", result(device(1)))), bench.add(claim("u2", result(device(2), shareID="s")))
    bench.start(lambda: prepare_one(bench.preparers[0], slow).error)
    assert bench.begun.wait(30)
    answer = prepare_one(other, share)
    assert not answer.error
    assert prepare_one(other, share) == answer
    assert unprepare_one(other, share) == ""
    assert bench.answers == [], "the first one still waits for the hardware"
    assert bench.end() == [""]
    assert [record.uid for record in bench.records()] == ["u1"]


def test_a_claim_that_is_asked_for_again_is_not_rolled_back_in_the_midst(bench: SlowBench, other: Preparer) -> None:
    slow = bench.add(claim("u1", result(device(1))))
    bench.start(lambda: prepare_one(bench.preparers[0], slow).error)
    assert bench.begun.wait(30)
    bench.start(lambda: prepare_one(other, slow).error)
    bench.threads[1].join(0.3)
    assert bench.answers == []
    assert [record.phase for record in bench.records()] == [Phase.PREPARING]
    assert bench.end() == ["", ""]
    assert [record.phase for record in bench.records()] == [Phase.PREPARED]
    assert [(entry.operation) for entry in bench.changed] == ["run"], "once, and never undone"


def test_a_claim_that_is_unprepared_meanwhile_is_gone_in_the_end(bench: SlowBench, other: Preparer) -> None:
    slow = bench.add(claim("u1", result(device(1))))
    bench.start(lambda: prepare_one(bench.preparers[0], slow).error)
    assert bench.begun.wait(30)
    bench.start(lambda: unprepare_one(other, slow))
    bench.threads[1].join(0.3)
    assert bench.answers == []
    assert bench.end() == ["", ""]
    assert bench.files() == {}


def test_a_device_that_is_being_prepared_is_nobody_elses(bench: SlowBench, other: Preparer) -> None:
    slow, share = bench.add(claim("u1", result(device(1)))), bench.add(claim("u2", result(device(1), shareID="s")))
    bench.start(lambda: prepare_one(bench.preparers[0], slow).error)
    assert bench.begun.wait(30)
    assert "already prepared for claim default/claim-u1" in prepare_one(other, share).error
    assert bench.end() == [""]


def test_a_device_that_is_being_released_is_nobody_elses_yet(bench: SlowBench, other: Preparer) -> None:
    bench.release.set()
    slow, share = bench.add(claim("u1", result(device(1)))), bench.add(claim("u2", result(device(1), shareID="s")))
    assert not prepare_one(bench.preparers[0], slow).error
    bench.release.clear()
    bench.start(lambda: unprepare_one(bench.preparers[0], slow))
    assert bench.begun.wait(30)
    assert "already prepared for claim default/claim-u1" in prepare_one(other, share).error
    assert bench.end() == [""]
    assert not prepare_one(other, share).error


def test_an_instance_that_starts_meanwhile_does_not_take_it_for_a_crash(bench: SlowBench) -> None:
    slow = bench.add(claim("u1", result(device(1))))
    bench.start(lambda: prepare_one(bench.preparers[0], slow).error)
    assert bench.begun.wait(30)
    bench.start(lambda: str(bench.preparers[1].recover().rolled_back))
    bench.threads[1].join(0.3)
    assert bench.answers == []
    assert sorted(bench.end()) == ["", "0"]
    assert [record.phase for record in bench.records()] == [Phase.PREPARED]


def test_what_is_in_the_midst_when_the_plugin_ends_is_rolled_back_by_the_next(bench: SlowBench) -> None:
    """The thread stays until the process ends, and so does its hold on the hardware."""
    slow = bench.add(claim("u1", result(device(1))))
    bench.start(lambda: prepare_one(bench.preparers[0], slow).error)
    assert bench.begun.wait(30)
    bench.preparers[0]._records._lock.close()  # the kernel's part of a process's end
    assert [record.phase for record in bench.records()] == [Phase.PREPARING]
    (error,) = bench.end()
    assert "the plugin is stopping" in error
    assert bench.preparers[1].recover().rolled_back == 1
    assert bench.files() == {}


def test_changes_of_hardware_wait_for_each_other_in_the_order_in_which_they_came(bench: SlowBench) -> None:
    order: list[str] = []
    run = bench.vendor.run

    def note(step: Step, done: Sequence[Step]) -> Step:
        order.append(step.arguments["device"])
        return run(step, done)

    bench.vendor.run = note  # type: ignore[method-assign]
    hardware = bench.preparers[0]._records._hardware
    for slot in range(1, 5):
        ref = bench.add(claim(f"u{slot}", result(device(slot))))
        bench.start(lambda ref=ref: prepare_one(bench.preparers[0], ref).error)  # type: ignore[misc]
        wait_until(lambda count=slot - 1: bench.begun.is_set() and hardware.waiting == count, "it waits")  # type: ignore[misc]
    assert bench.end() == [""] * 4
    assert order == [device(slot) for slot in range(1, 5)]


def test_who_waits_for_the_hardware_for_too_long_is_told_so(bench: SlowBench) -> None:
    slow, late = (bench.add(claim(f"u{slot}", result(device(slot)))) for slot in (1, 2))
    bench.start(lambda: prepare_one(bench.preparers[0], slow).error)
    assert bench.begun.wait(30)
    impatient = bench.open(dataclasses.replace(bench.settings, prepare_deadline=0.3))
    error = prepare_one(impatient, late).error
    assert "another instance of the plugin has kept the hardware busy" in error
    assert "u2" not in [record.uid for record in bench.records()]
    assert bench.end() == [""]
    assert not prepare_one(impatient, late).error
    impatient.close()
