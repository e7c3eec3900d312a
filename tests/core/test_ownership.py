"""What is ours and what is somebody else's, in any interleaving of looks, records and partitions that come and go."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from driver.core import ownership, partitioning
from driver.core.ownership import Holdings, Ownership
from driver.model.devices import Partition, Snapshot
from driver.model.prepared import PARTITION, Step
from tests.fakes import hardware

ADDRESS = "0000:1a:00.0"


def look(*parts: Partition) -> Snapshot:
    return hardware.snapshot(hardware.accelerator(ADDRESS, partitioned=True, partitions=parts))


def part(uuid: str, placement: int = 0) -> Partition:
    return hardware.partition("1g.10gb", placement, uuid)


def step(uuid: str = "", placement: int = 0, present: str = "") -> Step:
    facts = {"uuid": uuid, "present": present}
    arguments = {"pciAddress": ADDRESS, "profile": "1g.10gb", "placement": str(placement)}
    return Step(name=PARTITION, arguments=arguments, facts={name: text for name, text in facts.items() if text})


def ours(judged: Ownership, each: Partition) -> bool:
    return partitioning.is_ours(hardware.accelerator(ADDRESS), each, judged.owned)


def test_what_a_record_knows_is_ours_and_the_rest_is_not() -> None:
    at_rest = Holdings((step("MIG-a"),), "1")
    judged = ownership.judge(look(part("MIG-a"), part("MIG-b", 3)), at_rest, at_rest, frozenset())
    assert ours(judged, part("MIG-a"))
    assert not ours(judged, part("MIG-b", 3))
    assert (judged.strangers, judged.doubtful) == (frozenset({"MIG-b"}), False)


def test_another_partition_at_the_place_of_ours_is_not_ours() -> None:
    at_rest = Holdings((step("MIG-a"),), "1")
    judged = ownership.judge(look(part("MIG-z")), at_rest, at_rest, frozenset())
    assert not ours(judged, part("MIG-z"))


def test_what_is_being_made_is_ours_unless_it_was_there_before() -> None:
    at_rest = Holdings((step(present="MIG-old"),), "1")
    judged = ownership.judge(look(part("MIG-new")), at_rest, at_rest, frozenset())
    assert ours(judged, part("MIG-new"))
    judged = ownership.judge(look(part("MIG-old")), at_rest, at_rest, frozenset())
    assert not ours(judged, part("MIG-old"))


def test_what_was_removed_while_we_looked_was_ours() -> None:
    judged = ownership.judge(look(part("MIG-a")), Holdings((step("MIG-a"),), "1"), Holdings((), "4"), frozenset())
    assert ours(judged, part("MIG-a"))
    assert not judged.doubtful


def test_what_came_and_went_while_we_looked_is_doubted_and_taken_for_ours() -> None:
    judged = ownership.judge(look(part("MIG-a")), Holdings((), "1"), Holdings((), "9"), frozenset())
    assert ours(judged, part("MIG-a"))
    assert judged.doubtful
    assert judged.strangers == {"MIG-a"}


def test_what_is_doubted_twice_is_somebody_elses() -> None:
    busy = Holdings(())
    judged = ownership.judge(look(part("MIG-a"), part("MIG-b", 3)), busy, busy, frozenset({"MIG-a"}))
    assert not ours(judged, part("MIG-a"))
    assert ours(judged, part("MIG-b", 3))
    assert judged.doubtful


def test_all_steps_of_both_reads_are_told() -> None:
    first, second, third = step("MIG-a"), step("MIG-b", 1), step("MIG-c", 2)
    judged = ownership.judge(look(), Holdings((first, second), "1"), Holdings((second, third), "2"), frozenset())
    assert judged.steps == (first, second, third)


# Any interleaving: what one claim does to one partition, and when we look.

_LIFE = ("plan", "make", "learn", "undo", "forget")


@given(st.data())
def test_whatever_the_interleaving_ours_is_never_foreign_and_a_stranger_soon_is(data: st.DataObject) -> None:
    """One thread makes and removes partitions of ours; the other looks: read, snapshot, read. A stranger stays."""
    world = _World(data)
    strangers: frozenset[str] = frozenset()
    sure = False
    for number in range(4):
        before = world.read()
        world.pass_time()
        snapshot = world.look()
        world.pass_time()
        judged = ownership.judge(snapshot, before, world.read(), strangers)
        strangers = judged.strangers
        mine = [each for each in snapshot.accelerators[0].partitions if each.uuid != "MIG-stranger"]
        assert all(ours(judged, each) for each in mine), "never taken for somebody else's"
        sure = not ours(judged, part("MIG-stranger", 5))
        assert sure or number == 0, "a stranger is known at the second look at the latest"
        world.pass_time()
    assert sure


class _World:
    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.life = 0
        self.changes = 0
        self.steps: tuple[Step, ...] = ()
        self.made: Partition | None = None

    def pass_time(self) -> None:
        for _ in range(self.data.draw(st.integers(0, 7))):
            self._live()

    def _live(self) -> None:
        what, uuid = _LIFE[self.life % len(_LIFE)], f"MIG-{self.life // len(_LIFE)}"
        self.life += 1
        if what == "make":
            self.made = part(uuid)
        elif what == "undo":
            self.made = None
        else:
            self.changes += 1
            self.steps = {"plan": (step(present="MIG-stranger"),), "learn": (step(uuid),), "forget": ()}[what]

    def read(self) -> Holdings:
        """Read as `state.records` does: without a mark while the lock is held, which is from plan to learn."""
        busy = self.life % len(_LIFE) in (1, 2, 4) and self.data.draw(st.booleans())
        return Holdings(self.steps, None if busy else self.changes)

    def look(self) -> Snapshot:
        mine = (self.made,) if self.made else ()
        return replace(look(*mine, part("MIG-stranger", 5)))
