"""The steps of all claims can be read at any moment, without waiting and without changing anything."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path

import pytest

from driver.model.errors import StorageFailed
from driver.model.occurrences import Occurrence
from driver.model.prepared import Phase, Record, Step
from driver.state import record_files
from driver.state.files import Disk
from driver.state.records import Records

STEPS = tuple(Step(name="partition", arguments={"placement": str(number)}) for number in range(3))


def record(uid: str, *steps: Step) -> Record:
    return Record(uid=uid, namespace="team-a", name=uid, phase=Phase.PREPARED, boot_id="boot", steps=steps)


class Folder:
    """A folder of records with two instances of the plugin on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.happened: list[Occurrence] = []
        self.mine, self.other = (Records(str(root), Disk(), self.happened.append) for _ in range(2))

    def put(self, added: Record) -> None:
        with self.other.transaction(20) as ledger:
            ledger.put(added)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    made.put(record("u1", STEPS[0], STEPS[1]))
    made.put(record("u2", STEPS[2]))
    return made


def test_steps_of_all_records_are_read_with_a_mark_that_stays(folder: Folder) -> None:
    first = folder.mine.look()
    assert first.steps == STEPS
    assert first.mark is not None
    assert folder.mine.look() == first


def test_each_change_by_anyone_makes_another_mark(folder: Folder) -> None:
    marks = [folder.mine.look().mark]
    folder.put(record("u2", STEPS[2]))
    marks.append(folder.mine.look().mark)
    with folder.other.transaction(20) as ledger:
        ledger.remove("u1")
    marks.append(folder.mine.look().mark)
    assert len(set(marks)) == 3
    assert folder.mine.look().steps == STEPS[2:]


def test_while_records_are_held_they_are_read_as_they_are_and_without_a_mark(folder: Folder) -> None:
    with folder.other.transaction(20) as ledger:
        ledger.put(record("u3", Step(name="hold")))
        seen = folder.mine.look()
        assert seen.mark is None
        assert seen.steps == (*STEPS, Step(name="hold"))


def test_the_own_transaction_is_not_waited_for_either(folder: Folder) -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with folder.mine.transaction(20):
            held.set()
            done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(20)
    assert folder.mine.look().mark is None
    assert folder.mine.look().steps == STEPS
    done.set()
    thread.join(20)


def test_steps_of_a_later_version_are_seen_as_far_as_they_can_be_read(folder: Folder) -> None:
    path = folder.root / "claims/u2.json"
    document = json.loads(path.read_bytes())
    document["minReader"] = record_files.SCHEMA_VERSION + 1
    path.write_text(json.dumps(document))
    assert Records(str(folder.root), Disk(), folder.happened.append).look().steps == STEPS
    with folder.other.transaction(20):
        assert folder.mine.look().steps == STEPS
    document["record"]["steps"] = "of another kind"
    time.sleep(0.02)  # longer than a tick of the kernel's clock, which is how changes by hand are seen
    path.with_suffix(".new").write_text(json.dumps(document))
    path.with_suffix(".new").replace(path)
    assert folder.mine.look().steps == STEPS[:2]
    with folder.other.transaction(20):
        assert folder.mine.look().steps == STEPS[:2]


def test_what_is_no_record_hides_no_other(folder: Folder) -> None:
    (folder.root / "claims/u0.json").write_bytes(b"\0" * 9)
    (folder.root / "claims/.u9.json.tmp").write_bytes(b"{")
    with folder.other.transaction(20):
        assert folder.mine.look().steps == STEPS
    assert folder.mine.look().steps == STEPS


def test_a_folder_that_cannot_be_read_is_an_error(folder: Folder) -> None:
    folder.mine.look()
    shutil.rmtree(folder.root / "claims")
    (folder.root / "claims").symlink_to("/nowhere/at/all")
    with pytest.raises(StorageFailed):
        folder.mine.look()
