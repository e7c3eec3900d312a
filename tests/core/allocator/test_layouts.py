"""What a node has, what is left of it, and the best offer of many: the parts that `best-fit` is made of."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.core.allocator import Allocated, NodeView, Snapshot, allocate, allocate_best
from driver.core.allocator.best import Found
from driver.core.allocator.boards import Board
from driver.core.allocator.layouts import find_layout
from driver.core.allocator.profiles import make_profiles
from driver.core.allocator.standings import Place, Standing, find_standing
from driver.core.allocator.tallies import Cost
from driver.model.claims import ClaimStatus
from driver.model.policies import Policy, Preference
from driver.model.published import PublishedDevice
from tests.fakes.clusters import ask, make_claim
from tests.fakes.neighbourhoods import CLASSES, GPUS, NODE, make_gpu, make_partitions, publish

PARTS = make_profiles((1, 1, 1, 1), (((0, 1),), ((1, 1),), ((0, 1), (1, 1)), ((0, 1), (1, 1), (2, 1), (3, 1))))


def place_of(*devices: PublishedDevice, node: str = NODE.name, broken: tuple[str, ...] = ()) -> Place:
    snapshot = Snapshot(publish(GPUS, devices, node=node, broken=broken), CLASSES)
    return Place(snapshot.pools.gather(NodeView(node)))


def test_a_larger_partition_is_worth_more_than_a_smaller_one() -> None:
    assert PARTS.weights == (250, 250, 500, 1000)
    assert PARTS.value((1, 1, 1, 1)) == 2000
    assert PARTS.value((0, 1, 1, 1)) == 250
    assert PARTS.value((0, 0, 1, 1)) == 0


def test_a_partition_is_had_only_where_its_counters_are_left() -> None:
    assert PARTS.take(2, (1, 1, 0, 1)) == (0, 0, 0, 1)
    assert PARTS.take(2, (1, 0, 1, 1)) is None


def test_equal_models_share_what_is_known_of_them() -> None:
    assert make_profiles((2,), (((0, 1),),)) is make_profiles((2,), (((0, 1),),))


def test_nodes_that_differ_in_names_only_have_one_layout() -> None:
    one = place_of(*(make_gpu(f"gpu-{index}", domain=f"a{index // 2}", numa=0) for index in range(4)), node="node-1")
    other = place_of(*(make_gpu(f"x-{index}", domain=f"b{index // 2}", numa=1) for index in range(4)), node="node-2")
    assert one.layout is other.layout
    assert one.layout is not place_of(make_gpu("gpu-0")).layout


def test_a_gpu_and_its_partitions_are_one_unit() -> None:
    devices = [*make_partitions(make_gpu("gpu0")), make_gpu("gpu1"), *make_partitions(make_gpu("gpu2"))]
    layout = place_of(*devices, broken=("gpu0", "gpu2")).layout
    assert [len(unit.members) for unit in layout.units] == [7, 1, 7]
    assert layout.units[0].profiles is layout.units[2].profiles
    assert layout.units[1].profiles is None
    assert layout.kinds[0] == layout.kinds[8]
    assert len(set(layout.kinds[:7])) == 7


def standing_with(*taken: str) -> tuple[Place, Standing]:
    devices = [*make_partitions(make_gpu("gpu0")), make_gpu("gpu1")]
    snapshot = Snapshot(publish(GPUS, devices, broken=("gpu0",)), CLASSES)
    for name in taken:
        kept = publish(GPUS, [each for each in devices if each.name == name], broken=("gpu0",))
        outcome = allocate(Snapshot(kept, CLASSES), NODE, [make_claim(name, ask("r"))])
        assert isinstance(outcome, Allocated)
        status = ClaimStatus(allocation=outcome.allocations[0])
        snapshot = snapshot.with_claims(msgspec.structs.replace(make_claim(name, ask("r")), status=status))
    place = Place(snapshot.pools.gather(NODE))
    return place, find_standing(place, snapshot.usage)


def test_what_is_taken_leaves_a_broken_unit() -> None:
    _, standing = standing_with("gpu0-1g-0")
    assert standing.fresh == [False, True]
    assert standing.taken == [(0,), ()]
    assert standing.free[0] == (0, *[10**9] * 3)
    assert standing.left < standing_with()[1].left


@pytest.mark.parametrize(("taken", "whole"), [((), 2), (("gpu1",), 1), (("gpu0-1g-0",), 1), (("gpu0-1g-0", "gpu1"), 0)])
def test_whole_units_are_counted(taken: tuple[str, ...], whole: int) -> None:
    assert standing_with(*taken)[1].left[0] == whole


def test_places_are_told_apart_by_what_is_taken_not_by_whom() -> None:
    devices = [make_gpu("gpu-0"), make_gpu("gpu-1")]
    snapshot = Snapshot(publish(GPUS, devices), CLASSES)
    place = Place(snapshot.pools.gather(NODE))
    keys = []
    for name in ("one", "other"):
        claim = make_claim(name, ask("r"))
        outcome = allocate_best(snapshot, NODE, [claim], [Policy(numa=Preference.IGNORE)])
        assert isinstance(outcome, Allocated)
        held = msgspec.structs.replace(claim, status=ClaimStatus(allocation=outcome.allocations[0]))
        keys.append(place.find_key(snapshot.usage.adding(held)))
    assert keys[0] == keys[1] != place.find_key(snapshot.usage)


def test_a_layout_of_nothing_is_empty() -> None:
    assert find_layout(()).units == ()


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(-1, 5)), max_size=40), st.sets(st.sampled_from("abcdef"))
)
def test_a_board_gives_the_best_offer_that_is_allowed(changes: list[tuple[str, int]], avoided: set[str]) -> None:
    board, known = Board(()), {}
    for node, rank in changes:
        found = None if rank < 0 else Found((), Cost(), ())
        board.put(node, found, (rank,), is_invalid=False)
        known[node] = rank
        offers = sorted((rank, node) for node, rank in known.items() if rank >= 0)
        for nodes in (None, {"a", "b", "c"}, {"f"}):
            best = board.find_best(nodes, avoided)
            allowed = [name for _, name in offers if (nodes is None or name in nodes) and name not in avoided]
            assert (best and best.node) == (allowed[0] if allowed else None)
        top = board.find_best(None, ())
        assert (top and top.node) == (offers[0][1] if offers else None)
