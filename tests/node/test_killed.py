"""SIGKILL before every single change of disk and hardware, then a restart: as if it had never begun, or all of it.

The changes are counted at collection, so that each one is a test of its own: `unprepare-steps-07-unlink-…`.
"""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from driver.model.prepared import Phase, PrepareAnswer
from tests.fakes.bench import Bench, prepare_one, ref, unprepare_one
from tests.fakes.killing import SCENARIOS, UID, Job, equip, run, server


def cases() -> Iterator[tuple[str, int, bool, str]]:
    """List scenario, change to be killed at, whether in the middle of it, and the change's name."""
    for scenario in SCENARIOS:
        with tempfile.TemporaryDirectory() as root:
            changes = run(Job(root, scenario, 0))
        assert changes
        for number, change in enumerate(changes, 1):
            yield scenario, number, False, change
            if change.startswith("write"):
                yield scenario, number, True, f"torn-{change}"


CASES = list(cases())


@pytest.fixture(scope="module")
def kill() -> Iterator[Callable[[Job], int]]:
    with server() as do:
        yield do


def files(bench: Bench) -> dict[str, bytes]:
    """Return what the claim has left, with the bench's own folder taken out of the documents."""
    return {name: text.replace(str(bench.root).encode(), b"ROOT") for name, text in bench.files().items()}


def complete(tmp_path: Path, like: Bench) -> tuple[PrepareAnswer, dict[str, bytes]]:
    """Return the answer and the files of a claim that nothing has ever interrupted, on the same machine."""
    other = tmp_path / "untouched"
    other.mkdir()
    if (like.root / "rebooted").exists():
        (other / "rebooted").touch()
    bench = equip(other, like.vendor.steps_per_device)
    preparer = bench.open()
    answer = prepare_one(preparer, ref(UID))
    preparer.close()
    return answer, {name: text.replace(str(bench.root).encode(), b"ROOT") for name, text in bench.files().items()}


def without_checksums(found: dict[str, bytes]) -> dict[str, bytes]:
    """Records carry a checksum over paths that differ between two benches: compare what they say."""
    return {name: text.partition(b'"record":')[2] if "claims" in name else text for name, text in found.items()}


@pytest.mark.parametrize(
    ("scenario", "number", "torn"),
    [case[:3] for case in CASES],
    ids=[f"{scenario}-{number:02d}-{name}" for scenario, number, _, name in CASES],
)
def test_killed_and_started_again(
    tmp_path: Path, kill: Callable[[Job], int], scenario: str, number: int, *, torn: bool
) -> None:
    root = tmp_path / "node"
    root.mkdir()
    assert kill(Job(str(root), scenario, number, torn)) == signal.SIGKILL
    bench = equip(root, SCENARIOS[scenario][0])
    answer, whole = complete(tmp_path, bench)
    preparer = bench.open()
    preparer.recover()

    left = bench.records()
    assert all(record.phase is Phase.PREPARED for record in left)
    if not left:
        assert files(bench) == {}, "as if it had never happened"
    elif not waits_for_prepare(bench):
        assert without_checksums(files(bench)) == without_checksums(whole), "as if it had always been complete"

    assert prepare_one(preparer, ref(UID)) == answer
    assert without_checksums(files(bench)) == without_checksums(whole)
    assert unprepare_one(preparer, ref(UID)) == ""
    assert files(bench) == {}
    assert not list((bench.root / "state").glob("quarantine/*"))
    preparer.close()


def waits_for_prepare(bench: Bench) -> bool:
    """Say whether a boot has left steps to be done, which recovery leaves to the next prepare."""
    (record,) = bench.records()
    return (
        bool(record.steps)
        and record.boot_id != bench.root.joinpath("proc/sys/kernel/random/boot_id").read_text().strip()
    )


def test_the_kills_cover_every_kind_of_change() -> None:
    """A plain prepare makes few changes, and each of them is killed at."""
    kinds = {name.removeprefix("torn-").split("-")[0] for _, _, _, name in CASES}
    assert kinds == {"write", "rename", "sync", "unlink", "mkdir", "rmdir"}
    assert {scenario for scenario, *_ in CASES} == set(SCENARIOS)
    hardware = [name for scenario, _, _, name in CASES if scenario == "prepare-steps" and "-hardware-" in name]
    assert len(hardware) == 8, "four steps, each killed before and in the middle"


def test_a_job_that_is_not_killed_ends_by_itself(tmp_path: Path, kill: Callable[[Job], int]) -> None:
    assert kill(Job(str(tmp_path), "prepare-plain", 0)) == 0
    assert len(equip(tmp_path, 0).records()) == 1
