"""A small version of the simulated day: the same seed gives the same figures, and best-fit places more."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from driver.core.allocator import Snapshot
from hack.fragmentation import plot
from hack.fragmentation.__main__ import make_table
from hack.fragmentation.days import DAY, MIX, WARM_UP, make_day
from hack.fragmentation.machines import GPUS, WHOLE, load_model, make_classes, make_nodes
from hack.fragmentation.simulation import ALLOCATORS, Day, play

NODES = 4
LOAD = 0.9
KUBE_SCHEDULER = "first-fit, emptiest node"


@pytest.fixture(scope="module")
def days() -> dict[str, list[Day]]:
    return {name: [play(name, 1, NODES, LOAD)] for name in ALLOCATORS}


def test_best_fit_refuses_less_than_first_fit_does(days: dict[str, list[Day]]) -> None:
    (best,), (scheduler,) = days["best-fit"], days[KUBE_SCHEDULER]
    assert best.asked == scheduler.asked
    assert 1 - best.share < 0.8 * (1 - scheduler.share)
    assert 1 - best.weighted_share < 0.8 * (1 - scheduler.weighted_share)
    assert best.share_of("7g.40gb", WHOLE) > scheduler.share_of("7g.40gb", WHOLE)


def test_the_same_seed_gives_the_same_figures(days: dict[str, list[Day]]) -> None:
    assert play("best-fit", 1, NODES, LOAD) == days["best-fit"][0]
    assert play(KUBE_SCHEDULER, 1, NODES, LOAD) == days[KUBE_SCHEDULER][0]


def test_no_more_is_given_than_there_is(days: dict[str, list[Day]]) -> None:
    for (day,) in days.values():
        assert day.placed <= day.asked
        assert max(day.used) <= 1
        assert sum(day.given) <= sum(day.wanted)


def test_a_day_is_what_it_says() -> None:
    model = load_model()
    arrivals = list(make_day(7, model, 16, LOAD))
    assert arrivals == list(make_day(7, model, 16, LOAD))
    assert [each.minute for each in arrivals] == sorted(each.minute for each in arrivals)
    assert arrivals[-1].minute < WARM_UP + DAY
    for kind, share in MIX.items():
        assert sum(each.kind == kind for each in arrivals) / len(arrivals) == pytest.approx(share, abs=0.03)
    noon = sum(DAY / 4 <= each.minute < 3 * DAY / 4 for each in arrivals)
    night = sum(3 * DAY / 4 <= each.minute < 5 * DAY / 4 for each in arrivals)
    assert noon > 1.3 * night


def test_every_placement_of_every_profile_is_published() -> None:
    model = load_model()
    nodes, slices = make_nodes(model, 1)
    (pool,) = Snapshot(slices, make_classes()).pools.gather(nodes[0])
    assert pool.fault is None
    assert len(pool.devices) == GPUS * (1 + sum(len(each.places) for each in model.profiles))
    assert model.weight("1g.5gb") == 1 / 8
    assert model.weight(WHOLE) == 1


def test_the_table_and_the_plot_show_every_allocator(days: dict[str, list[Day]]) -> None:
    table, picture = make_table(days), plot.draw(days, "A day")
    assert picture == plot.draw(days, "A day")
    ET.fromstring(picture)
    for name in ALLOCATORS:
        assert name in table
        assert f">{name}<" in picture
    assert len(re.findall("<polyline", picture)) == len(ALLOCATORS)
